"""The commands that make a zoo of zoos that are there: `edit`, `concat` and `attach`."""

import argparse
from pathlib import Path
from typing import Any

from .arguments import (
    add_command,
    add_name,
    add_rebuilt_rows,
    check_folder,
    named_zoos,
    print_result,
    whole,
)


def add_editing_commands(commands: Any) -> None:
    """Add `edit`, `concat` and `attach`."""
    _add_edit(commands)
    _add_concat(commands)
    _add_attach(commands)


def _add_edit(commands: Any) -> None:
    edit = add_command(
        commands,
        "edit",
        _edit,
        "write a zoo with some rows or other columns; the zoo itself stays as it is",
        'weightzoo edit mlps --where "epoch == 25" --add-column scores.csv --drop lr --out last',
    )
    edit.add_argument("zoo", help="zoo file or folder, or org/name on the Hub")
    add_name(edit)
    edit.add_argument("--where", help="keep the rows for which a condition on columns holds")
    edit.add_argument(
        "--add-column",
        type=Path,
        action="append",
        default=[],
        metavar="FILE.csv",
        help="add the columns of a CSV file with a column model_id, and epoch if values differ by "
        "checkpoint; may be given again",
    )
    edit.add_argument(
        "--drop", nargs="+", action="extend", default=[], metavar="COLUMN", help="remove columns"
    )
    edit.add_argument(
        "--rename",
        type=_pair,
        nargs="+",
        action="extend",
        default=[],
        metavar="OLD=NEW",
        help="give columns other names",
    )
    edit.add_argument("--sort", metavar="COLUMN", help="order the models by a column, rising")
    _add_target(edit)


def _add_concat(commands: Any) -> None:
    concat = add_command(
        commands,
        "concat",
        _concat,
        "write several zoos of one architecture as one; a column that one lacks is missing there",
        "weightzoo concat parents children --same-ids renumber --out family",
    )
    concat.add_argument("zoos", nargs="+", help="zoo files or folders, or org/name on the Hub")
    add_name(concat, "join")
    concat.add_argument(
        "--same-ids",
        choices=("refuse", "renumber", "keep"),
        default="refuse",
        help="where zoos share a model_id: refuse; renumber the later ones; or keep the ids and "
        "add the column zoo (default: refuse)",
    )
    _add_target(concat)


def _add_attach(commands: Any) -> None:
    attach = add_command(
        commands,
        "attach",
        _attach,
        "give a zoo of state dicts the architecture of its models; checks the shapes of all "
        "tensors and, if the images are known, that rebuilt models reach their test accuracy",
        "weightzoo attach imported --architecture mine:Network --images mnist",
    )
    attach.add_argument("zoo", type=Path, help="zoo folder, or folder of zoo folders")
    add_name(attach)
    attach.add_argument(
        "--architecture",
        required=True,
        metavar="FILE.toml|MODULE:CLASS",
        help="TOML file with the table architecture of a recipe, or a torch module (class, "
        "instance, or function that returns one) that is traced; its module is imported, also from "
        "the working folder",
    )
    attach.add_argument(
        "--input-shape",
        type=whole(1),
        nargs="+",
        metavar="SIZE",
        help="channels, height and width of an input, or its features (default: derived from the "
        "module)",
    )
    attach.add_argument(
        "--activation",
        help="activation function of all models, for a zoo without the column activation (default: "
        "that of the module)",
    )
    attach.add_argument(
        "--images",
        help="image set that the models are tested on (default: the one that the zoo records)",
    )
    add_rebuilt_rows(attach)
    attach.add_argument(
        "--out", type=Path, help="zoo folder to make (default: replace the zoo itself)"
    )
    attach.add_argument(
        "--overwrite",
        action="store_true",
        help="replace a zoo at --out, or the architecture that the zoo has already",
    )


def _add_target(command: argparse.ArgumentParser) -> None:
    command.add_argument("--out", type=Path, required=True, help="zoo folder to make")
    command.add_argument(
        "--licence",
        help="licence of the new zoo, in the Hub's words (default: that of the old one)",
    )
    command.add_argument("--overwrite", action="store_true", help="replace a zoo at --out")


def _pair(text: str) -> tuple[str, str]:
    old, mark, new = text.partition("=")
    if not (old and mark and new):
        raise argparse.ArgumentTypeError(f"must be OLD=NEW, got {text!r}")
    return old, new


def _edit(options: argparse.Namespace) -> None:
    from ..loaders.csv_columns import add_csv_columns
    from ..loaders.load import concatenate_zoos, load_zoo

    check_folder(options.out)
    zoo = concatenate_zoos(list(load_zoo(options.zoo, options.name).values()))
    zoo = zoo if options.where is None else zoo.filter(options.where)
    try:
        for file in options.add_column:
            zoo = add_csv_columns(zoo, file)
        zoo = zoo.remove_columns(options.drop) if options.drop else zoo
        zoo = zoo.rename_columns(dict(options.rename)) if options.rename else zoo
        zoo = zoo.sort(options.sort) if options.sort else zoo
    except KeyError as error:  # of a column; Python's own message is in quotes
        raise ValueError(error.args[0]) from error
    _save(options, zoo)


def _concat(options: argparse.Namespace) -> None:
    from ..loaders.load import concatenate_zoos, load_zoo

    check_folder(options.out)
    zoos = named_zoos(options.zoos, options.name)
    parts = [part for zoo in zoos for part in load_zoo(zoo).values()]
    zoo = concatenate_zoos(parts, same_ids=options.same_ids)
    _save(options, zoo)


def _attach(options: argparse.Namespace) -> None:
    from dataclasses import asdict

    from ..tasks.inspection.attaching import attach_architecture
    from ..tasks.inspection.named_architectures import named_architecture

    if options.out is not None:
        check_folder(options.out)
    found = attach_architecture(
        options.zoo,
        named_architecture(options.architecture),
        name=options.name,
        input_shape=options.input_shape,
        activation=options.activation,
        images=options.images,
        models=options.models,
        seed=options.seed,
        out=options.out,
        overwrite=options.overwrite,
    )
    if found.tested_rows:
        tested = f"{found.tested_rows} rebuilt models reach their recorded test measure on "
        tested += f"{found.images}"
    else:
        tested = "checked by shapes only; give --images to check recorded test accuracies"
    text = f"architecture {found.architecture} attached to {found.path}: tensors matched by "
    print_result(
        options, asdict(found) | {"path": str(found.path)}, f"{text}{found.matched_by}, {tested}"
    )


def _save(options: argparse.Namespace, zoo: Any) -> None:
    """Write the folder and print what it holds."""
    from ..loaders.editing import save_zoo

    index = save_zoo(zoo, options.out, licence=options.licence, overwrite=options.overwrite)
    models = sum(shard.models for shard in index.shards)
    rows = sum(shard.rows for shard in index.shards)
    size = sum(shard.size_bytes for shard in index.shards)
    data = {"path": str(options.out), "models": models, "rows": rows, "size_bytes": size}
    text = f"{models} models, {rows} checkpoints, {size:,} bytes in {options.out}"
    print_result(options, data, text)
