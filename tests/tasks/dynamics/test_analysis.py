"""`analyse_zoo` on small zoos: columns, report, resuming, and zoos that lack something."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from weightzoo.loaders.editing import save_zoo
from weightzoo.loaders.load import load_zoo
from weightzoo.tasks.dynamics import analysis
from weightzoo.tasks.dynamics.analysis import analyse_zoo
from weightzoo.tasks.dynamics.measures import FAMILIES, PATH_ONLY
from weightzoo.tasks.dynamics.plots import _at_border
from weightzoo.tasks.dynamics.settings import AnalysisSettings
from weightzoo.zoos.errors import BuildError, UnsuitableError

QUICK = AnalysisSettings(image_count=8, steps=3, probes=2, fisher_probes=2, batch=4, points=3)
PLAIN = ("paths", "spectra")
NAME = "digits-mlp"


def quick(*measures: str) -> AnalysisSettings:
    return replace(QUICK, measures=measures or None)


@pytest.fixture(scope="module")
def analysed(trained_zoo: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output folder of an analysis of all measures; do not change its files."""
    out = tmp_path_factory.mktemp("analysed")
    analyse_zoo(trained_zoo, out, settings=QUICK, progress=False)
    return out


@pytest.fixture(autouse=True)
def no_plots(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw nothing in the tests below; `analysed` is made before and has its plots."""
    monkeypatch.setattr(analysis, "plot_analysis", lambda *given: [])


def joined(zoo: Path, column: str) -> np.ndarray:
    return np.concatenate([part.columns[column] for part in load_zoo(zoo).values()])


def test_every_measure_is_a_column_of_a_zoo_that_is_otherwise_the_same(
    analysed: Path, trained_zoo: Path
) -> None:
    before, after = load_zoo(trained_zoo), load_zoo(analysed / NAME)
    names = {one.name for family in FAMILIES.values() for one in family.measures}
    for split, part in before.items():
        assert names <= set(after[split].columns)
        np.testing.assert_array_equal(after[split].weights(), part.weights())
        for name, values in part.columns.items():
            np.testing.assert_array_equal(after[split].columns[name], values)


def test_measures_are_known_where_they_are_defined(analysed: Path) -> None:
    epoch = joined(analysed / NAME, "epoch")
    for name in ("hessian_largest", "fisher_trace", "agreement", "alpha", "path_length"):
        assert np.isfinite(joined(analysed / NAME, name)).all(), name
    for name in ("step_norm", "step_barrier", "path_barrier"):
        assert (np.isfinite(joined(analysed / NAME, name)) == (epoch > 0)).all(), name
    assert np.isfinite(joined(analysed / NAME, "barrier")[epoch == 3]).mean() > 0.5
    assert np.isnan(joined(analysed / NAME, "barrier")[epoch < 3]).all()
    assert (joined(analysed / NAME, "agreement_with_last")[epoch == 3] == 1).all()


def test_partners_are_other_models_of_the_same_split_and_activation(analysed: Path) -> None:
    for part in load_zoo(analysed / NAME).values():
        columns = part.filter("epoch == 3").columns
        activation = dict(zip(columns["model_id"], columns["activation"], strict=True))
        for model, partner in zip(columns["model_id"], columns["barrier_partner"], strict=True):
            assert partner == -1 or (partner != model and activation[partner] == activation[model])


def test_the_report_has_every_measure_and_the_plots(analysed: Path) -> None:
    data = json.loads((analysed / "report.json").read_text())
    text = (analysed / "report.md").read_text()
    assert (data["models"], data["rows"], data["diverged"], data["notes"]) == (24, 72, 0, [])
    assert all(f"`{name}`" in text for name in data["measures"])
    assert data["plots"] == ["epochs.png", "gap.png", "paths.png", "barriers.png"]
    assert all((analysed / name).stat().st_size > 10_000 for name in data["plots"])
    dimensions = data["dimensions"]["3"]
    assert dimensions["models"] + dimensions["left_out"] == 24 and dimensions["two_nn"] > 0
    score = next(one for one in data["gap"]["scores"] if one["name"] == "hessian_trace")
    assert score["tau_interval"][0] <= score["tau"] <= score["tau_interval"][1]


def test_networks_are_run_at_the_chosen_epochs_only(analysed: Path, tmp_path: Path) -> None:
    """Of the analysed zoo's first model, with the values of the whole analysis."""
    models = {"train": load_zoo(analysed / NAME)["train"].filter("model_id <= 4")}
    save_zoo(models, tmp_path / "some")
    settings = replace(quick("paths", "sharpness", "barriers"), epochs=(1, 3))
    found = analyse_zoo(tmp_path / "some", tmp_path / "out", settings=settings, progress=False)
    epoch, before = joined(found.zoo, "epoch"), models["train"].columns
    for name in ("hessian_largest", "path_barrier"):
        values = joined(found.zoo, name)
        assert (np.isfinite(values) == (epoch > 0)).all()
        np.testing.assert_allclose(values[epoch > 0], before[name][epoch > 0], rtol=1e-4)
    assert np.isfinite(joined(found.zoo, "path_length")).all()
    with pytest.raises(ValueError, match=r"epochs must be of \[0, 1, 3\].*got \[2\]"):
        analyse_zoo(found.zoo, tmp_path / "x", settings=replace(QUICK, epochs=(2,)))


@pytest.mark.slow  # starts two processes
def test_two_workers_give_the_same_columns(
    analysed: Path, trained_zoo: Path, tmp_path: Path
) -> None:
    settings = quick("paths", "sharpness")
    analyse_zoo(trained_zoo, tmp_path, settings=settings, workers=2, progress=False)
    for name in ("path_length", "hessian_largest", "m_sharpness"):
        found, wanted = (joined(folder / NAME, name) for folder in (tmp_path, analysed))
        np.testing.assert_allclose(found, wanted, rtol=1e-5)


def test_a_stopped_analysis_measures_the_rest_only(
    tiny_zoo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = list[str]()
    real = dict(analysis.MEASURES)

    def stopping(block: object) -> object:
        calls.append("spectra")
        raise KeyboardInterrupt

    monkeypatch.setitem(analysis.MEASURES, "spectra", stopping)
    with pytest.raises(KeyboardInterrupt):
        analyse_zoo(tiny_zoo, tmp_path / "out", settings=quick(*PLAIN), progress=False)
    assert calls == ["spectra"] and not (tmp_path / "out" / "tiny").exists()
    monkeypatch.setitem(analysis.MEASURES, "spectra", real["spectra"])
    monkeypatch.delitem(analysis.MEASURES, "paths")  # done before the stop
    found = analyse_zoo(tiny_zoo, tmp_path / "out", settings=quick(*PLAIN), progress=False)
    assert {"path_length", "alpha"} <= set(found.data["measures"])


def test_measures_can_be_added_and_other_settings_are_refused(
    tiny_zoo: Path, tmp_path: Path
) -> None:
    analyse_zoo(tiny_zoo, tmp_path / "out", settings=quick("paths"), progress=False)
    analyse_zoo(tiny_zoo, tmp_path / "out", settings=quick(*PLAIN), progress=False)
    assert {"path_length", "alpha"} <= set(load_zoo(tmp_path / "out" / "tiny")["train"].columns)
    other = replace(quick("paths"), seed=5)
    with pytest.raises(BuildError, match="differs in \\['settings'\\].*--overwrite"):
        analyse_zoo(tiny_zoo, tmp_path / "out", settings=other, progress=False)
    analyse_zoo(tiny_zoo, tmp_path / "out", settings=other, progress=False, overwrite=True)


def test_the_zoo_itself_is_never_replaced(tiny_zoo: Path) -> None:
    with pytest.raises(BuildError, match="the zoo itself"):
        analyse_zoo(
            tiny_zoo, tiny_zoo.parent, settings=quick("paths"), progress=False, overwrite=True
        )


def test_an_analysed_zoo_is_analysed_again(tiny_zoo: Path, tmp_path: Path) -> None:
    analyse_zoo(tiny_zoo, tmp_path / "a", settings=quick("paths"), progress=False)
    analyse_zoo(tmp_path / "a" / "tiny", tmp_path / "b", settings=quick("paths"), progress=False)
    columns = list(load_zoo(tmp_path / "b" / "tiny")["train"].columns)
    assert columns.count("path_length") == 1


def test_a_zoo_without_images_gets_what_needs_no_network(tiny_zoo: Path, tmp_path: Path) -> None:
    found = analyse_zoo(tiny_zoo, tmp_path / "out", settings=quick(), progress=False)
    assert {one["family"] for one in found.data["measures"].values()} == set(PLAIN)
    assert any("records no image set" in note for note in found.data["notes"])
    with pytest.raises(UnsuitableError, match="'sharpness' cannot be computed.*--images"):
        analyse_zoo(tiny_zoo, tmp_path / "out", settings=quick("sharpness"), progress=False)


def test_an_unknown_architecture_gets_what_needs_no_network(tiny_zoo: Path, tmp_path: Path) -> None:
    for file in tiny_zoo.glob("*.h5"):
        with h5py.File(file, "r+") as opened:
            opened.attrs["architecture"] = "null"
    refresh(tiny_zoo)
    found = analyse_zoo(tiny_zoo, tmp_path / "out", settings=quick(), progress=False)
    assert {one["family"] for one in found.data["measures"].values()} == set(PLAIN)
    assert any("no architecture" in note for note in found.data["notes"])


def test_one_checkpoint_has_no_path(trained_zoo: Path, tmp_path: Path) -> None:
    last = {key: part.filter("epoch == 3") for key, part in load_zoo(trained_zoo).items()}
    save_zoo(last, tmp_path / "last")
    settings = quick("spectra", "barriers", "agreement")
    with pytest.raises(UnsuitableError, match="'paths' cannot be computed: every model.*one check"):
        analyse_zoo(tmp_path / "last", tmp_path / "out", settings=quick("paths"), progress=False)
    found = analyse_zoo(tmp_path / "last", tmp_path / "out", settings=settings, progress=False)
    assert any("one checkpoint per model" in note for note in found.data["notes"])
    for name in PATH_ONLY:
        assert found.data["measures"][name]["last"]["known"] == 0
    assert found.data["measures"]["barrier"]["last"]["known"] > 10


def test_diverged_rows_are_missing_and_counted(trained_zoo: Path, tmp_path: Path) -> None:
    """Model of the first train row: its last two checkpoints diverged."""
    zoo = tmp_path / "zoo"
    shutil.copytree(trained_zoo, zoo)
    file = next(zoo.glob("*train*.h5"))
    model = break_rows(file)
    refresh(zoo)
    settings = quick("paths", "sharpness", "barriers", "agreement")
    found = analyse_zoo(zoo, tmp_path / "out", settings=settings, progress=False)
    assert found.data["diverged"] == 2
    train = load_zoo(found.zoo)["train"].filter(f"model_id == {model}").sort("epoch").columns
    for name in ("path_length", "hessian_largest", "agreement"):
        assert np.isfinite(train[name]).tolist() == [True, False, False], name
    others = load_zoo(found.zoo)["train"].filter(f"model_id != {model}").columns
    assert np.isfinite(others["agreement"]).all()


def break_rows(file: Path) -> int:
    """Make the checkpoints after the first of one model diverge; its model_id."""
    with h5py.File(file, "r+") as opened:
        columns = opened["columns"] if "columns" in opened else opened
        ids, epochs = columns["model_id"][:], columns["epoch"][:]
        model = int(ids[0])
        rows = np.flatnonzero((ids == model) & (epochs > 0))
        for row in rows:
            columns["status"][row] = "diverged"
            opened["weights"][row] = np.nan
    return model


def refresh(folder: Path) -> None:
    """Write checksums and index of a folder whose files were changed."""
    from weightzoo.zoos.index import ZooIndex, describe_shard

    index = ZooIndex.read(folder)
    shards = tuple(describe_shard(folder, s.path, s.split, s.models) for s in index.shards)
    replace(index, shards=shards).write(folder)


def test_outliers_lie_at_the_border_of_the_plot_and_are_counted() -> None:
    values = np.concatenate([np.geomspace(1, 100, 98), [1e30, np.nan]])
    moved, outside = _at_border(values)
    assert outside == 1 and 100 < moved[98] < 1e4 and np.isnan(moved[99])
    assert np.array_equal(moved[:98], values[:98])
