"""Rows of the merging benchmark for one family: baselines, merges, searches, controls, mixtures.

Every choice looks at val images; the test accuracy of a row is measured once.

Shape letters: M members, D length of the flat weight vector, N images.
"""

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...tasks.merging.families import find_zoo_families
from ...tasks.merging.mixture import fitted_gates, mixture_accuracies
from ...tasks.merging.search import Evaluations, search_weights
from ...tasks.merging.settings import METHODS
from .networks import Judges, Networks
from .plan import Size
from .report import HINDSIGHT, PICK, SINGLE

Row = dict[str, Any]
SCALES = (0.2, 0.3, 0.5, 0.7, 1.0, 1.5)  # of a merged task vector, chosen on val
WITHOUT = ("slerp", "weighted")  # two members; weights that a search finds
SUBSET_METHODS = ("mean", "task_arithmetic", "ties", "model_stock")
SUBSET_SCALE = 0.3  # of task arithmetic, as published for eight tasks
SEARCHES = ("average", "coefficient", "similarity-ascending", "similarity-descending", "cma")
FEW_IMAGES = (20, 50, 200)  # val images of the searches that overfit
OVERFITTING = ("coefficient", "cma")  # searches of most evaluations


def family_rows(networks: Networks, judges: Judges, size: Size, seed: int) -> dict[str, Any]:
    """All rows of one family.

    Args:
        networks: the family and its neighbours.
        judges: val and test images.
        size: amount of work.
        seed: seed of draws.
    """
    start = time.perf_counter()
    family = _Family(networks, judges, size, seed)
    merges = family.methods() | family.searches()
    rows = family.baselines() | merges | family.pick(merges)
    rows |= family.controls() | family.mixtures(rows)
    return {
        "members": networks.count,
        "families_recovered": family.families_recovered(),
        "similarity": family.similarity(),
        "rows": rows,
        "overfitting": family.overfitting(),
        "subsets": family.subsets(),
        "seconds": round(time.perf_counter() - start, 1),
    }


class _Family:
    """The children of one base, and the networks that they are compared with."""

    def __init__(self, networks: Networks, judges: Judges, size: Size, seed: int) -> None:
        self.networks, self.judges, self.size, self.seed = networks, judges, size, seed
        self.weights_MD = networks.members()
        self.val = networks.score(self.weights_MD, judges.val)
        self.test = networks.score(self.weights_MD, judges.test)
        found = find_zoo_families(networks.zoo.select(range(networks.count)), seed=seed)
        self.similarity_MM = found.similarity_MM.numpy()

    def row(self, weights_D: Tensor, evaluations: int = 1, **more: Any) -> Row:
        """Val and test accuracy of one network."""
        one = weights_D[None]
        (val,) = self.networks.score(one, self.judges.val)
        (test,) = self.networks.score(one, self.judges.test)
        return {"val": val, "test": test, "evaluations": evaluations, **more}

    def families_recovered(self) -> bool:
        """Whether the families found are the two that were planted, and singles."""
        count = self.networks.count
        found = find_zoo_families(self.networks.zoo, seed=self.seed)
        groups = sorted(sorted(group) for group in found.groups if len(group) > 1)
        return groups == [list(range(count)), list(range(count, 2 * count))]

    def similarity(self) -> float:
        """Mean column cosine of pairs of members."""
        return float(self.similarity_MM[np.triu_indices(self.networks.count, 1)].mean())

    def baselines(self) -> dict[str, Row]:
        """Base, best single member by val, and the mean accuracy of members."""
        best, count = int(np.argmax(self.val)), len(self.val)
        mean = {"val": float(np.mean(self.val)), "test": float(np.mean(self.test))}
        return {
            "base": self.row(self.networks.base),
            SINGLE: {"val": self.val[best], "test": self.test[best], "evaluations": count},
            "mean accuracy of members": {**mean, "evaluations": count},
        }

    def methods(self) -> dict[str, Row]:
        """Every method; where it has a scale, the best of `SCALES` on val."""
        rows = {}
        for name, method in METHODS.items():
            if name in WITHOUT:
                continue
            companions = self.networks.companions(method.companion)
            scales = SCALES if "scale" in method.settings else (None,)
            merges = [
                self.networks.merge(
                    name,
                    {} if scale is None else {"scale": scale},
                    self.weights_MD,
                    companions=companions,
                )
                for scale in scales
            ]
            val = self.networks.score(torch.stack(merges), self.judges.val)
            best = int(np.argmax(val))
            rows[name] = self.row(merges[best], len(scales), scale=scales[best])
        return rows | {"regmean++": self.row(self.networks.regmean_plus())}

    def mixed(self, weights: Sequence[float]) -> Tensor:
        """(D,): a weighted sum of the members."""
        return torch.tensor(weights, dtype=torch.float32) @ self.weights_MD

    def search(self, strategy: str, judges: Judges) -> Row:
        """The result of a search on val images."""
        evaluations = Evaluations(
            lambda weights: self.networks.score(self.mixed(weights)[None], judges.val)[0],
            self.size.budget,
        )
        similarity, count = self.similarity_MM, self.networks.count
        found = search_weights(strategy, evaluations, count, similarity=similarity, seed=self.seed)
        (test,) = self.networks.score(self.mixed(found.weights)[None], judges.test)
        return {"val": found.score, "test": test, "evaluations": found.evaluations}

    def searches(self) -> dict[str, Row]:
        """Heuristics of Model-GLUE and CMA-ES over weights that sum to 1."""
        return {f"search: {name}": self.search(name, self.judges) for name in SEARCHES}

    def pick(self, merges: dict[str, Row]) -> dict[str, Row]:
        """The merge or search that is best on val, and the one that is best on test."""
        chosen = max(merges, key=lambda name: merges[name]["val"])
        hindsight = max(merges, key=lambda name: merges[name]["test"])
        total = sum(row["evaluations"] for row in merges.values())
        return {
            PICK: merges[chosen] | {"evaluations": total, "pick": chosen},
            HINDSIGHT: merges[hindsight] | {"pick": hindsight},
        }

    def controls(self) -> dict[str, Row]:
        """Merges with networks that do not belong to the family."""
        own = self.weights_MD.mean(0)
        foreign = {
            "an unrelated network": self.networks.unrelated()[0],
            "the other family": self.networks.members(other=True).mean(0),
        }
        rows = {}
        for name, weights in foreign.items():
            pair = torch.stack([own, self.networks.aligned(weights[None])[0]])
            rows[f"control: with {name}"] = self.row((own + weights) / 2)
            rows[f"control: with {name}, aligned"] = self.row(pair.mean(0))
            repaired = self.networks.repaired(pair.mean(0), pair)
            rows[f"control: with {name}, aligned, REPAIR"] = self.row(repaired)
        return rows

    def mixtures(self, rows: dict[str, Row]) -> dict[str, Row]:
        """Mixtures of the members, and of the merges of both families."""
        given = {"scale": rows["task_arithmetic"]["scale"]}
        others = self.networks.members(other=True), self.networks.other_base
        merges = torch.stack(
            [
                self.networks.merge("task_arithmetic", given, self.weights_MD),
                self.networks.merge("task_arithmetic", given, others[0], base=others[1]),
            ]
        )
        return self._mixture("members", self.weights_MD) | self._mixture("two merges", merges)

    def _mixture(self, name: str, weights_MD: Tensor) -> dict[str, Row]:
        experts = self.networks.experts(weights_MD)
        gates = fitted_gates(experts, self.judges.val, self.seed)
        val = mixture_accuracies(experts, gates, self.judges.val)
        test = mixture_accuracies(experts, gates, self.judges.test)
        words = {"mean of probabilities": f"ensemble of {name}", "oracle": f"oracle over {name}"}
        return {
            words.get(key, f"mixture of {name}: {key}"): {
                "val": val[key],
                "test": test[key],
                "evaluations": 1,
            }
            for key in test
            if not key.startswith("expert ")
        }

    def overfitting(self) -> dict[str, dict[str, Row]]:
        """Choices and searches that see few val images."""
        return {str(count): self._chosen_on(count) for count in FEW_IMAGES}

    def _chosen_on(self, count: int) -> dict[str, Row]:
        judges = self.judges.few(count, self.seed)
        val, mean = self.networks.score(self.weights_MD, judges.val), self.weights_MD.mean(0)[None]
        best, scores = (
            int(np.argmax(val)),
            [self.networks.score(mean, part)[0] for part in (judges.val, judges.test)],
        )
        return {
            SINGLE: {"val": val[best], "test": self.test[best], "evaluations": len(val)},
            "mean": {"val": scores[0], "test": scores[1], "evaluations": 1},
        } | {f"search: {name}": self.search(name, judges) for name in OVERFITTING}

    def subsets(self) -> dict[str, dict[str, float]]:
        """How often a merge of random members beats the base and the best of these members."""
        draws, count = np.random.default_rng(self.seed), self.networks.count
        chosen = [
            draws.choice(count, draws.integers(2, count + 1), replace=False).tolist()
            for _ in range(self.size.subsets)
        ]
        (base,) = self.networks.score(self.networks.base[None], self.judges.test)
        singles = [self.test[max(some, key=lambda one: self.val[one])] for some in chosen]
        found = {}
        for method in SUBSET_METHODS:
            given = {"scale": SUBSET_SCALE} if method == "task_arithmetic" else {}
            merges = [self.networks.merge(method, given, self.weights_MD[one]) for one in chosen]
            scores = self.networks.score(torch.stack(merges), self.judges.test)
            pairs = list(zip(scores, singles, strict=True))
            found[method] = {
                "beats_base": float(np.mean([score > base for score in scores])),
                "beats_best_single": float(np.mean([score > single for score, single in pairs])),
            }
        return found
