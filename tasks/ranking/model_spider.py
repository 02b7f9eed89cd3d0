"""Model Spider: a learned fitness of models for tasks, from tokens of both.

Source: Zhang et al. 2023, arXiv 2306.03900, and its published code. A task is the set of its class
prototypes under one generic extractor; a model is a learned vector. One attention block reads
both, and for the models ranked first also the prototypes under the model itself, which cost one
pass of that model. Differs from it: the number of such models, k, is chosen on held-out tasks,
where the published script chooses it on the targets; and model tokens may come from an encoder of
weights, so that a new model needs no training.

Shape letters: M models, C classes of a task, P width of the generic extractor, D_m width of model
m's features, E width of a weight embedding, d width of tokens.
"""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from ...zoos.errors import ZooFormatError, ZooNotFoundError
from ...zoos.strict_json import json_text
from ..random_states import own_random_numbers
from ..scoring.ranks import weighted_tau

FORMAT = "weightzoo-model-spider-1"
CONFIG_NAME, WEIGHTS_NAME = "config.json", "model.safetensors"

Specific = Callable[[int], np.ndarray]  # model to its prototypes (C, D_m)


@dataclass(frozen=True, kw_only=True, eq=False)
class SpiderTask:
    """A task as Model Spider reads it.

    Attributes:
        prototypes: (C, P), mean feature of each class under the generic extractor.
        specific: gives the prototypes under a model, (C, D_m); called for k models alone.
    """

    prototypes: np.ndarray
    specific: Specific


@dataclass(frozen=True, kw_only=True)
class SpiderConfig:
    """What a scorer is made of.

    Attributes:
        generic: P.
        specific: D_m of each model.
        embedding: E where model tokens come from weights, 0 where they are learned.
        width: d.
        dropout: rate in the attention block.
    """

    generic: int
    specific: tuple[int, ...]
    embedding: int = 0
    width: int = 64
    dropout: float = 0.1


@dataclass(frozen=True, kw_only=True)
class SpiderSettings:
    """How a scorer is trained; the defaults are the published script's.

    Attributes:
        epochs: passes over the training tasks.
        batch_size: tasks per step.
        lr: learning rate of Adam, falling to a fiftieth along a cosine.
        most_specific: models that get tokens of their own are drawn from 0 to this number.
        seed: seed of initial values and draws.
    """

    epochs: int = 30
    batch_size: int = 16
    lr: float = 2.5e-4
    most_specific: int = 10
    seed: int = 0


class SpiderScorer(nn.Module):
    """Fitness of M models for a task."""

    def __init__(self, config: SpiderConfig) -> None:
        """Make an untrained scorer."""
        super().__init__()
        self.config = config
        width = config.width
        if config.embedding:
            self.from_weights = nn.Linear(config.embedding, width)
        else:
            self.tokens = nn.Parameter(torch.randn(len(config.specific), width))
        self.from_task = nn.Linear(config.generic, width)
        self.from_model = nn.ModuleList(nn.Linear(size, width) for size in config.specific)
        self.attention = nn.MultiheadAttention(width, 1, config.dropout, batch_first=True)
        self.dropout = nn.Dropout(config.dropout)
        self.inner, self.outer = nn.LayerNorm(width), nn.LayerNorm(width)
        self.head = nn.Linear(width, 1)

    def forward(
        self,
        prototypes: Sequence[Tensor],
        specific: Sequence[Mapping[int, Tensor]],
        embeddings: Tensor | None = None,
    ) -> Tensor:
        """Fitness of every model for each of B tasks, (B, M).

        Args:
            prototypes: (C, P) of each task; the numbers of classes may differ.
            specific: prototypes (C, D_m) of each task by model, for models with own tokens.
            embeddings: (M, E) of the models' weights, where tokens come from those.
        """
        models = self.model_tokens(embeddings)
        tasks, absent = _padded(prototypes)  # (B, C, P), (B, C)
        shape = (len(tasks), len(models))
        nothing = torch.zeros(*shape, 1, dtype=torch.bool)
        parts = [
            models[None, :, None].expand(*shape, 1, -1),
            self.from_task(tasks)[:, None].expand(*shape, -1, -1),
        ]
        masks = [nothing, absent[:, None].expand(*shape, -1)]
        if any(specific):
            own, missing = self._specific_tokens(specific, shape)
            parts.append(own)
            masks.append(missing)
        sequences, ignored = torch.cat(parts, 2).flatten(0, 1), torch.cat(masks, 2).flatten(0, 1)
        read, _ = self.attention(
            sequences[:, :1], sequences, sequences, ignored, need_weights=False
        )
        mixed = self.inner(sequences[:, 0] + self.dropout(read[:, 0]))
        fitness: Tensor = self.head(self.outer(mixed)).view(shape)
        return fitness

    def _specific_tokens(
        self, specific: Sequence[Mapping[int, Tensor]], shape: tuple[int, int]
    ) -> tuple[Tensor, Tensor]:
        """(B, M, C, d) tokens of the models' own prototypes, and where there is none."""
        most = max(len(values) for own in specific for values in own.values())
        tokens = torch.zeros(*shape, most, self.config.width)
        missing = torch.ones(*shape, most, dtype=torch.bool)
        rows, models, found = [], [], []
        for model in sorted({model for own in specific for model in own}):
            having = [row for row, own in enumerate(specific) if model in own]
            values, absent = _padded([specific[row][model] for row in having], most)
            found.append(self.from_model[model](values))
            missing[having, model] = absent
            rows += having
            models += [model] * len(having)
        return tokens.index_put(
            (torch.tensor(rows), torch.tensor(models)), torch.cat(found)
        ), missing

    def model_tokens(self, embeddings: Tensor | None) -> Tensor:
        """(M, d): learned, or from the weights' embeddings (M, E).

        Raises:
            ValueError: if embeddings are needed and not given, or the other way round.
        """
        if bool(self.config.embedding) != (embeddings is not None):
            raise ValueError(
                f"this scorer takes embeddings of width {self.config.embedding} of each model's "
                f"weights (0: none), got {None if embeddings is None else tuple(embeddings.shape)}"
            )
        tokens: Tensor = self.tokens if embeddings is None else self.from_weights(embeddings)
        return tokens


def ranking_loss(fitness: Tensor, labels: Tensor) -> Tensor:
    """Negative log likelihood of the labels' order (Plackett-Luce), per decision.

    Args:
        fitness: (M,).
        labels: (M,); of equal labels the first model counts as better.
    """
    order = torch.argsort(labels, descending=True, stable=True)
    ordered = fitness[order]
    rest = torch.logcumsumexp(ordered.flip(0), 0).flip(0)
    return (rest - ordered)[:-1].mean()


def train_spider(
    tasks: Sequence[SpiderTask],
    labels: np.ndarray,
    config: SpiderConfig,
    settings: SpiderSettings | None = None,
    embeddings: np.ndarray | None = None,
) -> SpiderScorer:
    """Train a scorer.

    Args:
        tasks: training tasks, without images of any target.
        labels: (tasks, M), an order of the models for each, see `aggregation`.
        config: what the scorer is made of.
        settings: training settings; None takes the defaults.
        embeddings: (M, E) of the models' weights, where tokens come from those.
    """
    settings = settings or SpiderSettings()
    rng = np.random.default_rng(settings.seed)
    with own_random_numbers(settings.seed):
        scorer = SpiderScorer(config).train()
        optimizer = torch.optim.Adam(scorer.parameters(), settings.lr)
        steps = settings.epochs * -(-len(tasks) // settings.batch_size)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(
            optimizer, steps, eta_min=settings.lr / 50
        )
        known = _tensor(embeddings)
        targets = torch.from_numpy(np.asarray(labels, np.float32))
        for _ in range(settings.epochs):
            order = rng.permutation(len(tasks))
            for batch in np.split(
                order, range(settings.batch_size, len(order), settings.batch_size)
            ):
                count = int(rng.integers(min(settings.most_specific, len(config.specific)) + 1))
                inputs = [
                    _inputs(tasks[index], rng.choice(len(config.specific), count, replace=False))
                    for index in batch
                ]
                fitness = scorer(*zip(*inputs, strict=True), known)
                losses = [ranking_loss(*pair) for pair in zip(fitness, targets[batch], strict=True)]
                optimizer.zero_grad()
                torch.stack(losses).mean().backward()
                optimizer.step()
                schedule.step()
    return scorer.eval()


def spider_scores(
    scorer: SpiderScorer, task: SpiderTask, k: int, embeddings: np.ndarray | None = None
) -> np.ndarray:
    """Fitness of the models, (M,): ranked from the task alone, then again with k models' tokens.

    The first k of the first ranking are ranked among themselves by their second fitness, and stay
    before the rest: a second fitness rests on more and is not on the first one's scale.

    Args:
        scorer: trained, in evaluation mode.
        task: the target.
        k: number of models that are run on the target's images.
        embeddings: (M, E) of the models' weights, where tokens come from those.

    Raises:
        ValueError: if k is negative.
    """
    if k < 0:
        raise ValueError(f"k must be at least 0, got {k!r}")
    with torch.no_grad():
        known = _tensor(embeddings)
        fitness = _fitness(scorer, task, [], known)
        chosen = np.argsort(-fitness, kind="stable")[:k]
        if not len(chosen):
            return fitness
        second = _fitness(scorer, task, chosen, known)
    lowest, highest = second[chosen].min(), np.delete(fitness, chosen).max(initial=-np.inf)
    fitness[chosen] = second[chosen] + max(0.0, highest - lowest + 1e-3)
    return fitness


def choose_budget(
    scorer: SpiderScorer,
    tasks: Sequence[SpiderTask],
    labels: np.ndarray,
    budgets: Sequence[int],
    embeddings: np.ndarray | None = None,
) -> tuple[int, dict[int, float]]:
    """The budget k with the best mean weighted tau on held-out tasks, the smaller of equals.

    Args:
        scorer: trained.
        tasks: held-out tasks, neither training tasks nor targets.
        labels: (tasks, M), as in training.
        budgets: values of k to try.
        embeddings: (M, E) of the models' weights, where tokens come from those.

    Returns:
        The best k, and the mean weighted tau by k.
    """
    taus = {
        k: float(
            np.mean(
                [
                    weighted_tau(label, spider_scores(scorer, task, k, embeddings))
                    for task, label in zip(tasks, labels, strict=True)
                ]
            )
        )
        for k in budgets
    }
    return min(budgets, key=lambda k: (-taus[k], k)), taus


def prototypes(features: np.ndarray, one_hot: np.ndarray) -> np.ndarray:
    """Mean feature of each class, (C, D).

    Args:
        features: features of the images, (N, D).
        one_hot: class indicators of the images, (N, C).
    """
    means: np.ndarray = one_hot.T @ features / one_hot.sum(axis=0)[:, None]
    return means


def save_spider(scorer: SpiderScorer, folder: Path, models: Sequence[str], k: int) -> None:
    """Save a scorer as safetensors and JSON, readable without running code.

    Args:
        scorer: trained.
        folder: made if need be.
        models: names of the M models, in order.
        k: the budget that was chosen.
    """
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    save_file(scorer.state_dict(), folder / WEIGHTS_NAME)
    config = {"format": FORMAT, "models": list(models), "k": k, **asdict(scorer.config)}
    temporary = folder / f"{CONFIG_NAME}.tmp"
    temporary.write_text(json_text(config, indent=1), encoding="utf-8")
    os.replace(temporary, folder / CONFIG_NAME)


def load_spider(folder: Path) -> tuple[SpiderScorer, list[str], int]:
    """A saved scorer, the names of its models, and its budget.

    Raises:
        ZooNotFoundError: if there is none.
        ZooFormatError: if the files are damaged or of another format.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not (folder / CONFIG_NAME).is_file():
        raise ZooNotFoundError(f"no Model Spider at {folder}: `save_spider` writes one")
    try:
        config = json.loads((folder / CONFIG_NAME).read_text(encoding="utf-8"))
        if config.pop("format") != FORMAT:
            raise ZooFormatError(f"{folder}: format must be {FORMAT!r}")
        models, k = config.pop("models"), config.pop("k")
        scorer = SpiderScorer(SpiderConfig(**{**config, "specific": tuple(config["specific"])}))
        scorer.load_state_dict(load_file(folder / WEIGHTS_NAME))
    except (ValueError, KeyError, TypeError, RuntimeError, SafetensorError, OSError) as error:
        raise ZooFormatError(f"{folder} holds no whole Model Spider: {error}") from error
    return scorer.eval(), models, k


def _padded(values: Sequence[Tensor], length: int | None = None) -> tuple[Tensor, Tensor]:
    """Rows of all padded to one length with zeros, (B, C, P), and which are padding, (B, C)."""
    padded = nn.utils.rnn.pad_sequence(list(values), batch_first=True)
    if length is not None:
        padded = nn.functional.pad(padded, (0, 0, 0, length - padded.shape[1]))
    counts = torch.tensor([len(one) for one in values])
    return padded, torch.arange(padded.shape[1])[None] >= counts[:, None]


def _fitness(
    scorer: SpiderScorer, task: SpiderTask, chosen: Sequence[int] | np.ndarray, known: Tensor | None
) -> np.ndarray:
    """(M,) for one task."""
    generic, own = _inputs(task, chosen)
    values: np.ndarray = scorer([generic], [own], known)[0].numpy()
    return values


def _inputs(
    task: SpiderTask, chosen: Sequence[int] | np.ndarray
) -> tuple[Tensor, dict[int, Tensor]]:
    own = {int(index): _tensor(task.specific(int(index))) for index in chosen}
    generic = _tensor(task.prototypes)
    assert generic is not None
    return generic, {index: values for index, values in own.items() if values is not None}


def _tensor(values: np.ndarray | None) -> Tensor | None:
    return None if values is None else torch.from_numpy(np.asarray(values, np.float32))
