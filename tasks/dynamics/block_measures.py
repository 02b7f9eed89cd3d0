"""Measures of a block of models, family by family.

Shape letters: n rows of the block, M models, K checkpoints, D length of the flat vector.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ...builders.training.objectives import DataSet
from ...loaders import HiddenPermutations, align
from ...zoos.images.signals import SignalSet
from .barriers import barriers, line_losses
from .fisher import fisher_trace
from .measures import FAMILIES
from .networks import EvaluationSet
from .paths import path_measures
from .population_rows import NO_PARTNER, PopulationRows
from .settings import AnalysisSettings
from .sharpness import (
    HessianProducts,
    extreme_eigenvalues,
    hessian_trace,
    m_sharpness,
    random_signs,
    random_start,
)
from .spectra import spectrum_measures

ROWS_AT_ONCE = 8  # graphs of second derivatives held at once
VAL_IMAGES = 4  # val images per train image
PREDICTIONS = "predictions"
FISHER = "fisher_trace"
SHARPNESS = tuple(measure.name for measure in FAMILIES["sharpness"].measures)

Columns = dict[str, np.ndarray]


@dataclass(frozen=True)
class Block:
    """Some models of a zoo, and what measuring them takes.

    Attributes:
        population: rows of the zoo.
        models: row numbers of each model, in order of epoch.
        data: image set or signal set; None if no family runs networks.
        settings: settings of the analysis.
    """

    population: PopulationRows
    models: list[np.ndarray]
    data: DataSet | None
    settings: AnalysisSettings

    @property
    def rows(self) -> np.ndarray:
        """Row numbers of all models, one model after the other, (n,)."""
        return np.concatenate(self.models)

    def ok_rows(self, rows: np.ndarray) -> np.ndarray:
        """The rows that did not diverge and whose weights are finite."""
        rows = rows[self.population.is_ok[rows]]
        return rows[self.population.dataset.weights(rows).isfinite().all(dim=1).numpy()]

    def run_rows(self, rows: np.ndarray) -> np.ndarray:
        """The rows whose networks are run: those of the chosen epochs that did not diverge."""
        if self.settings.epochs is not None:
            chosen = np.isin(self.population.column("epoch")[rows], self.settings.epochs)
            rows = rows[chosen]
        return self.ok_rows(rows)

    def evaluation_set(self, rows: np.ndarray, part: str = "train") -> EvaluationSet:
        """Inputs and targets of some rows.

        Args:
            rows: row numbers.
            part: "train", "val" or "test".
        """
        assert self.data is not None
        count = self.settings.image_count * (VAL_IMAGES if part == "val" else 1)
        return self.population.evaluation_set(self.data, rows, part, count, self.settings.seed)

    def spread(self, rows: np.ndarray, values: Columns) -> Columns:
        """Values of some rows as values of all rows of the block, NaN for the others.

        Args:
            rows: row numbers of the values.
            values: values of these rows, by name.
        """
        index = {row: position for position, row in enumerate(self.rows.tolist())}
        positions = [index[row] for row in rows.tolist()]
        found = {}
        for name, column in values.items():
            full = np.full((len(self.rows), *column.shape[1:]), np.nan)
            full[positions] = column
            found[name] = full
        return found


def measure_paths(block: Block) -> Columns:
    """The family "paths"."""
    found = []
    for index, weights, epochs in block.population.paths(block.models):
        values = {k: v.flatten().numpy() for k, v in path_measures(weights, epochs).items()}
        found.append(block.spread(index.reshape(-1), values))
    return {name: _first_known([part[name] for part in found]) for name in found[0]}


def measure_spectra(block: Block) -> Columns:
    """The family "spectra"."""
    dataset = block.population.dataset
    values = spectrum_measures(dataset.weights(block.rows), dataset.header.layer_table)
    return {name: column.numpy() for name, column in values.items()}


def measure_sharpness(block: Block) -> Columns:
    """The family "sharpness"."""
    return _by_rows(block, _sharpness, dict.fromkeys(SHARPNESS, ()))


def measure_fisher(block: Block) -> Columns:
    """The family "fisher"."""
    return _by_rows(block, _fisher, {FISHER: ()})


def measure_predictions(block: Block) -> Columns:
    """Predicted classes of val images, from which the family "agreement" is computed."""
    width = len(block.evaluation_set(block.rows[:0], "val"))
    return _by_rows(block, _predictions, {PREDICTIONS: (width,)})


def measure_barriers(block: Block) -> Columns:
    """The family "barriers"."""
    pairs = [(a, b) for rows in block.models for a, b in zip(rows, rows[1:], strict=False)]
    starts = [(rows[0], row) for rows in block.models for row in rows[1:]]
    shared = not isinstance(block.data, SignalSet)  # networks of other signals are no partners
    known = block.population.partners(block.settings.seed) if shared else {}
    others = [(row, known[row]) for row in block.rows.tolist() if row in known]
    found = _barrier_columns(block, starts, ("path_barrier",))
    found |= _barrier_columns(block, pairs, ("step_barrier",))
    found |= _barrier_columns(block, others, ("barrier", "barrier_aligned"), first=True)
    ids = block.population.column("model_id")
    partner = np.full(len(block.rows), NO_PARTNER, np.int64)
    for position, row in enumerate(block.rows.tolist()):
        partner[position] = ids[known[row]] if row in known else NO_PARTNER
    return found | {"barrier_partner": partner}


MEASURES: dict[str, Callable[[Block], Columns]] = {
    "paths": measure_paths,
    "spectra": measure_spectra,
    "sharpness": measure_sharpness,
    "fisher": measure_fisher,
    "agreement": measure_predictions,
    "barriers": measure_barriers,
}
"""What each family computes for a block, (n, ...) by name."""


def _by_rows(
    block: Block,
    measure: Callable[[Block, np.ndarray, Tensor], dict[str, Tensor]],
    shapes: Mapping[str, tuple[int, ...]],
) -> Columns:
    """Measure the rows whose networks are run, some at once.

    Args:
        block: block of models.
        measure: function of the block, row numbers and their weights to values by name.
        shapes: shape of one row's value, by name.
    """
    rows = block.run_rows(block.rows)
    parts = {name: [torch.empty(0, *shape)] for name, shape in shapes.items()}
    for start in range(0, len(rows), ROWS_AT_ONCE):
        some = rows[start : start + ROWS_AT_ONCE]
        for name, value in measure(block, some, block.population.dataset.weights(some)).items():
            parts[name].append(value)
    joined = {name: torch.cat([v.double() for v in values]) for name, values in parts.items()}
    return block.spread(rows, {name: value.numpy() for name, value in joined.items()})


def _sharpness(block: Block, rows: np.ndarray, weights: Tensor) -> dict[str, Tensor]:
    settings = block.settings
    networks, data = block.population.networks(rows), block.evaluation_set(rows)
    products = HessianProducts(networks.losses(data), weights)
    start = random_start(weights, settings.seed)
    largest, smallest = extreme_eigenvalues(products, start, settings.steps)
    trace = hessian_trace(products, random_signs(settings.probes, weights, settings.seed))
    batches = [networks.losses(part) for part in data.batches(settings.batch)]
    rise = m_sharpness(batches, weights, settings.radius)
    adaptive = m_sharpness(batches, weights, settings.adaptive_radius, adaptive=True)
    values = (largest, smallest, trace, products.gradient.norm(dim=1), rise, adaptive)
    return dict(zip(SHARPNESS, values, strict=True))


def _fisher(block: Block, rows: np.ndarray, weights: Tensor) -> dict[str, Tensor]:
    networks, data = block.population.networks(rows), block.evaluation_set(rows)
    probes, seed = block.settings.fisher_probes, block.settings.seed
    trace = fisher_trace(
        lambda w: networks.outputs(w, data.inputs), weights, data.classes, probes, seed
    )
    return {FISHER: trace}


def _predictions(block: Block, rows: np.ndarray, weights: Tensor) -> dict[str, Tensor]:
    inputs = block.evaluation_set(rows, "val").inputs
    outputs = block.population.networks(rows).fast_outputs(weights, inputs)
    return {PREDICTIONS: outputs.argmax(2)}


def _barrier_columns(
    block: Block, pairs: list[tuple[int, int]], names: tuple[str, ...], first: bool = False
) -> Columns:
    """Barriers of lines between pairs of rows, at the second row, or at the first one.

    Args:
        block: block of models.
        pairs: pairs of row numbers.
        names: name of the column, and of that after alignment.
        first: whether values belong to the first row of a pair.
    """
    ok = set(block.ok_rows(np.unique(np.array(pairs, np.int64).reshape(-1))).tolist())
    run = set(block.run_rows(block.rows).tolist())
    pairs = [(a, b) for a, b in pairs if {a, b} <= ok and (a if first else b) in run]
    found: dict[str, list[Tensor]] = {name: [] for name in names}
    for start in range(0, len(pairs), ROWS_AT_ONCE):
        some = np.array(pairs[start : start + ROWS_AT_ONCE], np.int64)
        one, two = (block.population.dataset.weights(column) for column in some.T)
        own = some[:, 0] if first else some[:, 1]
        losses = block.population.networks(own).fast_losses(block.evaluation_set(own))
        ends = [two, *([_aligned(block, two, one)] if len(names) > 1 else [])]
        for name, end in zip(names, ends, strict=True):
            curves = line_losses(losses, one, end, block.settings.points)
            found[name].append(barriers(curves))
    rows = np.array([pair[0 if first else 1] for pair in pairs], np.int64)
    return block.spread(
        rows, {k: torch.cat(v).numpy() if v else np.empty(0) for k, v in found.items()}
    )


def _aligned(block: Block, weights: Tensor, references: Tensor) -> Tensor:
    """Each network with its hidden units in the order of its reference."""
    architecture = block.population.dataset.header.architecture
    assert architecture is not None
    permutations = HiddenPermutations.of(architecture)
    return torch.cat(
        [
            align(one[None], reference, permutations, block.settings.seed)[0]
            for one, reference in zip(weights, references, strict=True)
        ]
    )


def _first_known(columns: list[np.ndarray]) -> np.ndarray:
    """The one value of each row among columns that are NaN where they say nothing."""
    found = columns[0]
    for column in columns[1:]:
        found = np.where(np.isnan(found), column, found)
    return found
