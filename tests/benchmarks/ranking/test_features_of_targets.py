"""Features of the targets of a benchmark of rankers."""

from pathlib import Path

import numpy as np

from weightzoo.benchmarks.ranking.features_of_targets import _scores, features_path, read_features
from weightzoo.tasks.ranking.features import FeatureFile, Task, create_features


def test_models_that_cannot_be_scored_have_no_score(tmp_path: Path) -> None:
    labels, rng = np.arange(40) % 2, np.random.default_rng(0)
    task = Task(name="toy/train", samples=np.arange(40, dtype="u8"), labels=labels)
    with create_features(tmp_path / "f.h5", task, {}) as file:
        file.append("good", labels[:, None] + rng.normal(size=(40, 3)), None, {})
        file.append("dead", np.zeros((40, 3)), None, {})
        file.append("diverged", np.full((40, 3), np.nan), None, {})
    with FeatureFile(tmp_path / "f.h5") as file:
        found = read_features(file, ["dead", "good", "diverged"])
    assert list(found) == ["good"]
    scores = _scores("logme", found, ("dead", "good", "diverged"))
    assert np.isfinite(scores).tolist() == [False, True, False]


def test_feature_files_of_splits_and_domains_have_names_of_their_own() -> None:
    names = [
        ("digits", "train"),
        ("digits", "val"),
        ("digits/blur", "train"),
        ("digits+blur", "train"),
    ]
    assert len({features_path(Path("f"), *name) for name in names}) == 4
