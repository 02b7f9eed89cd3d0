"""The benchmark `merging-language`: families of small language models.

Trained models and finished families stay in the output folder, so that a stopped benchmark
continues.
"""

import json
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from ...loaders.collections import open_collection
from ...tasks.merging.families import find_families
from ...tasks.merging.output import write_text
from ...zoos.strict_json import json_text
from ...zoos.texts.corpus import DOMAINS, read_domain
from ..benchmark import BenchmarkOptions, BenchmarkOutcome, environment
from .language_report import FORMAT, language_markdown
from .language_rows import language_rows
from .language_zoo import (
    ARCHITECTURES,
    FULL,
    SMALL,
    new_model,
    provide_family,
    transformers_classes,
)
from .plan import check_size
from .rule import hindsight_row, rule_rows


def language_benchmark(options: BenchmarkOptions) -> BenchmarkOutcome:
    """Run the benchmark, or what of it is left.

    Raises:
        ValueError: if zoos are given: the benchmark trains its own models; if there is one
            seed, because the control is a merge with the family of another; or if the folder holds
            a run of another size.
        UnsuitableError: if transformers is not installed.
    """
    if options.zoos:
        raise ValueError("benchmark 'merging-language' trains its own models: leave out --zoo")
    if len(options.seeds) < 2:
        raise ValueError(
            "benchmark 'merging-language' needs two seeds or more: the control is a merge with the "
            "family of another seed"
        )
    transformers, start = transformers_classes(), time.perf_counter()
    size, folder = SMALL if options.small else FULL, options.out / "models"
    for made in (folder, options.out / "units"):
        made.mkdir(parents=True, exist_ok=True)
    check_size(options.out, size)
    domains = {name: read_domain(name, size.most_bytes) for name in DOMAINS}
    seeds = options.seeds
    families = {
        (kind, seed): provide_family(folder, domains, size, seed, kind)
        for kind in ARCHITECTURES
        for seed in seeds
    }
    units = []
    for (kind, seed), (base, children) in families.items():
        path = options.out / "units" / f"{kind}-seed-{seed}.json"
        if not path.exists():
            other = families[kind, seeds[(seeds.index(seed) + 1) % len(seeds)]][1]
            scratch = options.out / "scratch"
            unit = language_rows(base, children, other, domains, size, seed, scratch)
            write_text(path, json_text({"architecture": kind} | unit))
        units.append(json.loads(path.read_text()))
    recovered, similar = _families_found([children for _, children in families.values()])
    units = [_with_choices(unit, close) for unit, close in zip(units, similar, strict=True)]
    result = {
        "format": FORMAT,
        "benchmark": "merging-language",
        "command": options.command,
        "small": options.small,
        "seeds": list(seeds),
        "size": asdict(size),
        "parameters": {
            kind: sum(p.numel() for p in new_model(size, 0, kind).parameters())
            for kind in ARCHITECTURES
        },
        "corpus": {
            name: {
                "fingerprint": one.fingerprint,
                "packages": one.packages,
                "bytes": {split: len(getattr(one, split)) for split in ("train", "val", "test")},
            }
            for name, one in domains.items()
        },
        "families_recovered": recovered,
        "environment": environment() | {"transformers": transformers.__version__},
        "seconds": round(time.perf_counter() - start, 1),  # of this start
        "units": units,
    }
    write_text(options.out / "result.json", json_text(result, indent=1) + "\n")
    text, path = language_markdown(result), options.out / "report.md"
    write_text(path, text)
    return BenchmarkOutcome(result, text, path)


def _families_found(families: Sequence[Sequence[Path]]) -> tuple[bool, list[float]]:
    """Whether the families found are those of the bases, and the mean column cosine in each."""
    planted = [[str(path) for path in family] for family in families]
    collection = open_collection([path for family in planted for path in family])
    found = find_families(collection)
    names = [member.name for member in collection.members]
    groups = [sorted(names[member] for member in group) for group in found.groups]
    count, inside = len(planted[0]), list[float]()
    starts = range(0, len(names), count)
    for start in starts:
        part = found.similarity_MM[start : start + count, start : start + count]
        inside.append(float(part[*torch.triu_indices(count, count, 1)].mean()))
    return sorted(groups) == sorted(sorted(names[s : s + count]) for s in starts), inside


def _with_choices(unit: dict[str, Any], similarity: float) -> dict[str, Any]:
    """A family with the rows of the rule and of hindsight."""
    rows = unit["rows"]
    more = hindsight_row(rows, lambda row: -row["test"]["mean"])
    more |= rule_rows(rows, unit["members"], similarity)
    return unit | {"similarity": similarity, "rows": rows | more}


BENCHMARKS = {"merging-language": language_benchmark}
