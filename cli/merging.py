"""The command `merge`."""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from .arguments import (
    add_command,
    check_folder,
    print_result,
    zoo_folder,
)
from .zoo_rows import add_images, add_zoo_rows, zoo_rows


def add_merge_command(commands: Any) -> None:
    """Add `merge`."""
    merge = add_command(
        commands,
        "merge",
        _merge,
        "merge models into one; of checkpoint folders comes a folder that transformers loads, of "
        "a zoo's rows a zoo; a merge that was stopped goes on when started again",
        "weightzoo merge math code --base llama --method ties --set density=0.3 --out merged",
    )
    merge.add_argument(
        "members",
        nargs="*",
        help="checkpoint folders, LoRA adapters, safetensors files, folders of these, model "
        "repositories of the Hub (org/name), or one zoo",
    )
    add_zoo_rows(merge)
    add_images(merge)
    merge.add_argument(
        "--recipe",
        type=Path,
        help="recipe file in place of members and method: TOML of ours, or mergekit's YAML",
    )
    merge.add_argument("--method", default="mean", help="a wrong one lists all (default: mean)")
    merge.add_argument(
        "--base",
        default="",
        help="checkpoint that the members were trained from; of a zoo, a condition on its columns "
        "that one row fulfils",
    )
    merge.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a setting of the method, e.g. scale=0.3 or weights=[1,0.5]; may be given again",
    )
    merge.add_argument(
        "--dtype", default="", help="type of the merged tensors (default: the first member's)"
    )
    merge.add_argument("--out", type=Path, required=True, help="folder to make")
    merge.add_argument("--overwrite", action="store_true", help="replace an earlier merge at --out")
    merge.add_argument(
        "--align",
        action="store_true",
        help="reorder the hidden units of a zoo's models first, for independently trained ones",
    )
    merge.add_argument(
        "--recompute-norms",
        action="store_true",
        help="measure batch-norm statistics of a zoo's merged model anew on its train images",
    )
    merge.add_argument(
        "--repair",
        action="store_true",
        help="rescale hidden units of a zoo's merged model to what they are in its members, for "
        "aligned ones",
    )


def _merge(options: argparse.Namespace) -> None:
    check_folder(options.out)
    recipe = _recipe(options)
    if recipe.zoo is not None:
        _merge_zoo(options, recipe)
        return
    if options.align or options.recompute_norms or options.repair or options.images:
        raise ValueError(
            "--align, --recompute-norms, --repair and --images are for rows of a zoo: leave them "
            "out"
        )
    from dataclasses import asdict

    from tqdm import tqdm

    from ..tasks.merging.merge import merge_checkpoints

    with tqdm(unit="B", unit_scale=True, file=sys.stderr) as bar:

        def progress(done: int, total: int) -> None:
            bar.total = total
            bar.update(done)

        report = merge_checkpoints(
            recipe, options.out, overwrite=options.overwrite, progress=progress
        )
    lines = [f"{_span(*span):>18}  {name}" for name, span in report.weights.items()]
    if report.weights:
        total = [sum(span[end] for span in report.weights.values()) for end in (0, 1)]
        lines = ["weights as applied:", *lines, f"{_span(*total):>18}  sum"]
    lines.append(f"{report.tensors} tensors, {report.size_bytes} bytes in {report.path}")
    print_result(options, asdict(report) | {"path": str(report.path)}, "\n".join(lines))


def _merge_zoo(options: argparse.Namespace, recipe: Any) -> None:
    from ..loaders.load import load_zoo
    from ..tasks.merging.merged_zoo import merge_rows, write_merged_zoo
    from ..tasks.merging.zoo_rows import open_zoo_rows

    zoo, base = open_zoo_rows(recipe.zoo)
    model = merge_rows(
        zoo,
        list(range(len(zoo))),
        recipe,
        base=base,
        aligned=options.align,
        recompute_norms=options.recompute_norms,
        repaired=options.repair,
    )
    write_merged_zoo(options.out, [model], zoo, images=options.images, overwrite=options.overwrite)
    written = next(iter(load_zoo(options.out).values()))
    accuracy = float(written.columns["test_accuracy"][0])
    data = {
        "path": str(options.out),
        "parents": len(zoo),
        "test_accuracy": accuracy,
        "recipe": f"merge-{model.fingerprint}.json",
    }
    text = f"merge of {len(zoo)} models, test accuracy {accuracy:.3f}, in {options.out}"
    print_result(options, data, text)


def _recipe(options: argparse.Namespace) -> Any:
    from dataclasses import asdict, replace

    from ..tasks.merging.recipe import read_merge_recipe
    from ..tasks.merging.recipe_file import load_merge_recipe

    if options.recipe is not None:
        if options.members or options.base or options.set or options.dtype:
            raise ValueError("members, --base, --set and --dtype are in the recipe: leave them out")
        recipe = load_merge_recipe(options.recipe)
        if options.name is None:
            return recipe
        if recipe.zoo is None:
            raise ValueError(f"--name is of a zoo, and {options.recipe} names none: leave it out")
        return replace(
            recipe, zoo=replace(recipe.zoo, path=str(zoo_folder(recipe.zoo.path, options.name)))
        )
    if not options.members:
        raise ValueError("nothing to merge: name members, or a --recipe")
    rows = zoo_rows(options, options.members)
    members: dict[str, Any] = {"members": options.members, "base": options.base}
    if rows is not None:
        members = {"zoo": asdict(rows) | {"base": options.base}}
    return read_merge_recipe(
        members
        | {
            "method": options.method,
            "dtype": options.dtype,
            "settings": dict(_setting(text) for text in options.set),
        }
    )


def _setting(text: str) -> tuple[str, Any]:
    """NAME=VALUE, the value as JSON."""
    name, mark, value = text.partition("=")
    try:
        return name, json.loads(value)
    except ValueError as error:
        raise ValueError(
            f"--set takes NAME=VALUE with a number or a list of numbers, got {text!r}"
        ) from error


def _span(low: float, high: float) -> str:
    return f"{low:.4g}" if abs(high - low) < 1e-9 else f"{low:.4g} to {high:.4g}"
