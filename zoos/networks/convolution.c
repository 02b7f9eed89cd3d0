/* Convolution with max pooling of many small models, for one core; called by convolution_c.py.
 *
 * Images are [models][height][channels][width][batch], float32, so that a tap of the kernel is a
 * run of width * batch values and nothing is gathered. A block of output channels times a few
 * vectors of columns stays in registers while all taps are added up. Rows outside the image are
 * skipped; columns outside it, and strides, are laid out in a scratch copy of the image.
 * Names: M models, C and O channels in and out, k kernel, N columns (width * batch).
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#if defined(__AVX2__)
#include <immintrin.h>
#endif

#if defined(__AVX512F__)
enum { LANES = 16, BLOCK = 8, TAPS = 3 };
#elif defined(__AVX2__)
enum { LANES = 8, BLOCK = 4, TAPS = 3 };
#else
enum { LANES = 4, BLOCK = 4, TAPS = 2 };
#endif
#if defined(__AVX2__) && !defined(__AVX512F__)
#define LANES_ARE_AVX2 1
#else
#define LANES_ARE_AVX2 0
#endif
enum { CACHED = 128 * 1024 }; /* bytes of the second cache that a tile may fill */
typedef float vector __attribute__((vector_size(LANES * 4), aligned(4)));
/* may_alias: gradients, floats, are moved as integers */
typedef int32_t integers __attribute__((vector_size(LANES * 4), aligned(4), may_alias));
typedef uint8_t bytes __attribute__((vector_size(LANES), aligned(1)));
#define ALWAYS static inline __attribute__((always_inline))

typedef struct {
    int64_t models, shared, height, channels, width, batch, out, kernel, stride, padding, pool;
} shape;

#if LANES_ARE_AVX2
/* All bits of the first `count` lanes. */
ALWAYS __m256i lane_mask(int64_t count)
{
    return _mm256_cmpgt_epi32(_mm256_set1_epi32((int32_t)count),
                              _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
#endif

/* The first `count` values, then zeros; reads no further. */
ALWAYS vector load_part(const float *x, int64_t count)
{
#if defined(__AVX512F__)
    return (vector)_mm512_maskz_loadu_ps((__mmask16)((1u << count) - 1), x);
#elif LANES_ARE_AVX2
    return (vector)_mm256_maskload_ps(x, lane_mask(count));
#else
    vector part = {0};
    for (int64_t i = 0; i < count; i++)
        part[i] = x[i];
    return part;
#endif
}

ALWAYS void store_part(float *x, vector value, int64_t count)
{
#if defined(__AVX512F__)
    _mm512_mask_storeu_ps(x, (__mmask16)((1u << count) - 1), (__m512)value);
#elif LANES_ARE_AVX2
    _mm256_maskstore_ps(x, lane_mask(count), (__m256)value);
#else
    for (int64_t i = 0; i < count; i++)
        x[i] = value[i];
#endif
}

/* sum + a * b, rounded once: left to itself the compiler rounds twice in some loops only. */
ALWAYS vector add_product(vector sum, vector a, vector b)
{
#if defined(__AVX512F__)
    return (vector)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)sum);
#elif defined(__AVX2__) && defined(__FMA__)
    return (vector)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)sum);
#else
    return sum + a * b;
#endif
}

ALWAYS vector all_lanes(float value)
{
    return value - (vector){0};
}

static int64_t output_side(const shape *s, int64_t side)
{
    return (side + 2 * s->padding - s->kernel) / s->stride + 1;
}

/* out[o][n] = sum over taps of weights[t][o] * taps[t][n], for `wide` vectors of columns. */
ALWAYS void columns(const int block, const int wide, int64_t count, const float *const *taps,
                    const float *const *weights, int64_t n, float *out, int64_t step)
{
    vector sums[BLOCK][3];
    for (int o = 0; o < block; o++)
        for (int v = 0; v < wide; v++)
            sums[o][v] = (vector){0};
    for (int64_t t = 0; t < count; t++) {
        vector values[3];
        for (int v = 0; v < wide; v++)
            values[v] = *(const vector *)(taps[t] + n + v * LANES);
        for (int o = 0; o < block; o++)
            for (int v = 0; v < wide; v++)
                sums[o][v] = add_product(sums[o][v], values[v], all_lanes(weights[t][o]));
    }
    for (int o = 0; o < block; o++)
        for (int v = 0; v < wide; v++)
            *(vector *)(out + o * step + n + v * LANES) = sums[o][v];
}

/* Columns n to `total` of a row. */
ALWAYS void block_row(const int block, int64_t count, const float *const *taps,
                      const float *const *weights, int64_t n, int64_t total, float *out,
                      int64_t step)
{
    for (; n + 3 * LANES <= total; n += 3 * LANES)
        columns(block, 3, count, taps, weights, n, out, step);
    if (n + 2 * LANES <= total) {
        columns(block, 2, count, taps, weights, n, out, step);
        n += 2 * LANES;
    }
    if (n + LANES <= total) {
        columns(block, 1, count, taps, weights, n, out, step);
        n += LANES;
    }
    if (n == total)
        return;
    vector sums[BLOCK];
    for (int o = 0; o < block; o++)
        sums[o] = (vector){0};
    for (int64_t t = 0; t < count; t++) {
        vector value = load_part(taps[t] + n, total - n);
        for (int o = 0; o < block; o++)
            sums[o] = add_product(sums[o], value, all_lanes(weights[t][o]));
    }
    for (int o = 0; o < block; o++)
        store_part(out + o * step + n, sums[o], total - n);
}

static void row(int64_t block, int64_t count, const float *const *taps,
                const float *const *weights, int64_t n, int64_t total, float *out, int64_t step)
{
    switch (block) { /* so that the compiler unrolls each */
    case 1: block_row(1, count, taps, weights, n, total, out, step); break;
    case 2: block_row(2, count, taps, weights, n, total, out, step); break;
    case 3: block_row(3, count, taps, weights, n, total, out, step); break;
#if defined(__AVX512F__)
    case 4: block_row(4, count, taps, weights, n, total, out, step); break;
    case 5: block_row(5, count, taps, weights, n, total, out, step); break;
    case 6: block_row(6, count, taps, weights, n, total, out, step); break;
    case 7: block_row(7, count, taps, weights, n, total, out, step); break;
#endif
    default: block_row(BLOCK, count, taps, weights, n, total, out, step);
    }
}

static int64_t smaller(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* Columns of equal tiles of `total`, of which `runs` runs stay in the second cache while all blocks
 * of channels read them. */
static int64_t tile_width(int64_t runs, int64_t total)
{
    int64_t step = 3 * LANES, most = CACHED / (int64_t)sizeof(float) / (runs + 1);
    int64_t tiles = (total + most - 1) / (most < 1 ? 1 : most);
    int64_t width = (total + tiles - 1) / (tiles < 1 ? 1 : tiles);
    return (width + step - 1) / step * step;
}

/* Memory of the sums of a row. Tap t is the `index[t]`-th of the kernels, which are packed as
 * [blocks][taps_all][BLOCK]. */
typedef struct {
    const float **taps, **weights, *packed;
    int64_t *index, count, taps_all;
} sums_of;

/* out[o][n] of all channels for `total` columns; channels are `step` values apart. */
static void all_blocks(const sums_of *m, int64_t channels, int64_t total, float *out, int64_t step)
{
    int64_t tile = tile_width(m->count, total);
    for (int64_t n = 0; n < total; n += tile)
        for (int64_t start = 0; start < channels; start += BLOCK) {
            for (int64_t t = 0; t < m->count; t++)
                m->weights[t] = m->packed + start * m->taps_all + m->index[t] * BLOCK;
            row(smaller(channels - start, BLOCK), m->count, m->taps, m->weights, n,
                smaller(n + tile, total), out + start * step, step);
        }
}

/* Scratch: a padded copy of one image with the columns of a stride side by side:
 * [height][channels][stride][ceil((width + 2 padding) / stride)][batch]. */
static int64_t lane_width(const shape *s)
{
    return (s->width + 2 * s->padding + s->stride - 1) / s->stride;
}

/* Whether runs of one column's images are long enough to be read where they are. */
static int reads_in_place(const shape *s)
{
    return s->stride > 1 && s->padding == 0 && s->batch >= 8 * LANES;
}

static const float *lay_out(const shape *s, const float *x, float *scratch)
{
    if ((s->stride == 1 && s->padding == 0) || reads_in_place(s))
        return x;
    int64_t wide = lane_width(s), rows = s->height * s->channels;
    memset(scratch, 0, rows * s->stride * wide * s->batch * sizeof(float));
    for (int64_t r = 0; r < rows; r++)
        for (int64_t w = 0; w < s->width; w++) {
            int64_t column = w + s->padding;
            memcpy(scratch + ((r * s->stride + column % s->stride) * wide + column / s->stride) * s->batch,
                   x + (r * s->width + w) * s->batch, s->batch * sizeof(float));
        }
    return scratch;
}

/* Pointers to the taps of output row h: their number; `index` is their place in the kernel. */
static int64_t forward_taps(const shape *s, const float *x, int64_t h, const float **taps,
                            int64_t *index)
{
    int64_t lanes = reads_in_place(s) ? 1 : s->stride, count = 0;
    int64_t wide = reads_in_place(s) ? s->width : lane_width(s);
    for (int64_t ky = 0; ky < s->kernel; ky++) {
        int64_t r = h * s->stride - s->padding + ky;
        if (r < 0 || r >= s->height)
            continue;
        for (int64_t c = 0; c < s->channels; c++)
            for (int64_t kx = 0; kx < s->kernel; kx++) {
                int64_t lane = (r * s->channels + c) * lanes + kx % lanes;
                taps[count] = x + (lane * wide + kx / lanes) * s->batch;
                index[count++] = (c * s->kernel + ky) * s->kernel + kx;
            }
    }
    return count;
}

/* Kernels with the channels of a block side by side: [blocks][taps][BLOCK]; of `taps_all` each. */
static float *packed_kernels(const shape *s, const float *weight, int64_t taps_all)
{
    int64_t blocks = (s->out + BLOCK - 1) / BLOCK;
    float *packed = malloc(blocks * taps_all * BLOCK * sizeof(float));
    for (int64_t o = 0; o < s->out; o++)
        for (int64_t t = 0; t < taps_all; t++)
            packed[(o / BLOCK * taps_all + t) * BLOCK + o % BLOCK] = weight[o * taps_all + t];
    return packed;
}

static sums_of new_sums(int64_t taps_all)
{
    const float **taps = malloc(2 * taps_all * sizeof(float *));
    return (sums_of){taps, taps + taps_all, NULL, malloc(taps_all * sizeof(int64_t)), 0, taps_all};
}

static void free_sums(sums_of *m)
{
    free(m->index);
    free(m->taps);
}

/* Row h of a convolution, all channels. */
static void convolve_row(const shape *s, sums_of *m, const float *x, int64_t h, float *out)
{
    int64_t width = output_side(s, s->width), total = width * s->batch;
    m->count = forward_taps(s, x, h, m->taps, m->index);
    if (!reads_in_place(s)) {
        all_blocks(m, s->out, total, out, total);
        return;
    }
    for (int64_t w = 0; w < width; w++) {
        all_blocks(m, s->out, s->batch, out + w * s->batch, total);
        for (int64_t t = 0; t < m->count; t++)
            m->taps[t] += s->stride * s->batch;
    }
}

ALWAYS float sum_of(vector v)
{
    float sum = 0;
    for (int i = 0; i < LANES; i++)
        sum += v[i];
    return sum;
}

/* Runs of a gradient and of the taps under them: `count` runs of `total` columns. Its channels are
 * `channel_step` values apart. */
typedef struct {
    const float *const *taps;
    const float *grad;
    int64_t count, total, tap_step, grad_step, channel_step;
} runs_of;

/* sums[o][t] += products of the gradient's channel o and tap t. */
ALWAYS void dots(const int block, const int wide, const runs_of *r, int64_t o0, int64_t t0,
                 vector *sums, int64_t step)
{
    vector local[BLOCK][TAPS];
    int64_t total = r->total, step_of = r->channel_step;
    for (int o = 0; o < block; o++)
        for (int t = 0; t < wide; t++)
            local[o][t] = sums[(o0 + o) * step + t0 + t];
    for (int64_t i = 0; i < r->count; i++) {
        const float *grad = r->grad + i * r->grad_step + o0 * step_of, *taps[TAPS];
        for (int t = 0; t < wide; t++)
            taps[t] = r->taps[t0 + t] + i * r->tap_step;
        int64_t n = 0;
        for (; n + LANES <= total; n += LANES) {
            vector values[TAPS];
            for (int t = 0; t < wide; t++)
                values[t] = *(const vector *)(taps[t] + n);
            for (int o = 0; o < block; o++) {
                vector g = *(const vector *)(grad + o * step_of + n);
                for (int t = 0; t < wide; t++)
                    local[o][t] = add_product(local[o][t], g, values[t]);
            }
        }
        if (n == total)
            continue;
        vector values[TAPS];
        for (int t = 0; t < wide; t++)
            values[t] = load_part(taps[t] + n, total - n);
        for (int o = 0; o < block; o++) {
            vector g = load_part(grad + o * step_of + n, total - n);
            for (int t = 0; t < wide; t++)
                local[o][t] = add_product(local[o][t], g, values[t]);
        }
    }
    for (int o = 0; o < block; o++)
        for (int t = 0; t < wide; t++)
            sums[(o0 + o) * step + t0 + t] = local[o][t];
}

ALWAYS void dots_of(const int block, const runs_of *r, int64_t o, int64_t count, vector *sums,
                    int64_t step)
{
    int64_t t = 0;
    for (; t + TAPS <= count; t += TAPS)
        dots(block, TAPS, r, o, t, sums, step);
    if (TAPS == 3 && t + 2 == count)
        dots(block, 2, r, o, t, sums, step);
    else if (t < count)
        dots(block, 1, r, o, t, sums, step);
}

static void all_dots(const runs_of *r, int64_t out, int64_t count, vector *sums, int64_t step)
{
    for (int64_t o = 0; o < out; o += BLOCK)
        switch (out - o) { /* so that the compiler unrolls each */
        case 1: dots_of(1, r, o, count, sums, step); break;
        case 2: dots_of(2, r, o, count, sums, step); break;
        case 3: dots_of(3, r, o, count, sums, step); break;
#if defined(__AVX512F__)
        case 4: dots_of(4, r, o, count, sums, step); break;
        case 5: dots_of(5, r, o, count, sums, step); break;
        case 6: dots_of(6, r, o, count, sums, step); break;
        case 7: dots_of(7, r, o, count, sums, step); break;
#endif
        default: dots_of(BLOCK, r, o, count, sums, step);
        }
}

static void weight_gradient(const shape *s, const float *x, const float *grad, float *out)
{
    int64_t rows = output_side(s, s->height), total = output_side(s, s->width) * s->batch;
    int64_t taps_all = s->channels * s->kernel * s->kernel;
    const float **taps = malloc(taps_all * sizeof(float *));
    int64_t *index = malloc(taps_all * sizeof(int64_t));
    vector *sums = aligned_alloc(64, (s->out * taps_all * sizeof(vector) + 63) / 64 * 64);
    vector *part = aligned_alloc(64, (s->out * taps_all * sizeof(vector) + 63) / 64 * 64);
    memset(sums, 0, s->out * taps_all * sizeof(vector));
    int in_place = reads_in_place(s);
    /* rows whose sums stay in registers */
    int64_t group = !in_place && total < 768 ? 768 / total : 1;
    for (int64_t h = 0; h < rows;) {
        int64_t count = forward_taps(s, x, h, taps, index), last = h + 1;
        int full = count == taps_all; /* else a row at the edge, whose taps are fewer */
        while (full && last < rows && last < h + group &&
               (last * s->stride - s->padding + s->kernel) <= s->height)
            last++;
        int64_t row_step = s->stride * s->channels * s->stride * lane_width(s) * s->batch;
        runs_of r = {taps, grad + h * s->out * total, last - h, total, row_step, s->out * total, total};
        if (in_place) /* the columns of one row are the runs */
            r = (runs_of){taps, r.grad, total / s->batch, s->batch, s->stride * s->batch, s->batch,
                          total};
        if (!full)
            memset(part, 0, s->out * taps_all * sizeof(vector));
        all_dots(&r, s->out, count, full ? sums : part, taps_all);
        if (!full) /* taps of a full row come in the order row, channel, column */
            for (int64_t t = 0; t < count; t++) {
                int64_t kx = index[t] % s->kernel, ky = index[t] / s->kernel % s->kernel;
                int64_t c = index[t] / s->kernel / s->kernel;
                for (int64_t o = 0; o < s->out; o++)
                    sums[o * taps_all + (ky * s->channels + c) * s->kernel + kx] +=
                        part[o * taps_all + t];
            }
        h = last;
    }
    for (int64_t o = 0; o < s->out; o++)
        for (int64_t ky = 0, t = 0; ky < s->kernel; ky++)
            for (int64_t c = 0; c < s->channels; c++)
                for (int64_t kx = 0; kx < s->kernel; kx++, t++)
                    out[((o * s->channels + c) * s->kernel + ky) * s->kernel + kx] =
                        sum_of(sums[o * taps_all + t]);
    free(part);
    free(sums);
    free(index);
    free(taps);
}

/* Columns of zeros before and after those of the gradient, as far as kernels reach. */
static int64_t zeros_before(const shape *s)
{
    return (s->kernel - 1) / s->stride;
}

static int64_t padded_width(const shape *s)
{
    int64_t side = output_side(s, s->width), last = (s->width - 1 + s->padding) / s->stride + 1;
    return zeros_before(s) + (last > side ? last : side);
}

/* Scratch: gradient rows with zeros around, [H'][O][padded][batch], then rows of one phase.
 *
 * Column w of the image is column (w + padding - kx) / stride of the gradient under tap kx, so that
 * columns of equal (w + padding) % stride, a phase, have the same taps: adjacent columns. */
static void input_gradient(const shape *s, const float *grad, const float *weight, float *out,
                           float *padded)
{
    int64_t rows = output_side(s, s->height), side = output_side(s, s->width), b = s->batch;
    int64_t wide = padded_width(s), k = s->kernel, before = zeros_before(s);
    float *phase_row = padded + rows * s->out * wide * b;
    memset(padded, 0, rows * s->out * wide * b * sizeof(float));
    for (int64_t r = 0; r < rows * s->out; r++)
        memcpy(padded + (r * wide + before) * b, grad + r * side * b, side * b * sizeof(float));
    int64_t taps_all = s->out * k * k, blocks = (s->channels + BLOCK - 1) / BLOCK;
    sums_of sums = new_sums(taps_all);
    float *packed = malloc(blocks * taps_all * BLOCK * sizeof(float));
    sums.packed = packed;
    for (int64_t o = 0; o < s->out; o++)
        for (int64_t c = 0; c < s->channels; c++)
            for (int64_t t = 0; t < k * k; t++)
                packed[((c / BLOCK * s->out + o) * k * k + t) * BLOCK + c % BLOCK] =
                    weight[(o * s->channels + c) * k * k + t];
    for (int64_t h = 0; h < s->height; h++)
        for (int64_t phase = 0; phase < s->stride; phase++) {
            int64_t first = (phase + s->stride - s->padding % s->stride) % s->stride;
            if (first >= s->width)
                continue;
            int64_t columns = (s->width - first + s->stride - 1) / s->stride;
            int64_t start = (first + s->padding) / s->stride + before;
            sums.count = 0;
            for (int64_t ky = 0; ky < k; ky++) {
                int64_t r = h + s->padding - ky;
                if (r < 0 || r % s->stride || r / s->stride >= rows)
                    continue;
                for (int64_t o = 0; o < s->out; o++)
                    for (int64_t kx = phase; kx < k; kx += s->stride) {
                        int64_t column = start - kx / s->stride;
                        sums.index[sums.count] = (o * k + ky) * k + kx;
                        sums.taps[sums.count++] =
                            padded + ((r / s->stride * s->out + o) * wide + column) * b;
                    }
            }
            float *whole = out + h * s->channels * s->width * b;
            float *made = s->stride == 1 ? whole : phase_row;
            all_blocks(&sums, s->channels, columns * b, made, columns * b);
            for (int64_t c = 0; s->stride > 1 && c < s->channels; c++)
                for (int64_t w = 0; w < columns; w++)
                    memcpy(whole + (c * s->width + first + w * s->stride) * b,
                           made + (c * columns + w) * b, b * sizeof(float));
        }
    free(packed);
    free_sums(&sums);
}

/* Compilers turn these two into single steps per lane; AVX2 has instructions for them. */
ALWAYS integers from_bytes(const uint8_t *x)
{
#if LANES_ARE_AVX2
    return (integers)_mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)x));
#else
    return __builtin_convertvector(*(const bytes *)x, integers);
#endif
}

ALWAYS void to_bytes(uint8_t *x, integers value)
{
#if LANES_ARE_AVX2
    __m128i low = _mm256_castsi256_si128((__m256i)value);
    __m128i packed = _mm_packs_epi32(low, _mm256_extracti128_si256((__m256i)value, 1));
    _mm_storel_epi64((__m128i *)x, _mm_packus_epi16(packed, packed));
#else
    *(bytes *)x = __builtin_convertvector(value, bytes);
#endif
}

/* One square's maximum and, unless `place` is NULL, the place of its first largest value, for up to
 * LANES images. */
ALWAYS void square(const float *x, int64_t right, int64_t down, int64_t size, int64_t lanes,
                   float *out, uint8_t *place)
{
    if (lanes == LANES) {
        vector best = *(const vector *)x;
        integers where = {0};
        for (int64_t dy = 0; dy < size; dy++)
            for (int64_t dx = 0; dx < size; dx++) {
                vector value = *(const vector *)(x + dy * down + dx * right);
                integers larger = (value > best) | (value != value);
                best = (vector)(((integers)value & larger) | ((integers)best & ~larger));
                where = (larger & (int32_t)(dy * size + dx)) | (where & ~larger);
            }
        *(vector *)out = best;
        if (place != NULL)
            to_bytes(place, where);
        return;
    }
    for (int64_t b = 0; b < lanes; b++) {
        float best = x[b];
        uint8_t where = 0;
        for (int64_t dy = 0; dy < size; dy++)
            for (int64_t dx = 0; dx < size; dx++) {
                float value = x[b + dy * down + dx * right];
                if (value > best || value != value)
                    best = value, where = (uint8_t)(dy * size + dx);
            }
        out[b] = best;
        if (place != NULL)
            place[b] = where;
    }
}

/* Pools `size` rows x to one. `room` values may be written from `out` on: a vector may write past
 * its images, and what it spoils is written after. `x` leaves room for a vector, too. */
ALWAYS void pool_by(const shape *s, const int64_t size, const float *x, int64_t room, float *out,
                    uint8_t *place)
{
    int64_t width = output_side(s, s->width), b = s->batch, wide = width / size, at = 0;
    int64_t down = s->out * width * b;
    for (int64_t c = 0; c < s->out; c++)
        for (int64_t w = 0; w < wide; w++) {
            const float *corner = x + (c * width + w * size) * b;
            for (int64_t i = 0; i < b; i += LANES) {
                int64_t left = b - i < LANES ? b - i : LANES;
                int64_t lanes = at + LANES <= room ? LANES : left;
                square(corner + i, b, down, size, lanes, out + at, place ? place + at : NULL);
                at += left;
            }
        }
}

static void pool_row(const shape *s, const float *x, int64_t room, float *out, uint8_t *place)
{
    if (s->pool == 2 && place == NULL) /* so that the compiler unrolls it */
        pool_by(s, 2, x, room, out, NULL);
    else if (s->pool == 2)
        pool_by(s, 2, x, room, out, place);
    else
        pool_by(s, s->pool, x, room, out, place);
}

static void unpool(const shape *s, const float *grad, const uint8_t *place, float *out)
{
    int64_t height = output_side(s, s->height), width = output_side(s, s->width), b = s->batch;
    int64_t size = s->pool, rows = height / size, wide = width / size, end = rows * s->out * wide * b;
    for (int64_t h = 0; h < rows * size; h++)
        for (int64_t c = 0; c < s->out; c++) {
            float *line = out + (h * s->out + c) * width * b, *to = line;
            for (int64_t w = 0; w < wide; w++)
                for (int64_t dx = 0; dx < size; dx++, to += b) {
                    int64_t from = ((h / size * s->out + c) * wide + w) * b;
                    int32_t wanted = (int32_t)(h % size * size + dx);
                    for (int64_t i = 0; i < b; i += LANES) {
                        if (from + i + LANES <= end) {
                            integers mine = from_bytes(place + from + i) == wanted;
                            integers value = *(const integers *)(grad + from + i);
                            *(integers *)(to + i) = value & mine;
                            continue;
                        }
                        for (int64_t j = i; j < b; j++)
                            to[j] = place[from + j] == wanted ? grad[from + j] : 0;
                        break;
                    }
                }
            memset(to, 0, (width - wide * size) * b * sizeof(float));
        }
    memset(out + rows * size * s->out * width * b, 0,
           (height - rows * size) * s->out * width * b * sizeof(float));
}

static void add_bias(const shape *s, const float *bias, int64_t wide, float *out)
{
    for (int64_t o = 0; o < s->out; o++)
        for (int64_t n = 0; n < wide; n++)
            out[o * wide + n] += bias[o];
}

/* Row by row, so that the values before pooling stay in the fastest cache: those of a whole model
 * fill the second one. `image` holds a laid-out image, `before` rows to be pooled and room for a
 * vector. `place` gets the places of the maxima for the gradient; NULL keeps none. */
void weightzoo_forward(const shape *s, const float *x, const float *weight, const float *bias,
                       float *out, uint8_t *place, float *image, float *before)
{
    int64_t height = output_side(s, s->height), width = output_side(s, s->width);
    int64_t size = s->height * s->channels * s->width * s->batch, total = width * s->batch;
    int64_t wide = width / s->pool * s->batch, rows = height / s->pool;
    int64_t taps_all = s->channels * s->kernel * s->kernel, outs = rows * s->out * wide;
    sums_of sums = new_sums(taps_all);
    const float *laid = NULL;
    for (int64_t m = 0; m < s->models; m++) {
        if (laid == NULL || !s->shared)
            laid = lay_out(s, x + (s->shared ? 0 : m * size), image);
        float *packed = packed_kernels(s, weight + m * s->out * taps_all, taps_all);
        sums.packed = packed;
        for (int64_t r = 0; r < rows; r++) {
            int64_t at = m * outs + r * s->out * wide;
            float *rows_before = s->pool > 1 ? before : out + at;
            for (int64_t dy = 0; dy < s->pool; dy++)
                convolve_row(s, &sums, laid, r * s->pool + dy, rows_before + dy * s->out * total);
            if (s->pool > 1)
                pool_row(s, before, (rows - r) * s->out * wide, out + at,
                         place ? place + at : NULL);
            if (bias != NULL)
                add_bias(s, bias + m * s->out, wide, out + at);
        }
        free(packed);
    }
    free_sums(&sums);
}

/* Gradients of weights, biases and images, each unless NULL; those of images are never shared. */
void weightzoo_backward(const shape *s, const float *x, const float *weight, const float *grad,
                        const uint8_t *place, float *grad_weight, float *grad_bias, float *grad_x,
                        float *image, float *before)
{
    int64_t height = output_side(s, s->height), width = output_side(s, s->width);
    int64_t size = s->height * s->channels * s->width * s->batch;
    int64_t wide = width / s->pool * s->batch, rows = height / s->pool;
    int64_t kernels = s->out * s->channels * s->kernel * s->kernel, outs = rows * s->out * wide;
    for (int64_t m = 0; m < s->models; m++) {
        const float *full = grad + m * outs;
        if (grad_bias != NULL) {
            memset(grad_bias + m * s->out, 0, s->out * sizeof(float));
            for (int64_t r = 0; r < rows * s->out; r++) {
                vector sums = {0};
                int64_t n = 0;
                for (; n + LANES <= wide; n += LANES)
                    sums += *(const vector *)(full + r * wide + n);
                for (; n < wide; n++)
                    sums[0] += full[r * wide + n];
                grad_bias[m * s->out + r % s->out] += sum_of(sums);
            }
        }
        if (s->pool > 1) {
            unpool(s, full, place + m * outs, before);
            full = before;
        }
        if (grad_weight != NULL) {
            const float *laid = lay_out(s, x + (s->shared ? 0 : m * size), image);
            weight_gradient(s, laid, full, grad_weight + m * kernels);
        }
        if (grad_x != NULL)
            input_gradient(s, full, weight + m * kernels, grad_x + m * size, image);
    }
}

/* Floats of scratch: for the image (0) and for the convolution before pooling (1). */
int64_t weightzoo_scratch(const shape *s, int64_t which)
{
    int64_t height = output_side(s, s->height), width = output_side(s, s->width);
    if (which == 1)
        return height * s->out * width * s->batch + LANES;
    int64_t laid = s->height * s->channels * s->stride * lane_width(s) * s->batch;
    int64_t padded = (height * s->out * padded_width(s) + s->channels * s->width) * s->batch;
    return (laid > padded ? laid : padded) + LANES;
}
