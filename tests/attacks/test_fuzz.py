"""Damaged zoos and hostile pickles end in clear errors; see `fuzz.py`."""

import pytest
from attack_scripts import run_script
from hostile_indexes import hostile_index
from hostile_pickles import hostile_file

GOOD = {"clear error", "equal values", "found by verify", "imported"}


@pytest.mark.parametrize(
    "kind", ["flips", pytest.param("pickles", marks=pytest.mark.slow), "indexes"]
)
def test_damage_ends_in_a_clear_error_or_is_found(kind: str) -> None:
    cases = run_script("fuzz.py", "--small", kind, record=f"fuzz_{kind}")["cases"]
    assert len(cases) == 20
    assert [case for case in cases if case["verdict"] not in GOOD] == []


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "count"), [("flips", 2000), ("pickles", 500), ("indexes", 200)])
def test_much_damage_ends_in_a_clear_error_or_is_found(kind: str, count: int) -> None:
    cases = run_script("fuzz.py", kind, record=f"fuzz_{kind}")["cases"]
    assert len(cases) == count
    assert [case for case in cases if case["verdict"] not in GOOD] == []


def test_hostile_inputs_are_the_same_every_time() -> None:
    assert [hostile_file(case) for case in range(50)] == [hostile_file(case) for case in range(50)]
    assert len({hostile_file(case) for case in range(50)}) > 45
    text = '{"format_version": "1.1", "name": "x", "shards": [{"path": "a.h5", "rows": 1}]}'
    changed = [hostile_index(text, case) for case in range(50)]
    assert changed == [hostile_index(text, case) for case in range(50)]
    assert len({*changed} - {text.encode()}) > 35
