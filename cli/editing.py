"""The commands that make a zoo of zoos that are there: `edit` and `concat`."""

import argparse
from pathlib import Path
from typing import Any

from .arguments import add_command, check_folder, print_result


def add_editing_commands(commands: Any) -> None:
    """Add `edit` and `concat`."""
    edit = add_command(
        commands,
        "edit",
        _edit,
        "write a zoo with some rows or other columns; the zoo itself stays as it is",
        'weightzoo edit mlps --where "epoch == 25" --add-column scores.csv --drop lr --out last',
    )
    edit.add_argument("zoo", type=Path, help="zoo file or folder")
    edit.add_argument("--name", help="which zoo, where there are several (default: the only one)")
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
    concat = add_command(
        commands,
        "concat",
        _concat,
        "write several zoos of one architecture as one; a column that one lacks is missing there",
        "weightzoo concat parents children --same-ids renumber --out family",
    )
    concat.add_argument("zoos", type=Path, nargs="+", help="zoo files or folders")
    concat.add_argument(
        "--same-ids",
        choices=("refuse", "renumber", "keep"),
        default="refuse",
        help="where zoos share a model_id: refuse; renumber the later ones; or keep the ids and "
        "add the column zoo (default: refuse)",
    )
    _add_target(concat)


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
    parts = [part for path in options.zoos for part in load_zoo(path).values()]
    zoo = concatenate_zoos(parts, same_ids=options.same_ids)
    _save(options, zoo)


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
