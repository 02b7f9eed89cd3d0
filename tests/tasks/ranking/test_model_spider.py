"""Model Spider: its loss, its tokens, what it learns, and how it is saved."""

from pathlib import Path

import numpy as np
import pytest
import torch

from weightzoo.tasks.ranking.aggregation import RULES, aggregate_scores, standardised
from weightzoo.tasks.ranking.model_spider import (
    SpiderConfig,
    SpiderScorer,
    SpiderSettings,
    SpiderTask,
    choose_budget,
    load_spider,
    ranking_loss,
    save_spider,
    spider_scores,
    train_spider,
)
from weightzoo.tasks.ranking.training_tasks import MixtureSettings, mix_tasks
from weightzoo.tasks.scoring.ranks import weighted_tau
from weightzoo.tasks.transferability.task_features import TaskFeatures
from weightzoo.zoos.errors import UnsuitableError, ZooFormatError, ZooNotFoundError

MODELS = 6
CONFIG = SpiderConfig(generic=4, specific=(3,) * MODELS, width=16, dropout=0.0)


def made(
    count: int, seed: int, noise: float = 0.0, models: int = MODELS
) -> tuple[list[SpiderTask], np.ndarray]:
    """Tasks whose direction half determines the best model; the models' own tokens determine it."""
    rng = np.random.default_rng(seed)
    skills = np.random.default_rng(0).normal(size=(models, 4))
    tasks, labels = [], []
    for _ in range(count):
        wanted, luck = rng.normal(size=4), noise * rng.normal(size=models)
        fitness = skills @ wanted + luck
        rows = np.repeat(fitness[:, None, None], 3, axis=1).repeat(3, axis=2)
        tasks.append(
            SpiderTask(
                prototypes=wanted + 0.1 * rng.normal(size=(3, 4)),
                specific=lambda index, rows=rows: rows[index],
            )
        )
        labels.append(fitness)
    return tasks, np.stack(labels)


def mean_tau(scorer: SpiderScorer, tasks: list[SpiderTask], labels: np.ndarray, k: int) -> float:
    found = [spider_scores(scorer, task, k) for task in tasks]
    return float(np.mean([weighted_tau(a, b) for a, b in zip(labels, found, strict=True)]))


def test_ranking_loss_is_the_cross_entropy_of_each_choice() -> None:
    rng = np.random.default_rng(0)
    fitness = torch.from_numpy(rng.normal(size=7)).requires_grad_()
    labels = torch.tensor([3, 0, 6, 2, 5, 1, 4])
    order, wanted = labels.argsort(descending=True), torch.zeros(())
    for step in range(6):
        masked = fitness[order].clone()
        masked[:step] = -torch.inf
        wanted = wanted + torch.nn.functional.cross_entropy(masked, torch.tensor(step)) / 6
    assert ranking_loss(fitness, labels).item() == pytest.approx(wanted.item(), abs=1e-10)


def test_spider_learns_fitness_for_new_tasks_and_own_tokens_help() -> None:
    settings = SpiderSettings(epochs=20, lr=2e-2, most_specific=MODELS)
    scorer = train_spider(*made(64, 1, noise=1.5), CONFIG, settings)
    tasks, labels = made(24, 2, noise=1.5)
    untrained = mean_tau(SpiderScorer(CONFIG).eval(), tasks, labels, 0)
    alone, helped = (mean_tau(scorer, tasks, labels, k) for k in (0, MODELS))
    assert abs(untrained) < 0.3 < alone < helped - 0.1
    best, taus = choose_budget(scorer, tasks, labels, (0, 3, MODELS))
    assert best == max(taus, key=lambda k: taus[k]) != 0 and taus[0] == pytest.approx(alone)


def test_fitness_ignores_the_order_of_classes() -> None:
    scorer = SpiderScorer(CONFIG).eval()
    task = made(1, 0)[0][0]
    turned = SpiderTask(
        prototypes=task.prototypes[::-1].copy(),
        specific=lambda index: task.specific(index)[::-1].copy(),
    )
    expected = spider_scores(scorer, task, 3)
    assert spider_scores(scorer, turned, 3) == pytest.approx(expected, rel=1e-4, abs=1e-6)


def test_only_k_models_are_run_and_they_lead() -> None:
    asked: list[int] = []
    task = made(1, 0)[0][0]

    def specific(index: int) -> np.ndarray:
        asked.append(index)
        return task.specific(index)

    scorer = SpiderScorer(CONFIG).eval()
    watched = SpiderTask(prototypes=task.prototypes, specific=specific)
    first = spider_scores(scorer, watched, 0)
    assert asked == []
    second = spider_scores(scorer, watched, 2)
    assert set(asked) == set(np.argsort(-first)[:2]) == set(np.argsort(-second)[:2])


def test_tokens_from_weights_rank_models_that_training_never_saw() -> None:
    skills = np.random.default_rng(0).normal(size=(24, 4))  # what `made` draws them from
    tasks, labels = made(64, 1, models=24)
    seen = SpiderConfig(generic=4, specific=(3,) * 18, embedding=4, width=16, dropout=0.0)
    settings = SpiderSettings(epochs=25, lr=1e-2, most_specific=0)
    scorer = train_spider(tasks, labels[:, :18], seen, settings, skills[:18])
    tasks, labels = made(24, 2, models=24)
    found = [spider_scores(scorer, task, 0, skills)[18:] for task in tasks]
    taus = [weighted_tau(a[18:], b) for a, b in zip(labels, found, strict=True)]
    assert np.mean(taus) > 0.5
    with pytest.raises(ValueError, match="embeddings of width 4"):
        spider_scores(scorer, tasks[0], 0)


def test_saved_spider_scores_as_before(tmp_path: Path) -> None:
    scorer, task = SpiderScorer(CONFIG).eval(), made(1, 0)[0][0]
    save_spider(scorer, tmp_path / "s", [str(m) for m in range(MODELS)], 2)
    loaded, models, k = load_spider(tmp_path / "s")
    assert len(models) == MODELS and k == 2
    assert np.array_equal(spider_scores(loaded, task, 2), spider_scores(scorer, task, 2))
    (tmp_path / "s" / "model.safetensors").write_bytes(b"damaged")
    with pytest.raises(ZooFormatError, match="no whole Model Spider"):
        load_spider(tmp_path / "s")
    with pytest.raises(ZooNotFoundError, match="save_spider"):
        load_spider(tmp_path)


def test_rules_of_aggregation_on_a_known_example() -> None:
    scores = np.array([[3.0, 2, 1], [3, 2, 1], [0, 1, 9]])
    assert aggregate_scores(scores).tolist() == [2, 1, 0]
    assert aggregate_scores(scores, "borda") == pytest.approx([4 / 3, 1, 2 / 3])
    assert aggregate_scores(scores, "mean-z") == pytest.approx(standardised(scores).mean(axis=0))
    for rule in RULES:
        assert np.ptp(aggregate_scores(np.ones((2, 3)), rule)) == 0
    with pytest.raises(ValueError, match="rule must be one of"):
        aggregate_scores(scores, "mean")


def test_training_tasks_are_mixtures_with_labels_of_good_models() -> None:
    rng = np.random.default_rng(0)

    def source(seed: int) -> dict[str, TaskFeatures]:
        labels = np.arange(60) % 3
        signal = np.random.default_rng(seed).normal(size=(3, 5))[labels]
        noise = {"good": 0.3, "fair": 1.5, "poor": 50.0}
        return {
            name: TaskFeatures(signal + size * rng.normal(size=(60, 5)), labels)
            for name, size in noise.items()
        }

    sources = [source(seed) for seed in range(3)]
    tasks, labels = mix_tasks(sources, "fair", MixtureSettings(count=12, shots=12))
    assert len(tasks) == 12 and labels.mean(axis=0).argmax() == 0 and labels[:, 2].mean() < 0.5
    sizes = {len(task.prototypes) for task in tasks}
    assert len(sizes) > 1 and max(sizes) <= 9 and tasks[0].specific(0).shape[1] == 5
    with pytest.raises(UnsuitableError, match="the same models"):
        mix_tasks([sources[0], {"good": sources[1]["good"]}], "good")
