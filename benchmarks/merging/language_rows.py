"""Rows of the language benchmark for one family, in bits per byte of every domain.

Shape letters: M members, N windows, T bytes of a window.
"""

import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...loaders.collections import ModelCollection
from ...tasks.merging.layer_stack import stack_layers
from ...tasks.merging.methods import merged
from ...tasks.merging.search import Evaluations, search_weights
from ...tasks.merging.settings import METHODS, read_settings
from ...tasks.merging.zoo_rows import StateMember
from ...tasks.mixtures.block_mixture import fit_routers, mix_layers
from ...tasks.mixtures.expert_checkpoint import assemble_experts
from ...zoos.texts.corpus import DOMAINS, Domain
from .language_scores import PREFIX, Losses, bits, cloze_windows, row_of
from .language_zoo import MORE_RATE, LanguageSize, load_model, token_losses, train_model
from .report import PICK, SINGLE

SCALES = (0.3, 0.5, 1.0)
WITHOUT = ("slerp", "weighted", "fisher", "regmean")  # a pair; a search; other data
GATE_RATE, PROMPT_BYTES, PROMPTS = 1e-2, 2000, 64
GATE_WORDS = {"random": "random gates", "prompts": "prompt gates", "trained": "fitted gates"}


def language_rows(
    base: Path,
    children: Sequence[Path],
    other: Sequence[Path],
    domains: Mapping[str, Domain],
    size: LanguageSize,
    seed: int,
    scratch: Path,
) -> dict[str, Any]:
    """All rows of one family.

    Args:
        base: checkpoint of the base.
        children: checkpoints of the M children, in the order of `DOMAINS`.
        other: children of another base.
        domains: texts by domain.
        size: amount of work.
        seed: seed of draws.
        scratch: folder for assembled checkpoints, which is deleted.
    """
    start = time.perf_counter()
    family = _Family(base, children, domains, size, seed)
    rows = family.baselines() | family.merges() | family.routers()
    rows |= {"control: mean with the other family": family.crossed(other)}
    rows |= family.block_rows() | family.trained_rows(children, scratch)
    return {
        "seed": seed,
        "members": len(children),
        "rows": rows,
        "seconds": round(time.perf_counter() - start, 1),
    }


class _Family:
    """The children of one base, on windows of all domains."""

    def __init__(
        self,
        base: Path,
        children: Sequence[Path],
        domains: Mapping[str, Domain],
        size: LanguageSize,
        seed: int,
    ) -> None:
        self.size, self.seed, self.domains = size, seed, domains
        counts = {"val": size.windows, "test": 2 * size.windows}
        self.windows = {
            split: {n: d.windows(split, count, size.length) for n, d in domains.items()}
            for split, count in counts.items()
        }
        test = self.windows["test"]
        self.windows["cloze"] = {n: cloze_windows(own[::4]) for n, own in test.items()}
        self.base, self.children = load_model(base), [load_model(path) for path in children]
        self.losses = {
            split: [self.measure(child, split) for child in self.children] for split in self.windows
        }

    def measure(self, model: Any, split: str) -> Losses:
        """Losses of a model on the windows of a split."""
        return {name: token_losses(model, own) for name, own in self.windows[split].items()}

    def row(self, model: Any, evaluations: int = 1, **more: Any) -> dict[str, Any]:
        """Bits per byte of a model on val and test, and its cloze accuracy."""
        found = {split: self.measure(model, split) for split in self.windows}
        return row_of(found, evaluations) | more

    def baselines(self) -> dict[str, dict[str, Any]]:
        """Base, best single member by val, the mean of members, and every domain's own child."""
        val = [_mean(losses) for losses in self.losses["val"]]
        best, count = min(range(len(val)), key=val.__getitem__), len(val)
        chosen = {split: own[best] for split, own in self.losses.items()}
        members = [row_of({s: own[i] for s, own in self.losses.items()}, 1) for i in range(count)]
        average = {
            split: {name: sum(m[split][name] for m in members) / count for name in own}
            for split, own in members[0].items()
            if split != "evaluations"
        }
        known = {
            split: {name: own[place][name] for place, name in enumerate(DOMAINS)}
            for split, own in self.losses.items()
        }
        return {
            "base": self.row(self.base),
            SINGLE: row_of(chosen, count, pick=DOMAINS[best]),
            "mean of members": average | {"evaluations": count},
            "every domain's own child": row_of(known, 1),
        }

    def merge(self, method: str, given: dict[str, Any]) -> Any:
        """A model: the children merged by a method."""
        members = [StateMember(str(i), child.state_dict()) for i, child in enumerate(self.children)]
        root = StateMember("base", self.base.state_dict())
        state = merged(method, ModelCollection(members, root), read_settings(method, given))
        return self._with(state)

    def _with(self, state: Mapping[str, Tensor]) -> Any:
        model = type(self.base)(self.base.config)
        model.load_state_dict(state)
        return model.eval()

    def merges(self) -> dict[str, dict[str, Any]]:
        """Every method, scale chosen on val; a search; and the best of these on val."""
        rows = {}
        for name, method in METHODS.items():
            if name in WITHOUT:
                continue
            scales = SCALES if "scale" in method.settings else (None,)
            models = [self.merge(name, {} if s is None else {"scale": s}) for s in scales]
            val = [_mean(self.measure(model, "val")) for model in models]
            best = min(range(len(val)), key=val.__getitem__)
            rows[name] = self.row(models[best], len(scales), scale=scales[best])
        rows["search: coefficient"] = self.search()
        chosen = min(rows, key=lambda name: float(rows[name]["val"]["mean"]))
        spent = sum(row["evaluations"] for row in rows.values())
        return rows | {PICK: rows[chosen] | {"pick": chosen, "evaluations": spent}}

    def search(self) -> dict[str, Any]:
        """The heuristic over weights, on val."""

        def evaluate(weights: Sequence[float]) -> float:
            model = self.merge("weighted", {"weights": list(weights)})
            return -_mean(self.measure(model, "val"))

        found = search_weights("coefficient", Evaluations(evaluate, 100), len(self.children))
        model = self.merge("weighted", {"weights": list(found.weights)})
        return self.row(model, found.evaluations, weights=list(found.weights))

    def crossed(self, other: Sequence[Path]) -> dict[str, Any]:
        """Mean of the children of two bases."""
        models = [*self.children, *map(load_model, other)]
        states = [model.state_dict() for model in models]
        mean = {name: torch.stack([s[name] for s in states]).mean(0) for name in states[0]}
        return self.row(self._with(mean))

    def routers(self) -> dict[str, dict[str, Any]]:
        """Mixtures of whole models: by the loss of the prefix, of probabilities, and an oracle."""
        rows: dict[str, dict[str, Losses]] = {}
        for split, members in self.losses.items():
            for name in DOMAINS:
                losses_MNT = torch.stack([one[name] for one in members])
                prefix_MN = losses_MNT[..., : PREFIX - 1].sum(2)
                rest_MN = losses_MNT[..., PREFIX - 1 :].sum(2)
                ensemble = -losses_MNT.neg().logsumexp(0) + torch.tensor(len(members)).log()
                for key, losses in {
                    "mixture of models: loss of the prefix": _routed(losses_MNT, prefix_MN),
                    "ensemble of probabilities": ensemble,
                    "oracle per window": _routed(losses_MNT, rest_MN),
                }.items():
                    if split == "cloze" and key == "oracle per window":
                        continue  # an oracle would choose by the ending that is asked for
                    rows.setdefault(key, {}).setdefault(split, {})[name] = losses
        return {name: row_of(found, 1) for name, found in rows.items()}

    def block_rows(self) -> dict[str, dict[str, Any]]:
        """Mixtures of decoder layers and of all layers, with gates that see the prefix."""
        rows, mean = {}, self.merge("mean", {})
        for level, shared, gate in (
            ("block", 0, "random"),
            ("block", 0, "prompts"),
            ("block", 0, "trained"),
            ("model", 1, "trained"),
        ):
            model = mix_layers(
                mean, self.children, level, shared_layers=shared, pooled_tokens=PREFIX
            )
            prompts = [d.windows("train", PROMPTS, PREFIX) for d in self.domains.values()]
            fit_routers(model, prompts, gate, self.seed)
            rows[f"{level} mixture: {GATE_WORDS[gate]}"] = self.row(model)
            if (level, gate) == ("block", "trained"):
                rows["block mixture: all trained"] = self.further(model)
        return rows

    def trained_rows(self, children: Sequence[Path], scratch: Path) -> dict[str, dict[str, Any]]:
        """FFN-level mixtures and stacks, before and after training; others trained on as long."""
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir(parents=True)
        stack_layers(children, scratch / "stack")
        stack_layers(children, scratch / "interleaved", "interleave")
        stack, interleaved = (load_model(scratch / name) for name in ("stack", "interleaved"))
        rows = self.ffn_rows(children, scratch) if _has_gated_blocks(self.base) else {}
        rows |= {
            "stack, concatenated": self.row(stack),
            "stack, interleaved": self.row(interleaved),
            "stack, concatenated, trained": self.further(stack),
            "mean, trained as long": self.further(self.merge("mean", {})),
            "base, trained as long": self.further(self._with(self.base.state_dict())),
        }
        shutil.rmtree(scratch)
        return rows

    def ffn_rows(self, children: Sequence[Path], scratch: Path) -> dict[str, dict[str, Any]]:
        """Mixtures of feed-forward blocks, which Llama-type models alone have a layout for."""
        prompts = [self.domains[n].train[:PROMPT_BYTES].tolist() for n in DOMAINS]
        assemble_experts(children, scratch / "random", gate="random", seed=self.seed)
        assemble_experts(children, scratch / "prompts", gate="prompts", prompts=prompts)
        random, prompted = (load_model(scratch / name) for name in ("random", "prompts"))
        return {
            "FFN mixture: random gates": self.row(random),
            "FFN mixture: prompt gates": self.row(prompted),
            "FFN mixture: gates trained": self.further(prompted, GATE_RATE, _is_gate),
            "FFN mixture: all trained": self.further(load_model(scratch / "prompts")),
        }

    def further(self, model: Any, rate: float = MORE_RATE, trained: Any = None) -> dict[str, Any]:
        """A model after further training on all domains."""
        texts = [domain.train for domain in self.domains.values()]
        more = {} if trained is None else {"trained": trained}
        steps, seed = self.size.more_steps, 9000 + self.seed
        train_model(model, texts, self.size, steps=steps, rate=rate, seed=seed, **more)
        return self.row(model, steps=steps)


def _mean(losses: Losses) -> float:
    return bits(losses)["mean"]


def _has_gated_blocks(model: Any) -> bool:
    return bool(model.config.model_type == "llama")


def _routed(losses_MNT: Tensor, score_MN: Tensor) -> Tensor:
    """(N, T): the losses of the member with the lowest score on every window."""
    chosen_N = score_MN.argmin(0)
    return losses_MNT[chosen_N, torch.arange(len(chosen_N))]


def _is_gate(name: str) -> bool:
    """Whether a parameter is a router of a Mixtral model, not a gate inside an expert."""
    return name.endswith("gate.weight")
