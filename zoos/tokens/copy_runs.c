/* Copies of runs from rows to rows: a run is a grid of equally long pieces, see `copy_plan.py`. */

#include <stdint.h>
#include <string.h>

enum { PAGE = 4096, LINE = 64 };

/* Positions and steps in bytes; a grid has two dimensions. */
typedef struct {
    int64_t piece, counts[2], from, from_steps[2], to, to_steps[2];
} run_t;

static void copy_pieces(const run_t *run, const char *from, char *to) {
    const int64_t from_step = run->from_steps[1], to_step = run->to_steps[1];
    if (run->piece == 4) /* a single value, such as a bias: no call */
        for (int64_t i = 0; i < run->counts[1]; i++)
            memcpy(to + i * to_step, from + i * from_step, 4);
    else
        for (int64_t i = 0; i < run->counts[1]; i++)
            memcpy(to + i * to_step, from + i * from_step, run->piece);
}

/* Copy the runs of `row_count` rows. Row numbers may be NULL: the rows then follow one another. */
void weightzoo_copy_runs(const run_t *runs, int64_t run_count, int64_t row_count,
                         const char *source, int64_t source_step, const int64_t *source_rows,
                         char *target, int64_t target_step, const int64_t *target_rows) {
    for (int64_t i = 0; i < row_count; i++) {
        const char *from = source + source_step * (source_rows ? source_rows[i] : i);
        char *to = target + target_step * (target_rows ? target_rows[i] : i);
        for (const run_t *run = runs; run < runs + run_count; run++)
            for (int64_t j = 0; j < run->counts[0]; j++)
                copy_pieces(run, from + run->from + j * run->from_steps[0],
                            to + run->to + j * run->to_steps[0]);
    }
}

/* Ask for the first lines of every page of a row: the processor's own read-ahead ends at each page. */
static void announce(const char *row, int64_t bytes) {
    for (const char *at = row; at < row + bytes; at += PAGE - (uintptr_t)at % PAGE) {
        __builtin_prefetch(at);
        __builtin_prefetch(at + LINE);
    }
}

/* Copy rows by number, one behind the other. Returns the index of a number out of range, or -1. */
int64_t weightzoo_gather_rows(const char *source, int64_t source_count, int64_t source_step,
                              const int64_t *rows, int64_t row_count, int64_t bytes, char *target) {
    for (int64_t i = 0; i < row_count; i++)
        if (rows[i] < 0 || rows[i] >= source_count)
            return i;
    for (int64_t i = 0; i < row_count; i++) {
        if (i + 1 < row_count)
            announce(source + source_step * rows[i + 1], bytes);
        memcpy(target + bytes * i, source + source_step * rows[i], bytes);
    }
    return -1;
}
