"""Generators on one zoo, each beside copies and averages of the networks that it learned from.

    weightzoo build digits-cnn-seed --models 1500 --out seeds
    python benchmarks/studies/generators.py seeds --out generators [--only NAME ...]

Trains every generator with `weightzoo train`, draws networks with `weightzoo sample` and judges
them with `weightzoo memorisation`, on the last checkpoints. The baseline draws
each weight separately (KDE, kernel density estimation, of the best 30 %). Writes `generators.json`
and `generators.md`; a generator that is judged already is not trained again.
"""

import argparse
import json
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from weightzoo import load_zoo
from weightzoo.cli.main import main as weightzoo
from weightzoo.tasks.autoencoding.canonical import Canonical, last_rows
from weightzoo.tasks.autoencoding.learnable_rows import homogeneous_splits, top_rows
from weightzoo.tasks.generation.generated_zoo import write_generated_zoo
from weightzoo.tasks.generation.memorisation import difference_interval
from weightzoo.tasks.generation.sampling import KernelDensity
from weightzoo.zoos.disk import write_whole
from weightzoo.zoos.strict_json import json_text

SEPARATE = "each weight separately (KDE of the best 30 %)"
AUTOENCODER = "hyper-representation ZOO --set least_epoch=25"
FLOW = "flow-matching ZOO --rows last --set top=1.0"
GENERATORS = {
    SEPARATE: "",
    "autoencoder of weights alone, 64 latent values": f"{AUTOENCODER} --behaviour 0",
    "autoencoder of weights alone, 512 latent values, one block": (
        f"{AUTOENCODER} --behaviour 0 --set latent=512 --set blocks=1"
    ),
    "autoencoder with behavioural loss": AUTOENCODER,
    "flow on 64 principal components": f"{FLOW} --set components=64",
    "flow on 512 principal components": f"{FLOW} --set components=512",
    "flow on all weights": f"{FLOW} --set components=0",
}
"""Arguments of `weightzoo train` by name in the table; the baseline is not trained."""
RIVALS = (SEPARATE, "averages of two", "copies with noise 0.3")
MEASURES = ("accuracy", "distance", "agreement")


def main() -> None:
    """Train, draw and judge what is missing, then write the table of all."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("zoo", type=Path, help="zoo in which only the seed differs")
    parser.add_argument("--out", type=Path, required=True, help="folder")
    parser.add_argument("--models", type=int, default=100, help="networks a set (default 100)")
    parser.add_argument("--only", nargs="+", metavar="NAME", help=f"some of {list(GENERATORS)}")
    options = parser.parse_args()
    torch.set_num_threads(1)
    for name in options.only or GENERATORS:
        folder = options.out / name.replace(" ", "-").replace(",", "").replace("%", "percent")
        if not (folder / "judged" / "report.json").exists():
            judge(options.zoo, folder, GENERATORS[name], options.models)
        write_table(options.out, collected(options.out, options.zoo.name))


def judge(zoo: Path, folder: Path, training: str, models: int) -> None:
    """Train a generator, draw networks from it, and compare them with its train networks.

    Args:
        zoo: zoo folder.
        folder: folder of this generator.
        training: arguments of `weightzoo train`; empty for the baseline.
        models: number of networks in every set.
    """
    drawn = folder / "drawn"
    folder.mkdir(parents=True, exist_ok=True)
    if training:
        command(f"train {training} --out MODEL", ZOO=zoo, MODEL=folder / "model")
        command(
            f"sample MODEL --count {models} --out DRAWN --overwrite",
            MODEL=folder / "model",
            DRAWN=drawn,
        )
    else:
        draw_separately(zoo, drawn, models)
    command(
        f"memorisation ZOO DRAWN --models {models} --out JUDGED",
        ZOO=zoo,
        DRAWN=drawn,
        JUDGED=folder / "judged",
    )
    write_whole(folder / "training.txt", training.encode())


def command(text: str, **paths: Path) -> None:
    """Run a command of the package in this process.

    Args:
        text: its arguments, with words in capitals in place of paths.
        **paths: paths by word.

    Raises:
        SystemExit: if the command fails.
    """
    words = [str(paths.get(word, word)) for word in shlex.split(text)]
    if code := weightzoo(words):
        raise SystemExit(code)


def draw_separately(zoo: Path, out: Path, models: int) -> None:
    """Write networks whose weights are drawn one by one, each near that of a good network.

    Args:
        zoo: zoo folder.
        out: zoo folder to make.
        models: number of networks.
    """
    train, _ = homogeneous_splits(load_zoo(zoo), 0)
    last = train.select(last_rows(train))
    good = top_rows(torch.tensor(last.columns["val_accuracy"]), 0.3)
    weights = Canonical.fit(last, True).weights(last)[good]
    drawn = KernelDensity().fit(weights).sample(models, torch.Generator().manual_seed(0))
    write_generated_zoo(out, drawn, last, {"name": SEPARATE}, seed=0, overwrite=True)


def collected(out: Path, zoo: str) -> dict[str, Any]:
    """Means of all judged generators and controls, with differences of accuracy.

    Args:
        out: folder of the generators.
        zoo: name of the zoo.
    """
    reports = {
        (path.parent.parent / "training.txt").read_text(): json.loads(path.read_text())
        for path in sorted(out.glob("*/judged/report.json"))
    }
    found = {name: reports[text] for name, text in GENERATORS.items() if text in reports}
    sets = {name: report["sets"]["generated"] for name, report in found.items()}
    newest = list(found.values())[-1]
    controls = {name: one for name, one in newest["sets"].items() if name != "generated"}
    rows = {name: _summary(one) for name, one in sets.items()}
    for name, row in rows.items():
        rivals = {rival: {**sets, **controls}.get(rival) for rival in RIVALS if rival != name}
        row |= {
            "training": f"weightzoo train {GENERATORS[name]}" if GENERATORS[name] else "",
            "verdict": found[name]["verdict"],
            "accuracy_minus": {
                rival: _interval(sets[name]["accuracy"], one["accuracy"])
                for rival, one in rivals.items()
                if one is not None
            },
        }
    return {
        "command": f"python {shlex.join(sys.argv)}",
        "zoo": zoo,
        "training_models": newest["training_models"],
        "generators": rows,
        "controls": {name: _summary(one) for name, one in controls.items()},
    }


def write_table(out: Path, found: dict[str, Any]) -> None:
    """Write the numbers as JSON and as a Markdown table.

    Args:
        out: folder.
        found: result of `collected`.
    """
    lines = [
        f"`{found['command']}`; learned from {found['training_models']} networks, 95 % intervals.",
        "",
        "| networks | test accuracy | distance | agreement | verdict | accuracy less averages |",
        "|---|---:|---:|---:|---|---:|",
    ]
    for name, row in {**found["generators"], **found["controls"]}.items():
        less = row.get("accuracy_minus", {}).get("averages of two")
        cells = [_text(row[measure]) for measure in MEASURES]
        cells += [row.get("verdict", ""), _text(less) if less else ""]
        lines.append(f"| {name} ({row['networks']}) | {' | '.join(cells)} |")
    write_whole(out / "generators.json", (json_text(found, indent=1) + "\n").encode())
    write_whole(out / "generators.md", ("\n".join(lines) + "\n").encode())


def _summary(one: dict[str, Sequence[float]]) -> dict[str, Any]:
    nothing = [0.0] * len(one["accuracy"])
    return {"networks": len(nothing)} | {name: _interval(one[name], nothing) for name in MEASURES}


def _interval(mine: Sequence[float], theirs: Sequence[float]) -> list[float]:
    return [round(end, 4) for end in difference_interval(np.array(mine), np.array(theirs))]


def _text(interval: Sequence[float]) -> str:
    mean, low, high = interval
    return f"{mean:.2f} ({low:.2f} to {high:.2f})"


if __name__ == "__main__":
    main()
