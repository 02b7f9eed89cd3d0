"""The Markdown report of a benchmark, from parts of a result."""

from weightzoo.benchmarks.report import _zoo_table, compared_classes, pair_table


def test_zoo_table_names_the_protocol_of_a_zoo_and_its_leak() -> None:
    split = {"train": 4, "val": 2, "test": 2}
    zoo = {"models": split, "rows": split, "target": None, "images": None, "parameters": 71}
    zoo |= {"architecture": "cnn"}
    rule = {"by": "protocol", "protocol": "wild-park", "cut_models": 3, "rows": split}
    result = {
        "target": "test_accuracy",
        "zoos": {"park": zoo | {"splitting": rule | {"left_out_rows": 0}}, "older": zoo},
    }
    text = _zoo_table(result)
    assert "- park: protocol wild-park: train 4, val 2, test 2 rows, 0 left out" in text
    assert "- park: the published split leaks: 3 models" in text
    assert "- older" not in text


def test_pairs_of_classifiers_are_compared_on_the_same_models() -> None:
    right = {"first": [[1, 1, 0, 1], [1, 1, 1, 1]], "second": [[1, 0, 0, 0], [1, 0, 0, 1]]}
    runs = [
        {"predictor": {"name": name}, "scores": {"inrs": {"right": one}}}
        for name, fits in right.items()
        for one in fits
    ]
    found = compared_classes(runs, "inrs", [("first", "second"), ("first", "absent")])
    assert [(one["second"], one["difference"]) for one in found] == [("second", 0.5)]
    assert found[0]["low"] <= 0.5 <= found[0]["high"] and found[0]["fits"] == 2
    assert "| first − second | +0.500 |" in pair_table(found)
    assert pair_table([]) == ""
