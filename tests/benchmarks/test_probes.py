"""Linear probes of W, s(W) and an embedding."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from weightzoo.benchmarks import probes
from weightzoo.benchmarks.benchmark import BenchmarkOptions
from weightzoo.benchmarks.probes import (
    ProbeResult,
    _Quantiles,
    _result,
    not_finite,
    probe_benchmark,
    probe_representations,
    probe_settings,
    table,
    varying,
    write_probe_report,
)
from weightzoo.builders.build import build_zoo
from weightzoo.loaders import ZooDataset, load_zoo
from weightzoo.tasks.autoencoding.settings import AutoencoderSettings
from weightzoo.tasks.baselines.linear_probe import LinearProbe, probe_statistics
from weightzoo.tasks.scoring import targets
from weightzoo.tasks.scoring.metrics import r2
from weightzoo.zoos.networks.presets import preset
from weightzoo.zoos.recipe import load_recipe

TINY = AutoencoderSettings(
    shape={"latent": 4, "width": 8, "heads": 1, "blocks": 1},
    aligned=False,
    epochs=1,
    progress=False,
)


@pytest.fixture(scope="module")
def zoo(trained_zoo: Path) -> dict[str, ZooDataset]:
    datasets = load_zoo(trained_zoo)
    assert isinstance(datasets, dict)
    return datasets


@pytest.fixture(scope="module")
def results(zoo: dict[str, ZooDataset]) -> list[ProbeResult]:
    return probe_representations(zoo, TINY, seeds=(0, 1), progress=False)


def test_every_property_that_varies_is_probed(
    zoo: dict[str, ZooDataset], results: list[ProbeResult]
) -> None:
    targets = {result.target for result in results}
    assert targets == set(varying(zoo["train"])) and "train_fraction" not in targets
    assert {"test_accuracy", "epoch", "lr", "activation"} <= targets
    assert len(results) == 3 * len(targets)


def test_probes_in_closed_form_are_fitted_once(results: list[ProbeResult]) -> None:
    fits = {(result.target, result.features): len(result.scores) for result in results}
    assert fits["epoch", "W"] == 1 and fits["epoch", "E"] == 2 and fits["activation", "W"] == 2


def test_splits_of_equal_size_have_features_of_their_own(zoo: dict[str, ZooDataset]) -> None:
    count = min(len(zoo["val"]), len(zoo["test"]))
    val, test = zoo["val"].select(range(count)), zoo["test"].select(range(count))
    quantiles = _Quantiles(probe_statistics, zoo["train"])
    assert not np.array_equal(quantiles(val), quantiles(test))
    assert quantiles(test) is quantiles(zoo["test"].select(range(count)))  # computed once


def test_numbers_that_are_categories_are_scored_as_such(
    zoo: dict[str, ZooDataset], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(targets, "CATEGORIES", ("epoch",))  # as dropout is, which this zoo has not
    splits = {name: rows.filter("status == 'ok'") for name, rows in zoo.items()}
    probe = LinearProbe("statistics")
    found = _result(splits, "epoch", "s(W)", [probe, probe], (0, 1))
    assert found.measure == "accuracy" and len(found.scores) == 2
    assert all(0 <= score <= 1 for score in found.scores)


def test_one_wild_model_does_not_decide_a_probe(zoo: dict[str, ZooDataset]) -> None:
    ok = {split: rows.filter("status == 'ok'") for split, rows in zoo.items()}
    calm = _Quantiles(probe_statistics, ok["train"])
    assert np.abs(probe_statistics(ok["test"])).max() > 1
    assert calm(ok["test"]).min() >= 0 and calm(ok["test"]).max() <= 1
    plain, ranked = LinearProbe("statistics"), LinearProbe(calm, "quantiles")
    scores = []
    for probe in (plain, ranked):
        probe.fit(ok["train"], ok["val"], "epoch", 0)
        scores.append(r2(ok["test"].columns["epoch"], probe.predict(ok["test"])))
    assert scores[1] > max(scores[0], 0)


def test_numbers_are_scored_against_the_mean(results: list[ProbeResult]) -> None:
    found = next(r for r in results if (r.target, r.features) == ("epoch", "s(W)"))
    assert found.measure == "R2" and found.chance <= 0 < found.scores[0]


def test_probe_report_has_a_line_per_property(results: list[ProbeResult], tmp_path: Path) -> None:
    text = write_probe_report(tmp_path, "small", results, "command")
    assert "models, seeds 0, 1." in text
    assert f"on the {results[0].rows} rows" in text and results[0].rows >= results[0].models > 1
    assert table(results) in text and (tmp_path / "probes.json").is_file()
    assert "| activation | accuracy |" in text and "| epoch | R2 |" in text


def sine_zoo(folder: Path, epochs: tuple[int, ...]) -> dict[str, ZooDataset]:
    """16 INRs, which have no accuracy."""
    architecture = preset("inr", width=4)
    recipe = replace(load_recipe("sine-inr"), architecture=architecture, seeds=16)
    recipe = replace(recipe, epochs=epochs[-1], checkpoints=epochs)
    build_zoo(recipe, folder, workers=1, progress=False)
    datasets = load_zoo(folder)
    assert isinstance(datasets, dict)
    return datasets


def test_properties_without_finite_values_are_left_out_and_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    zoo = sine_zoo(tmp_path / "sines", epochs=(1, 2))
    found = probe_representations(zoo, TINY, seeds=(0,), progress=False)
    assert {result.target for result in found} == {"epoch", "frequency"}
    assert all(np.isfinite(result.scores).all() for result in found)
    left_out = not_finite(zoo)
    text = write_probe_report(tmp_path, "sines", found, "command", left_out)
    assert "Left out, because not every row has a finite value: test_accuracy, gen" in text
    monkeypatch.setattr(probes, "PROPERTIES", ("test_accuracy", "epoch"))
    zoo = {split: rows.filter("epoch == 2") for split, rows in zoo.items()}
    with pytest.raises(ValueError, match="no property to probe.*not finite: .'test_accuracy'"):
        probe_representations(zoo, TINY, seeds=(0,), progress=False)


def test_probe_settings_contrast_permuted_views() -> None:
    settings = probe_settings(epochs=12)
    assert settings.views == ("permuted", "permuted") and settings.gamma > 0
    assert np.isfinite(settings.lr)


def test_probe_benchmark_takes_a_zoo(trained_zoo: Path, tmp_path: Path) -> None:
    options = BenchmarkOptions(
        out=tmp_path / "out", size="small", seeds=(0,), zoos={"small": trained_zoo}, progress=False
    )
    with pytest.raises(ValueError, match="train rows are too few for a latent vector of 64"):
        probe_benchmark(options)
