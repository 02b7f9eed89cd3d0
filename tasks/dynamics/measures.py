"""Catalogue of the measures of `weightzoo analyse`: families, columns, sources, costs and scale."""

from collections.abc import Sequence
from dataclasses import dataclass

from ...zoos.errors import did_you_mean

MOVES, STAYS = "moves", "stays"


@dataclass(frozen=True)
class Measure:
    """One column.

    Attributes:
        name: name of the column.
        text: what it holds, with its formula.
        rescaling: "moves" or "stays" when a layer of a ReLU network is multiplied by a factor and
            the next one divided by it, at all checkpoints alike, which keeps the functions.
    """

    name: str
    text: str
    rescaling: str = MOVES


@dataclass(frozen=True, kw_only=True)
class Family:
    """Measures that are computed together.

    Attributes:
        name: name on the command line.
        measures: its columns; families of spectra have one more per measure and layer.
        source: papers.
        cost: cost for one checkpoint.
        path: whether it needs several checkpoints of a model.
        networks: whether it runs networks, and so needs their architecture and their images.
    """

    name: str
    measures: tuple[Measure, ...]
    source: str
    cost: str
    path: bool = False
    networks: bool = False


FAMILIES: dict[str, Family] = {
    family.name: family
    for family in (
        Family(
            name="paths",
            measures=(
                Measure("weight_norm", "|w|"),
                Measure("step_norm", "|w_k - w_(k-1)|, between neighbouring checkpoints"),
                Measure("path_speed", "step_norm per epoch"),
                Measure("step_cosine", "cosine between the last two steps"),
                Measure("path_length", "sum of the step norms so far"),
                Measure("path_distance", "|w_k - w_0|"),
                Measure("path_straightness", "path_distance / path_length"),
                Measure("path_curvature", "1 / R of the circle through the last 3 checkpoints"),
                Measure("path_turning", "sum of the angles between steps so far, in radians"),
                Measure("path_dimension", "participation ratio of the checkpoints so far"),
            ),
            source="arXiv 2002.10365, 1412.6544; Menger 1930; Gao et al. 2017",
            cost="no forward pass",
            path=True,
        ),
        Family(
            name="spectra",
            measures=(
                Measure("effective_rank", "exp of the entropy of the singular values", STAYS),
                Measure("stable_rank", "|W|_F^2 / |W|_2^2", STAYS),
                Measure(
                    "log_spectral_norm",
                    "log10 of the largest singular value; that of one layer moves",
                    STAYS,
                ),
                Measure("alpha", "exponent of a power law fitted to the squared ones", STAYS),
            ),
            source="Roy and Vetterli 2007; arXiv math/0503442, 0706.1062, 1810.01075",
            cost="one singular value decomposition per layer, no forward pass",
        ),
        Family(
            name="sharpness",
            measures=(
                Measure("hessian_largest", "largest eigenvalue of the Hessian of the train loss"),
                Measure("hessian_smallest", "its smallest eigenvalue"),
                Measure("hessian_trace", "its trace"),
                Measure("gradient_norm", "norm of the gradient of the train loss"),
                Measure("m_sharpness", "rise of the loss at w + r g / |g|, mean over batches of m"),
                Measure("adaptive_sharpness", "the same at w + r w^2 g / |w g|", STAYS),
            ),
            source="arXiv 1901.10159, 1912.07145, 2010.01412, 2102.11600",
            cost="about 25 gradients with the default settings",
            networks=True,
        ),
        Family(
            name="fisher",
            measures=(Measure("fisher_trace", "mean of |grad log p|^2 over classes drawn from p"),),
            source="arXiv 1412.1193, 2012.14193",
            cost="4 backward passes with the default settings",
            networks=True,
        ),
        Family(
            name="agreement",
            measures=(
                Measure("agreement", "share of val images with the class of another model", STAYS),
                Measure("agreement_with_last", "the same with the model's last checkpoint", STAYS),
            ),
            source="arXiv 2106.13799, 2009.08092",
            cost="one forward pass",
            networks=True,
        ),
        Family(
            name="barriers",
            measures=(
                Measure(
                    "step_barrier", "loss barrier of the line from the checkpoint before", STAYS
                ),
                Measure("path_barrier", "loss barrier of the line from the first one", STAYS),
                Measure("barrier", "loss barrier to the last checkpoint of another model"),
                Measure("barrier_aligned", "the same after its hidden units are aligned"),
                Measure("barrier_partner", "model_id of that other model, -1 for none", STAYS),
            ),
            source="arXiv 1412.6544, 1912.05671, 2110.06296, 2209.04836",
            cost="14 forward passes; 14 more for the last checkpoint, and its alignment",
            networks=True,
        ),
    )
}
"""Families by name; the report adds the dimensions of the population, which need no network."""

PATH_ONLY = ("agreement_with_last", "step_barrier", "path_barrier")
"""Columns of other families that need several checkpoints of a model."""


def chosen_families(names: Sequence[str] | None) -> tuple[Family, ...]:
    """The named families in the order of the catalogue; all for None.

    Raises:
        ValueError: if a name is unknown; the message lists the known ones.
    """
    if names is None:
        return tuple(FAMILIES.values())
    if unknown := [name for name in names if name not in FAMILIES]:
        known = list(FAMILIES)
        raise ValueError(
            f"measures must be of {known}, got {unknown}{did_you_mean(unknown, known)}"
        )
    return tuple(family for name, family in FAMILIES.items() if name in names)


def rescaling_notes() -> dict[str, str]:
    """The note on rescaling of every column, "moves" or "stays"."""
    return {one.name: one.rescaling for family in FAMILIES.values() for one in family.measures}
