"""The rule that names a merge from what is known of a family."""

import pytest

from weightzoo.tasks.merge_methods.kinship import Kinship


@pytest.mark.parametrize(
    ("kinship", "method"),
    [
        (Kinship(1, 1.0, base=True, data=True), "best single"),
        (Kinship(3, 0.99995, base=True, data=True), "best single"),
        (Kinship(3, 0.2, base=True, data=True), "best single"),
        (Kinship(3, float("nan"), base=True), "best single"),
        (Kinship(3, 0.9, base=True, data=True), "regmean++"),
        (Kinship(3, 0.9, base=True), "task_arithmetic"),
        (Kinship(3, 0.9), "average"),
    ],
)
def test_rule_names_the_merge_of_a_family(kinship: Kinship, method: str) -> None:
    assert kinship.method == method


def test_rule_tells_why_nothing_is_merged() -> None:
    assert Kinship(3, 0.99995).reason == "duplicates"
    assert Kinship(3, 0.2).reason == "similarity below 0.5: align first"
