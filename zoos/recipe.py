"""Recipes: TOML files that describe a population of models to train.

A recipe names an architecture, an image set, the varied factors (each fixed, a grid, or sampled),
seeds, epochs, checkpoints and the split. It expands to the same list of models on every machine,
because models and splits are functions of the recipe and its one integer seed.
"""

import itertools
import math
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from .errors import RecipeError, ZooFormatError, did_you_mean
from .format import SPLITS
from .images.catalog import check_image_set
from .images.signals import is_signal_set
from .networks.architectures import Architecture
from .networks.layer_kind import ACTIVATIONS
from .networks.presets import resolve
from .splits import draw_splits
from .texts.text_set import is_text_set

LONGEST_NAME = 200  # bytes; most file systems allow 255
RECIPE_FOLDER = Path(__file__).parent / "recipes"
INITS = (
    "uniform",
    "normal",
    "truncated_normal",
    "orthogonal",
    "kaiming_uniform",
    "kaiming_normal",
    "xavier_uniform",
    "xavier_normal",
    "siren",
)
OPTIMIZERS = ("sgd", "adam", "adamw", "rmsprop")
SCHEDULES = ("constant", "onecycle", "cosine")
PRECISIONS = ("float32", "bfloat16")
AUGMENTATIONS = ("none", "crop_flip", "flip_rotate")
SAMPLERS = ("choice", "uniform", "log_uniform")
_SPLIT_STREAM, _SUBSET_STREAM, _MODEL_STREAM = 1, 2, 3  # independent uses of the recipe's seed


@dataclass(frozen=True, kw_only=True)
class HyperParameters:
    """Hyper-parameters of one model; every field is a column of the zoo file.

    Attributes:
        activation: name in `layers.ACTIVATIONS`.
        init: name in `INITS`. As in the Model Zoos data sets (arXiv 2209.14764), "uniform" is
            U[0, 1] and "normal" is N(0, init_std). "truncated_normal" is the latter cut at two
            standard deviations. "siren" follows Sitzmann et al. 2020 (arXiv 2006.09661, section
            3.2), also for biases. The others are torch's with their default gain. Norm layers
            start from weight 1 and bias 0, position embeddings and class tokens from N(0, 0.02).
        init_std: standard deviation of "normal" and "truncated_normal"; the others ignore it.
        bias_init: constant that every bias starts from (0.01 in the published zoos).
        optimizer: name in `OPTIMIZERS`, as in torch.optim: "sgd" with `momentum`, "adam" and
            "adamw" with betas 0.9 and 0.999, "rmsprop" with alpha 0.99 and no momentum.
        lr: learning rate; the largest one of a schedule.
        schedule: name in `SCHEDULES`, as in torch.optim.lr_scheduler with its defaults over all
            training steps; "onecycle" also changes the momentum of sgd and beta1 of Adam.
        weight_decay: L2 coefficient added to the gradient, as in torch.optim; "adamw" decouples
            it from the gradient.
        momentum: momentum of sgd; the others ignore it.
        augmentation: name in `AUGMENTATIONS`; "crop_flip" pads the train images by 4, crops and
            mirrors them, "flip_rotate" mirrors and rotates them by up to 20 degrees.
        dropout: rate in [0, 1) of every dropout layer.
        batch_size: images per step; the last batch of an epoch may be smaller.
        train_fraction: share of the train images used; the model's seed chooses them.
    """

    activation: str = "relu"
    init: str = "kaiming_uniform"
    init_std: float = 1.0
    bias_init: float = 0.01
    optimizer: str = "adam"
    lr: float = 1e-3
    schedule: str = "constant"
    weight_decay: float = 0.0
    momentum: float = 0.9
    augmentation: str = "none"
    dropout: float = 0.0
    batch_size: int = 32
    train_fraction: float = 1.0

    def __post_init__(self) -> None:
        """Reject values that are out of range."""
        _one_of("activation", self.activation, ACTIVATIONS)
        _one_of("init", self.init, INITS)
        _one_of("optimizer", self.optimizer, OPTIMIZERS)
        _one_of("schedule", self.schedule, SCHEDULES)
        _one_of("augmentation", self.augmentation, AUGMENTATIONS)
        _between("init_std", self.init_std, 0, math.inf)
        _between("lr", self.lr, 0, math.inf)
        _between("weight_decay", self.weight_decay, 0, math.inf)
        _between("bias_init", self.bias_init, -math.inf, math.inf)
        _between("momentum", self.momentum, 0, 1)
        _between("dropout", self.dropout, 0, 0.999)
        _between("train_fraction", self.train_fraction, 0, 1)
        if self.train_fraction == 0:
            raise RecipeError("train_fraction must be above 0, got 0: a model needs images")
        _whole("batch_size", self.batch_size, 1)


@dataclass(frozen=True, kw_only=True)
class Model:
    """One model of the population.

    Attributes:
        model_id: index in the recipe's full expansion.
        seed: seed of initial weights, data order, subset of images and dropout.
        split: split of the model, one of `SPLITS`.
        hyper_parameters: hyper-parameters of the model.
    """

    model_id: int
    seed: int
    split: str
    hyper_parameters: HyperParameters


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A population of models to train.

    Attributes:
        name: name of the zoo and of its folder.
        description: description in one line.
        architecture: architecture that all models share.
        images: name of the training data: an image set of `images.load_images`, a text set of
            `text_set.load_texts`, or a signal set of `signals.load_signals`, where each model
            fits one signal.
        factors: value by field of `HyperParameters`: a plain value is fixed, a list is a grid,
            a table {choice | uniform | log_uniform = [...]} is drawn for every model.
        seeds: number of models per combination of the grid.
        seed_kind: "fixed" gives every combination the seeds 1 to `seeds`, "random" draws them.
        epochs: number of passes over the model's training images.
        checkpoints: epochs at which weights are stored; 0 is the initial state.
        split: share of models by split.
        seed: seed of sampling, subset and split.
        precision: type of forward and backward pass in training, one of `PRECISIONS`; weights,
            optimizer, norms and all measurements stay in float32.

    Example:
        >>> from dataclasses import replace
        >>> from weightzoo import load_recipe
        >>> recipe = replace(load_recipe("digits-mlp"), epochs=2, checkpoints=(0, 2), seeds=5)
        >>> recipe.size, [model.split for model in recipe.models()]
        (5, ['val', 'train', 'test', 'train', 'train'])
    """

    name: str
    description: str
    architecture: Architecture
    images: str
    factors: dict[str, Any]
    seeds: int
    seed_kind: str
    epochs: int
    checkpoints: tuple[int, ...]
    split: dict[str, float]
    seed: int
    precision: str = "float32"

    def __post_init__(self) -> None:
        """Reject contradictions before any training."""
        for key in ("name", "description"):
            if not isinstance(getattr(self, key), str):
                raise RecipeError(f"{key} must be a text, got {getattr(self, key)!r}")
        _folder_name("name", self.name)
        if not is_signal_set(self.images) and not is_text_set(self.images):
            check_image_set(self.images)
        _one_of("precision", self.precision, PRECISIONS)
        _one_of("seed_kind", self.seed_kind, ("fixed", "random"))
        _whole("seeds", self.seeds, 1)
        _whole("seed", self.seed, 0)
        _whole("epochs", self.epochs, 1)
        _known("factors", self.factors, [field.name for field in fields(HyperParameters)])
        _known("split", self.split, SPLITS)
        for split, share in self.split.items():
            _between(f"split.{split}", share, 0, 1)
        if not math.isclose(sum(self.split.values()), 1.0):
            raise RecipeError(f"split shares must sum to 1, got {self.split!r}")
        ordered = sorted(set(self.checkpoints)) == list(self.checkpoints)
        if not self.checkpoints or not ordered or self.checkpoints[-1] > self.epochs:
            raise RecipeError(
                f"checkpoints must be rising epochs from 0 to {self.epochs}, "
                f"got {list(self.checkpoints)!r}"
            )
        for combination in self._grid():
            self._draw(combination, 0)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Recipe":
        """Read a recipe from TOML or JSON data.

        Raises:
            RecipeError: if a key is unknown or missing (the known ones are listed), or a value is
                out of range.
        """
        names = {field.name for field in fields(cls)}
        _known("recipe", data, sorted(names))
        optional: dict[str, Any] = {
            "description": "",
            "seeds": 1,
            "seed_kind": "random",
            "seed": 0,
            "precision": "float32",
            "factors": {},
        }
        if missing := names - set(data) - set(optional):
            raise RecipeError(f"recipe lacks the keys {sorted(missing)}")
        values = optional | dict(data)
        try:
            values["architecture"] = resolve(values["architecture"])
        except ZooFormatError as error:
            raise RecipeError(str(error)) from error
        for key in ("factors", "split"):
            if not isinstance(values[key], Mapping):
                raise RecipeError(f"{key} must be a mapping, got {values[key]!r}")
        values["checkpoints"] = _checkpoints(values["checkpoints"], values["epochs"])
        return cls(**values)

    def to_json(self) -> dict[str, Any]:
        """Plain data from which `from_json` makes an equal recipe."""
        data = {field.name: getattr(self, field.name) for field in fields(self)}
        return data | {
            "architecture": self.architecture.to_json(),
            "checkpoints": list(self.checkpoints),
        }

    @property
    def size(self) -> int:
        """Number of models, without expanding them."""
        return self.seeds * math.prod(len(values) for values in self._grid_factors().values())

    def models(self, count: int | None = None) -> list[Model]:
        """Expand to the population, each model with its split.

        Args:
            count: number of models: a random subset of a grid (equal for equal seeds), or that
                many draws if no factor is a grid. None takes all.

        Raises:
            RecipeError: if the recipe has fewer models, or they leave a split empty.
        """
        recipe = self
        if count is not None and not self._grid_factors():
            recipe = replace(self, seeds=_whole("models", count, 1))
        chosen = recipe._chosen(count)
        splits = self._assign_splits(len(chosen))
        return [
            Model(
                model_id=index,
                seed=recipe._model_seed(index),
                split=split,
                hyper_parameters=recipe._draw(combination, index),
            )
            for (index, combination), split in zip(chosen, splits, strict=True)
        ]

    def _chosen(self, count: int | None) -> list[tuple[int, dict[str, Any]]]:
        """(model_id, grid values) of the models to train."""
        everything = [
            combination for combination in self._grid() for _ in range(self.seeds)
        ]  # the seeds of one combination follow one another
        if count is None or count == len(everything):
            return list(enumerate(everything))
        _whole("models", count, 1)
        if count > len(everything):
            raise RecipeError(
                f"recipe {self.name!r} has {len(everything)} models, got {count}: take fewer"
            )
        order = np.random.default_rng([self.seed, _SUBSET_STREAM]).permutation(len(everything))
        return [(int(index), everything[index]) for index in sorted(order[:count])]

    def _grid_factors(self) -> dict[str, list[Any]]:
        return {key: value for key, value in self.factors.items() if isinstance(value, list)}

    def _grid(self) -> Iterable[dict[str, Any]]:
        grid = self._grid_factors()
        if any(not values for values in grid.values()):
            raise RecipeError(f"a grid factor needs at least one value, got {grid!r}")
        for values in itertools.product(*grid.values()):
            yield dict(zip(grid, values, strict=True))

    def _draw(self, combination: dict[str, Any], index: int) -> HyperParameters:
        """The hyper-parameters of model `index`: grid values, fixed values and draws."""
        rng = np.random.default_rng([self.seed, _MODEL_STREAM, index])
        rng.integers(2**31)  # the first draw of this stream is the model's seed
        values = {
            key: combination[key] if key in combination else _sample(key, value, rng)
            for key, value in self.factors.items()
        }
        return HyperParameters(**values)

    def _model_seed(self, index: int) -> int:
        if self.seed_kind == "fixed":
            return index % self.seeds + 1
        return int(np.random.default_rng([self.seed, _MODEL_STREAM, index]).integers(2**31))

    def _assign_splits(self, count: int) -> list[str]:
        """Splits by model, a random assignment fixed by the recipe's seed."""
        generator = np.random.default_rng([self.seed, _SPLIT_STREAM])
        assigned = draw_splits(count, self.split, generator)
        for split in SPLITS:
            if self.split.get(split, 0.0) > 0 and split not in assigned:
                raise RecipeError(f"{count} models leave split {split!r} empty: take more models")
        return assigned


def load_recipe(name: str) -> Recipe:
    """Read a shipped recipe by name, or any recipe by the path of its TOML file.

    Raises:
        RecipeError: if no recipe is found (the shipped ones are listed), or it is not valid.

    Example:
        >>> from weightzoo import load_recipe
        >>> recipe = load_recipe("digits-cnn")
        >>> recipe.size, recipe.images
        (256, 'digits')
    """
    path = Path(name) if name.endswith(".toml") else RECIPE_FOLDER / f"{name}.toml"
    if not path.is_file():
        raise RecipeError(
            f"no recipe {name!r}: give one of {recipe_names()}, or the path of a .toml file"
            + did_you_mean(name, recipe_names())
        )
    try:
        return Recipe.from_json(tomllib.loads(path.read_text(encoding="utf-8")))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecipeError) as error:
        raise RecipeError(f"{path}: {error}") from error


def recipe_names() -> list[str]:
    """Names of the shipped recipes, sorted."""
    return sorted(path.stem for path in RECIPE_FOLDER.glob("*.toml"))


def hyper_parameter_names() -> tuple[str, ...]:
    """The hyper-parameter columns, in file order."""
    return tuple(field.name for field in fields(HyperParameters))


def hyper_parameter_columns(models: Iterable[Model]) -> dict[str, np.ndarray]:
    """One column per hyper-parameter with one value per model; text as an object array of str."""
    rows = [asdict(model.hyper_parameters) for model in models]
    return {
        field.name: np.array(
            [row[field.name] for row in rows], object if field.type is str else field.type
        )  # by the field's type: a dropout of 0 must not give a column of integers
        for field in fields(HyperParameters)
    }


def _sample(key: str, value: Any, rng: np.random.Generator) -> Any:
    """A fixed value itself, or one draw from {sampler: arguments}."""
    if not isinstance(value, Mapping):
        return value
    if len(value) != 1 or next(iter(value)) not in SAMPLERS:
        raise RecipeError(f"factor {key!r} must have one sampler of {SAMPLERS}, got {value!r}")
    sampler, arguments = next(iter(value.items()))
    if not isinstance(arguments, list) or not arguments:
        raise RecipeError(f"factor {key!r}: {sampler} takes a list, got {arguments!r}")
    if sampler == "choice":
        return arguments[int(rng.integers(len(arguments)))]
    if len(arguments) != 2 or not all(isinstance(end, int | float) for end in arguments):
        raise RecipeError(f"factor {key!r}: {sampler} takes [low, high], got {arguments!r}")
    low, high = arguments
    lowest = 0 if sampler == "log_uniform" else -math.inf
    if not lowest < low <= high < math.inf:
        raise RecipeError(
            f"factor {key!r}: {sampler} takes [low, high], {lowest} < low <= high < inf, "
            f"got {arguments!r}"
        )
    if sampler == "uniform":
        return float(rng.uniform(low, high))
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def _checkpoints(given: Any, epochs: Any) -> tuple[int, ...]:
    """Epochs from a list, or from {every = n, from = m}: m (0 if not given), m + n, ..."""
    if isinstance(given, Mapping):
        _known("checkpoints", given, ("every", "from"))
        first, step = (
            _whole("from", given.get("from", 0), 0),
            _whole("every", given.get("every"), 1),
        )
        return tuple(range(first, _whole("epochs", epochs, 1) + 1, step))
    if not isinstance(given, list):
        raise RecipeError(f"checkpoints must be a list, or a table {{every, from}}: got {given!r}")
    return tuple(_whole("checkpoints", epoch, 0) for epoch in given)


def _known(what: str, given: Iterable[str], known: Iterable[str]) -> None:
    if odd := sorted(set(given) - set(known)):
        raise RecipeError(f"{what} has unknown keys {odd}, known are {list(known)}")


def _folder_name(key: str, value: str) -> None:
    """Reject a name that would lead out of the working folder: it names the zoo's folder."""
    odd = any(letter in "/\\" or not letter.isprintable() for letter in value)
    if odd or value.startswith(".") or not 0 < len(value.encode()) <= LONGEST_NAME:
        raise RecipeError(
            f"{key} must be the name of a folder: 1 to {LONGEST_NAME} printable characters, no "
            f"slash and no dot in front, got {value[:LONGEST_NAME]!r}"
        )


def _one_of(key: str, value: Any, allowed: Iterable[str]) -> None:
    if value not in list(allowed):
        raise RecipeError(f"{key} must be one of {list(allowed)}, got {value!r}")


def _between(key: str, value: Any, low: float, high: float) -> None:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not math.isfinite(value) or not low <= value <= high:
        raise RecipeError(f"{key} must be a number from {low} to {high}, got {value!r}")


def _whole(key: str, value: Any, low: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < low:
        raise RecipeError(f"{key} must be a whole number from {low}, got {value!r}")
    return value
