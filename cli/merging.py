"""The commands about models that belong together: `families`, `merge` and `glue`."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .arguments import (
    add_command,
    add_name,
    check_file,
    check_folder,
    print_result,
    whole,
    zoo_folder,
)


def add_merging_commands(commands: Any) -> None:
    """Add `families`, `merge` and `glue`."""
    _add_families(commands)
    _add_merge(commands)
    _add_glue(commands)


def _add_merge(commands: Any) -> None:
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
    _add_zoo_rows(merge)
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


def _add_families(commands: Any) -> None:
    families = add_command(
        commands,
        "families",
        _families,
        "say which models can be merged with each other; their weights are compared column by "
        "column, against what unrelated weights reach",
        "weightzoo families pool --base llama --plot families.png",
    )
    families.add_argument(
        "members",
        nargs="+",
        help="checkpoint folders, LoRA adapters, safetensors files, folders of these, model "
        "repositories of the Hub (org/name), or one zoo",
    )
    families.add_argument("--base", default="", help="checkpoint they may be trained from")
    _add_zoo_rows(families)
    families.add_argument(
        "--align",
        action="store_true",
        help="reorder the hidden units of a zoo's models first, for independently trained ones",
    )
    families.add_argument(
        "--columns",
        type=whole(2),
        default=64,
        help="columns drawn of every matrix (default: 64); more lower the error",
    )
    families.add_argument("--seed", type=whole(0), default=0, help="of the draws (default: 0)")
    families.add_argument("--plot", type=Path, help="PNG file for a heat map with dendrogram")


def _add_glue(commands: Any) -> None:
    command = add_command(
        commands,
        "glue",
        _glue,
        "find the families of a pool, merge inside each, and mix the merges; a run that was "
        "stopped goes on when started again",
        "weightzoo glue mlps --split train[:20] --out glued",
    )
    command.add_argument("pool", nargs="+", help="a zoo, or checkpoint folders and pools of them")
    command.add_argument("--out", type=Path, required=True, help="folder for report and merges")
    command.add_argument(
        "--evaluate",
        default="accuracy",
        help="of a zoo: accuracy or loss on its val images (default: accuracy); of checkpoints: a "
        "command that prints a number, {model} stands for the folder",
    )
    command.add_argument("--test", default="", help="of checkpoints: the same command on test data")
    command.add_argument(
        "--base",
        default="",
        help="checkpoint they may be trained from; of a zoo, a condition that one row fulfils",
    )
    _add_zoo_rows(command)
    command.add_argument(
        "--strategies",
        default="average,coefficient",
        help="of the search, with commas; a wrong one lists all (default: average,coefficient)",
    )
    command.add_argument(
        "--budget",
        type=whole(1),
        default=100,
        help="most evaluations of a strategy in a family (default: 100)",
    )
    command.add_argument(
        "--choose",
        choices=("val", "rule"),
        default="val",
        help="val: the best of all candidates on val data; rule: only what the rule by kinship "
        "names is evaluated (default: val)",
    )
    command.add_argument(
        "--align", action="store_true", help="reorder the hidden units of a zoo's models first"
    )
    command.add_argument("--seed", type=whole(0), default=0, help="of all draws (default: 0)")


def _add_zoo_rows(command: argparse.ArgumentParser) -> None:
    """Add the options that choose rows where the members are one zoo."""
    add_name(command)
    command.add_argument(
        "--split", default="train", help="of a zoo, e.g. val or train[:20] (default: train)"
    )
    command.add_argument(
        "--where", default="", help="condition on a zoo's columns (default: last checkpoints)"
    )


def _zoo_rows(options: argparse.Namespace, members: Sequence[str]) -> Any:
    """Rows of the zoo that is the only member; None if the members are checkpoints."""
    if not members or options.name is None and not _holds_zoo(members[0]):
        return None
    from ..tasks.merging.recipe import ZooRows

    if len(members) > 1:
        raise ValueError(f"a zoo is taken alone, got {len(members)} members: leave the others out")
    path = str(zoo_folder(members[0], options.name))
    return ZooRows(path=path, split=options.split, where=options.where)


def _holds_zoo(path: str) -> bool:
    """Whether a path is a zoo, a folder of zoos, or an address of the Hub."""
    folders = (Path(path), *Path(path).glob("*/"))
    return path.startswith("hf://datasets/") or any(
        (folder / "zoo.json").is_file() for folder in folders
    )


def _glue(options: argparse.Namespace) -> None:
    check_folder(options.out)
    from ..tasks.merging.glue import glue
    from ..tasks.merging.glue_family import GlueSettings

    settings = GlueSettings(
        strategies=tuple(options.strategies.split(",")),
        budget=options.budget,
        seed=options.seed,
        choose=options.choose,
    )
    report = glue(_pool(options), options.out, settings)
    new, total = report["new_evaluations"], report["evaluations"]
    text = (
        f"{len(report['families'])} families of {len(report['members'])} models, {total} "
        f"evaluations ({new} new), report in {options.out / 'report.md'}"
    )
    print_result(options, report, text)


def _pool(options: argparse.Namespace) -> Any:
    from ..tasks.merging.pools import CheckpointPool, ZooPool

    if (rows := _zoo_rows(options, options.pool)) is not None:
        from dataclasses import replace

        from ..tasks.merging.zoo_rows import open_zoo_rows

        if options.test:
            raise ValueError("a zoo is glued without --test: leave it out")
        zoo, base = open_zoo_rows(replace(rows, base=options.base))
        return ZooPool(zoo, options.evaluate, options.align, base)
    from ..loaders.collections import open_collection

    if "{model}" not in options.evaluate or "{model}" not in options.test:
        raise ValueError(
            "checkpoints need --evaluate and --test, commands in which {model} stands for the "
            "folder of a merge"
        )
    collection = open_collection(options.pool, options.base or None)
    commands = {"val": options.evaluate, "test": options.test}
    return CheckpointPool(collection, options.out, commands)


def _families(options: argparse.Namespace) -> None:
    from ..tasks.merging.families import find_families, find_zoo_families
    from ..tasks.merging.families_report import families_text, plot_families

    if options.plot is not None:
        check_file(options.plot)
    if (rows := _zoo_rows(options, options.members)) is not None:
        from ..tasks.merging.zoo_rows import open_zoo_rows

        if options.base:
            raise ValueError("a zoo is looked at without --base: leave it out")
        zoo, _ = open_zoo_rows(rows)
        found = find_zoo_families(
            zoo, aligned=options.align, columns=options.columns, seed=options.seed
        )
    else:
        from ..loaders.collections import open_collection

        if options.align:
            raise ValueError("--align is for the models of a zoo: leave it out")
        collection = open_collection(options.members, options.base or None)
        found = find_families(collection, columns=options.columns, seed=options.seed)
    if options.plot is not None:
        plot_families(found, options.plot)
    print_result(options, found.to_json(), families_text(found))


def _merge(options: argparse.Namespace) -> None:
    check_folder(options.out)
    recipe = _recipe(options)
    if recipe.zoo is not None:
        _merge_zoo(options, recipe)
        return
    if options.align or options.recompute_norms or options.repair:
        raise ValueError(
            "--align, --recompute-norms and --repair are for rows of a zoo: leave them out"
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
    write_merged_zoo(options.out, [model], zoo, overwrite=options.overwrite)
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
    rows = _zoo_rows(options, options.members)
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
