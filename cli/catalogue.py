"""The commands on zoos that others published: `catalogue`, `protocols` and `fetch`."""

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import Any

from .arguments import add_command, print_result


def add_catalogue_commands(commands: Any) -> None:
    """Add `catalogue`, `protocols` and `fetch`."""
    add_command(
        commands,
        "catalogue",
        _catalogue,
        "list the zoos that others published; with address, size, licence, citation, commands and "
        "known defects",
        "weightzoo catalogue --json",
    )
    add_command(
        commands,
        "protocols",
        _protocols,
        "list the splits on which published figures compare; with rule, ceiling of ties, published "
        "figures, and whether figures of yours compare with them",
        "weightzoo protocols --json",
    )
    fetch = add_command(
        commands,
        "fetch",
        _fetch,
        "download a published zoo; a broken download continues when the same command is given "
        "again, and files are checked where a checksum is published",
        "weightzoo fetch smallcnn-mnist --out smallcnn-mnist",
    )
    fetch.add_argument("name", help="name in `weightzoo catalogue`")
    fetch.add_argument("--out", type=Path, help="folder for the files (default: the name)")


def _catalogue(options: argparse.Namespace) -> None:
    from ..builders.catalogue import CATALOGUE

    rows = [asdict(zoo) | {"page": zoo.page, "commands": zoo.commands} for zoo in CATALOGUE]
    blocks = []
    for zoo in CATALOGUE:
        lines = [f"{zoo.name}: {zoo.contents}", f"  {zoo.paper}; {zoo.licence}; {zoo.size}"]
        lines += [f"  {zoo.page}", *(f"  {command}" for command in zoo.commands)]
        lines += [f"  known: {zoo.defects}"] if zoo.defects else []
        blocks.append("\n".join(lines))
    print_result(options, rows, "\n\n".join(blocks))


def _protocols(options: argparse.Namespace) -> None:
    from ..zoos.protocols.definitions import PROTOCOLS

    blocks = []
    for protocol in PROTOCOLS.values():
        lines = [f"{protocol.name}: {protocol.zoo}", f"  rule: {protocol.rule}"]
        lines += [f"  split file: {protocol.file_source}"] if protocol.file_source else []
        lines += [f"  ceiling of ties: {protocol.tie_ceiling}"]
        lines += [f"  comparable: {protocol.comparable}"]
        lines += [f"  {figure.text}" for figure in protocol.published]
        blocks.append("\n".join(lines))
    rows = [protocol.to_json() for protocol in PROTOCOLS.values()]
    print_result(options, rows, "\n\n".join(blocks))


def _fetch(options: argparse.Namespace) -> None:
    from ..builders.catalogue import published_zoo
    from ..builders.fetching import fetch_published

    zoo = published_zoo(options.name)
    files = fetch_published(zoo, options.out or Path(zoo.name))
    data = {"name": zoo.name, "files": [str(path) for path in files], "licence": zoo.licence}
    size = sum(path.stat().st_size for path in files if path.is_file())
    text = f"{zoo.name}: {len(files)} files, {size} bytes in {files[0].parent}"
    print_result(options, data, text if files[0].is_file() else f"{zoo.name}: in {files[0]}")
