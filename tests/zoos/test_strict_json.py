import ast
import json
import math
from pathlib import Path

from weightzoo.zoos.strict_json import finite_or_null, json_text

ROOT = Path(__file__).parents[2]
NOT_SHIPPED = {"tests", "benchmarks", ".venv"}


def loose_writers(text: str) -> list[int]:
    """Lines that call `json.dump` or `json.dumps`, or import either."""
    names = {"dump", "dumps"}
    return [
        node.lineno
        for node in ast.walk(ast.parse(text))
        if (isinstance(node, ast.Attribute) and node.attr in names and _is_json(node.value))
        or (isinstance(node, ast.ImportFrom) and node.module == "json" and names & _names(node))
    ]


def _is_json(node: ast.expr) -> bool:
    return isinstance(node, ast.Name) and node.id == "json"


def _names(node: ast.ImportFrom) -> set[str]:
    return {alias.name for alias in node.names}


def test_numbers_that_are_not_finite_become_null_at_any_depth() -> None:
    data = {"a": [1.5, math.nan, (math.inf,)], "b": {"c": -math.inf, "d": 2}, "e": "NaN"}
    assert json.loads(json_text(data, indent=1), parse_constant=lambda _: 1 / 0) == {
        "a": [1.5, None, [None]],
        "b": {"c": None, "d": 2},
        "e": "NaN",
    }
    assert math.isnan(data["a"][1])  # type: ignore[index,arg-type]
    assert finite_or_null(True) is True


def test_only_the_strict_writer_writes_json() -> None:
    wrong = [
        f"{file.relative_to(ROOT)}:{line}"
        for file in ROOT.rglob("*.py")
        if file.relative_to(ROOT).parts[0] not in NOT_SHIPPED and file.name != "strict_json.py"
        for line in loose_writers(file.read_text())
    ]
    assert wrong == []


def test_scan_for_writers_sees_every_form() -> None:
    assert sorted(loose_writers("import json\njson.dump(1, f)\nx = json.dumps\njson.loads(t)")) == [
        2,
        3,
    ]
    assert loose_writers("from json import dumps\nfrom json import loads") == [1]
