"""The commands for existing zoos: `info`, `verify`, `plot`, `pull`, `push`, `card`."""

import argparse
from pathlib import Path
from typing import Any

from .arguments import (
    add_command,
    add_name,
    add_rebuilt_rows,
    check_file,
    print_checks,
    print_result,
    zoo_folder,
)


def add_zoo_commands(commands: Any) -> None:
    """Add `info`, `verify`, `plot`, `pull`, `push` and `card`."""
    info = add_command(
        commands,
        "info",
        _info,
        "print the contents of a zoo: architecture, models, rows, splits, columns",
        "weightzoo info mlps",
    )
    _add_zoo(info)
    _add_verify(commands)
    _add_plot(commands)
    _add_pull(commands)
    _add_push(commands)
    card = add_command(
        commands,
        "card",
        _card,
        "write the dataset card (README.md) of a zoo folder again",
        "weightzoo card mlps",
    )
    card.add_argument("zoo", help="zoo folder, or folder of zoo folders")
    add_name(card)


def _add_verify(commands: Any) -> None:
    verify = add_command(
        commands,
        "verify",
        _verify,
        "check that a zoo is complete and its models work; checks files, checksums, splits and "
        "values, and that rebuilt models reach their test accuracy; exits with 1 if a check fails",
        "weightzoo verify mlps --models 20",
    )
    add_rebuilt_rows(verify)
    _add_zoo(verify)


def _add_plot(commands: Any) -> None:
    plot = add_command(
        commands,
        "plot",
        _plot,
        "plot the accuracy distribution and training trajectories of a zoo, or columns of your "
        "choice",
        "weightzoo plot mlps --x lr --y test_accuracy --colour activation --out mlps.svg",
    )
    plot.add_argument(
        "--out",
        type=Path,
        help="file to write, ending in .png, .pdf or .svg (default: ZOO.png in this folder)",
    )
    plot.add_argument(
        "--x", metavar="COLUMN", help="column of the horizontal axis; alone, its histogram"
    )
    plot.add_argument("--y", metavar="COLUMN", help="column of the vertical axis; needs --x")
    plot.add_argument(
        "--colour", metavar="COLUMN", help="column of the colours of the points; needs --x and --y"
    )
    _add_zoo(plot)


def _add_pull(commands: Any) -> None:
    pull = add_command(
        commands,
        "pull",
        _pull,
        "download a zoo from the Hugging Face Hub, check it, and print its folder in the cache",
        "weightzoo pull ORG/NAME --split train",
    )
    pull.add_argument("repo", help="dataset repository: org/name")
    pull.add_argument("--split", help="split to download: train, val or test (default: all)")
    pull.add_argument(
        "--revision", help="tag, branch or commit (default: latest tag of this format version)"
    )
    add_name(pull)


def _add_push(commands: Any) -> None:
    push = add_command(
        commands,
        "push",
        _push,
        "publish a zoo folder, a folder of zoo folders or a trained model on the Hugging Face Hub; "
        "log in with `hf auth login` first",
        "weightzoo push mlps ORG/NAME --private",
    )
    push.add_argument(
        "--private", action="store_true", help="make a new repository private (default: public)"
    )
    push.add_argument(
        "--overwrite",
        action="store_true",
        help="replace a zoo in the repository that has the same name and other data",
    )
    push.add_argument(
        "--licence",
        metavar="ID",
        help="licence of the publishers of an imported zoo, as the Hub names it, such as mit; "
        "needed where the zoo states none",
    )
    push.add_argument(
        "zoo",
        type=Path,
        help="zoo folder, folder of zoo folders, or folder of an encoder that `weightzoo train` "
        "wrote",
    )
    push.add_argument(
        "repo",
        help="repository to publish in, created if missing: org/name; a dataset repository for "
        "zoos, a model repository for encoders",
    )
    push.add_argument(
        "--encoder",
        metavar="MODULE:CLASS",
        help="class of a trained encoder, if it is not one of weightzoo's",
    )


def _add_zoo(command: argparse.ArgumentParser) -> None:
    command.add_argument("zoo", help="zoo file or folder, or org/name on the Hub")
    add_name(command)


def _info(options: argparse.Namespace) -> None:
    from ..tasks.inspection.summary import summarise_zoo, summary_text

    summary = summarise_zoo(_load(options))
    print_result(options, summary, summary_text(summary))


def _verify(options: argparse.Namespace) -> int:
    from ..tasks.inspection.verification import verify_zoo

    path = zoo_folder(options.zoo, options.name)
    return print_checks(options, verify_zoo(path, options.models, options.seed, progress=True))


def _plot(options: argparse.Namespace) -> None:
    from ..tasks.inspection.column_plot import plot_columns
    from ..tasks.inspection.plots import check_suffix, plot_zoo

    out = options.out or Path(f"{options.name or Path(options.zoo).name}.png")
    check_file(out)
    check_suffix(out)
    if options.x is None and (options.y or options.colour):
        raise ValueError("--y and --colour need --x: name the column of the horizontal axis")
    if options.x is None:
        plot_zoo(_load(options), out)
    else:
        plot_columns(_load(options), out, options.x, options.y, options.colour)
    print_result(options, {"path": str(out)}, str(out))


def _pull(options: argparse.Namespace) -> None:
    from ..loaders.hub.fetching import fetch_zoo

    folder = fetch_zoo(options.repo, options.name, options.split, revision=options.revision)
    print_result(options, {"path": str(folder)}, str(folder))


def _push(options: argparse.Namespace) -> None:
    import tempfile

    from ..loaders.hub.publishing import push_to_hub
    from ..loaders.load import load_zoo
    from ..tasks.inspection.plots import has_measure, plot_zoo
    from ..zoos.mixed_format import is_mixed_folder

    if _is_trained_model(options.zoo):
        _push_model(options)
        return
    with tempfile.TemporaryDirectory() as scratch:
        plot = None
        single = (options.zoo / "zoo.json").is_file() and not is_mixed_folder(options.zoo)
        if single and has_measure(zoo := load_zoo(options.zoo)):
            plot_zoo(zoo, plot := Path(scratch) / "plot.png")
        commit = push_to_hub(
            options.zoo,
            options.repo,
            private=options.private,
            plot=plot,
            licence=options.licence,
            overwrite=options.overwrite,
        )
    print_result(options, {"repo": options.repo, "commit": commit}, f"{options.repo} at {commit}")


def _is_trained_model(folder: Path) -> bool:
    """Whether `weightzoo train` wrote the folder."""
    names = ("config.json", "autoencoder.pt")
    is_zoo = (folder / "zoo.json").is_file()
    return not is_zoo and any((folder / name).is_file() for name in names)


def _push_model(options: argparse.Namespace) -> None:
    from ..tasks.pretrained import load_trained, push_to_hub

    model = load_trained(options.zoo, encoder=options.encoder)
    commit = push_to_hub(model, options.repo, private=options.private)
    print_result(options, {"repo": options.repo, "commit": commit}, f"{options.repo} at {commit}")


def _card(options: argparse.Namespace) -> None:
    from ..loaders.storage.opening import find_zoo
    from ..zoos.cards.card import write_card
    from ..zoos.cards.metadata import CARD_NAME
    from ..zoos.mixed_format import read_index

    folder = find_zoo(Path(options.zoo), options.name)
    write_card(folder, read_index(folder))
    path = folder / CARD_NAME
    print_result(options, {"path": str(path)}, str(path))


def _load(options: argparse.Namespace) -> Any:
    from ..loaders.load import load_zoo

    return load_zoo(options.zoo, options.name)
