"""The commands `families` and `glue`."""

import argparse
from pathlib import Path
from typing import Any

from .arguments import (
    add_command,
    check_file,
    check_folder,
    print_result,
    whole,
)
from .zoo_rows import add_images, add_zoo_rows, zoo_rows


def add_gluing_commands(commands: Any) -> None:
    """Add `families` and `glue`."""
    _add_families(commands)
    _add_glue(commands)


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
    add_zoo_rows(families)
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
    add_zoo_rows(command)
    add_images(command)
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


def _families(options: argparse.Namespace) -> None:
    from ..tasks.merging.families import find_families, find_zoo_families
    from ..tasks.merging.families_report import families_text, plot_families

    if options.plot is not None:
        check_file(options.plot)
    if (rows := zoo_rows(options, options.members)) is not None:
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

    if (rows := zoo_rows(options, options.pool)) is not None:
        from dataclasses import replace

        from ..tasks.merging.zoo_rows import open_zoo_rows

        if options.test:
            raise ValueError("a zoo is glued without --test: leave it out")
        zoo, base = open_zoo_rows(replace(rows, base=options.base))
        return ZooPool(zoo, options.evaluate, options.align, base, options.images)
    from ..loaders.collections import open_collection

    if options.images:
        raise ValueError("--images is for rows of a zoo: leave it out")
    if "{model}" not in options.evaluate or "{model}" not in options.test:
        raise ValueError(
            "checkpoints need --evaluate and --test, commands in which {model} stands for the "
            "folder of a merge"
        )
    collection = open_collection(options.pool, options.base or None)
    commands = {"val": options.evaluate, "test": options.test}
    return CheckpointPool(collection, options.out, commands)
