from pathlib import Path
from typing import Any

import numpy as np
import pytest
from make_published_zoos import zoo_rows

from weightzoo.builders.imports import import_zoo
from weightzoo.builders.published import nino
from weightzoo.loaders import load_zoo
from weightzoo.zoos.errors import BuildError

MODELS, STATES, PARAMETERS = 6, 5, 40


@pytest.fixture
def maps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, np.ndarray, np.ndarray]:
    """Memory maps of a small task, in two parts, with their metrics."""
    monkeypatch.setitem(nino.SHAPES, "fm-16", (MODELS, STATES, PARAMETERS))
    rng = np.random.default_rng(0)
    values = rng.normal(size=(MODELS, STATES, PARAMETERS)).astype(np.float16)
    metrics = rng.random((MODELS, STATES, 4)).astype(np.float16)
    (tmp_path / "in").mkdir()
    (tmp_path / "in/fm-16_p1.dat").write_bytes(values[:4].tobytes())
    (tmp_path / "in/fm-16_p2.dat").write_bytes(values[4:].tobytes())
    (tmp_path / "in/fm-16_metrics.dat").write_bytes(metrics.tobytes())
    return tmp_path, values, metrics


def imported(folder: Path) -> Any:
    return import_zoo("nino", folder / "in", folder / "out", progress=False)


def test_trajectories_keep_all_values_and_metrics(maps: Any) -> None:
    folder, values, metrics = maps
    report = imported(folder)
    columns, weights = zoo_rows(folder / "out")
    assert (report.models, report.rows, report.refused) == (MODELS, MODELS * STATES, ())
    for index, name in enumerate(columns["model_name"]):
        model, state = int(name[-4:]), int(columns["epoch"][index])
        np.testing.assert_array_equal(weights[index], values[model, state].astype(np.float32))
        found = [columns[name][index] for name in nino.METRICS]
        np.testing.assert_allclose(found, metrics[model, state].astype(np.float32))


def test_a_trajectory_is_an_item(maps: Any) -> None:
    folder, values, _ = maps
    imported(folder)
    (first, *_) = load_zoo(folder / "out", split="train").trajectories()
    assert first["weights"].shape == (STATES, PARAMETERS)


def test_maps_of_another_size_are_an_error(maps: Any) -> None:
    folder, _, _ = maps
    (folder / "in/fm-16_p2.dat").unlink()
    with pytest.raises(BuildError, match="is published with 2400: fetch all"):
        imported(folder)


def test_maps_of_unknown_tasks_and_lost_metrics_are_said(maps: Any) -> None:
    folder, _, _ = maps
    (folder / "in/other.dat").write_bytes(b"1234")
    (folder / "in/fm-16_metrics.dat").unlink()
    report = imported(folder)
    assert [r.model for r in report.refused] == ["other.dat"]
    assert "no metrics" in report.remarks[0].reason
