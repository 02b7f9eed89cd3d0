"""Models that Model Spider was not trained with: what their tokens come from, and what is held."""

from pathlib import Path

import numpy as np
import pytest

from weightzoo.benchmarks.ranking import new_models as module
from weightzoo.benchmarks.ranking.new_models import AT_MEAN, RANDOM, WEIGHTS, new_models
from weightzoo.benchmarks.ranking.spider_rows import MEAN_LABEL, TASK_ALONE, SpiderData, SpiderRows
from weightzoo.tasks.baselines.pooled_statistics import pooled_statistics
from weightzoo.tasks.ranking.extraction import ModelGroup, zoo_groups
from weightzoo.tasks.ranking.matrix import Matrix
from weightzoo.tasks.ranking.model_sources import model_source, weight_embeddings
from weightzoo.tasks.ranking.model_spider import SpiderSettings, SpiderTask

MODELS, KNOWN_TASKS, TARGETS = 24, 48, 8
SKILLS = np.random.default_rng(7).normal(size=(MODELS, 2))


def made(seen: list[np.ndarray] | None = None) -> tuple[SpiderData, SpiderRows, list[ModelGroup]]:
    """Fitness is the product of skill, which the weights show, and what the task wants."""
    rng = np.random.default_rng(1)
    wanted = rng.normal(size=(KNOWN_TASKS + TARGETS, 2))
    fitness = SKILLS @ wanted.T  # (M, tasks)
    tasks = [
        SpiderTask(prototypes=one + 0.1 * rng.normal(size=(3, 2)), specific=lambda index: SKILLS)
        for one in wanted
    ]
    names, truth = tuple(f"zoo/{index}" for index in range(MODELS)), fitness[:, KNOWN_TASKS:, None]
    targets = tuple(f"t{index}" for index in range(TARGETS))
    columns = {
        "parameters": np.full(MODELS, 10),
        "architecture": np.array(["a", "b"] * (MODELS // 2), dtype=object),
    }
    matrix = Matrix(
        models=names, targets=targets, families=targets, test=truth, val=truth, seconds=truth,
        columns=columns, protocol={},
    )  # fmt: skip
    scores = fitness[:, :KNOWN_TASKS].T[:, None]
    data = SpiderData(
        matrix=matrix, models=names, generic=names[0], widths=(2,) * MODELS,
        tasks=tasks[:KNOWN_TASKS], scores=scores, kept=KNOWN_TASKS, asked=tasks[KNOWN_TASKS:],
        seconds=0.0,
    )  # fmt: skip
    known = SpiderRows(
        scores={TASK_ALONE: truth[..., 0], MEAN_LABEL: np.zeros((MODELS, TARGETS))},
        k=0, held_out={0: 0.0}, curve=(),
    )  # fmt: skip
    details = {
        name: {"source": "digits" if index % 3 else "glyphs", "epoch": index % 4}
        for index, name in enumerate(names)
    }
    return data, known, [ModelGroup(details=details, prepare=lambda: lambda pixels: [])]


@pytest.mark.slow
def test_tokens_from_weights_place_new_models_where_random_ones_do_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data, known, groups = made()
    monkeypatch.setattr(module, "ALONE", SpiderSettings(epochs=20, lr=2e-2, most_specific=0))
    monkeypatch.setattr(module, "_embeddings", lambda data, zoos: SKILLS)
    found = new_models(data, [], groups, known, progress=False)
    assert found.groups == {"untrained": 6, "digits": 12, "glyphs": 6}
    weights, random, mean = (found.rows[way] for way in (WEIGHTS, RANDOM, AT_MEAN))
    assert weights[2] > 0.4 > 0.3 > abs(random[2]) and weights[1] > random[1]
    assert mean[1] == 0 and found.rows[f"{TASK_ALONE}, trained with all"][0] == pytest.approx(1)
    assert found.claims[0].difference.low > 0 and "each model new" in found.to_text()


def test_labels_of_new_models_never_reach_the_ranker(monkeypatch: pytest.MonkeyPatch) -> None:
    data, _, _ = made()
    known = np.arange(MODELS) % 3 > 0
    data.scores[:, :, ~known] = np.nan  # a label that was read would spoil all scores
    monkeypatch.setattr(module, "ALONE", SpiderSettings(epochs=1, most_specific=0))
    tokens = module._standardised(SKILLS * 9, known)
    assert np.isfinite(module._ranked(data, tokens, known)).all() and np.abs(tokens).max() <= 3
    assert np.isfinite(module._mean_labels(data, known)).all()


def test_embeddings_of_weights_have_the_names_of_ranked_models(trained_zoo: Path) -> None:
    groups = zoo_groups(trained_zoo)
    found = weight_embeddings(trained_zoo)
    assert set(found) == {name for group in groups for name in group.details}
    first = weight_embeddings(f"{trained_zoo}@0", lambda rows: rows.weights(range(len(rows))))
    label, parents = model_source(f"{trained_zoo}@0")
    assert np.array_equal(
        np.stack([first[f"{label}/{one.model_id}"] for one in parents.models]),
        parents.weights(range(len(parents.models))).double().numpy(),
    )
    assert next(iter(found.values())).shape == (42,) and callable(pooled_statistics)
