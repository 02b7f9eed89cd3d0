"""The rule by kinship beside the rows of a family."""

from weightzoo.benchmarks.merging.report import HINDSIGHT, SINGLE
from weightzoo.benchmarks.merging.rule import hindsight_row, rule_rows

ROWS = {
    name: {"test": test}
    for name, test in {SINGLE: 0.5, "regmean++": 0.7, "task_arithmetic": 0.6, "ties": 0.8}.items()
}


def test_rule_takes_the_row_of_the_merge_that_it_names() -> None:
    rows = rule_rows(ROWS, 3, 0.9)  # without a search there is no row for weights alone
    assert {name: row["pick"] for name, row in rows.items()} == {
        "rule, train data known": "regmean++",
        "rule, base known": "task_arithmetic",
    }
    assert {row["pick"] for row in rule_rows(ROWS, 3, 0.1).values()} == {SINGLE}


def test_best_merge_in_hindsight_is_no_single_member() -> None:
    rows = ROWS | {SINGLE: {"test": 0.9}}
    assert hindsight_row(rows, lambda row: row["test"])[HINDSIGHT]["pick"] == "ties"
