"""Completion in the shell: the command `completion`, and the words that options are completed with.

The words are known without torch, because the shell waits for them at every press of the tab key.
"""

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from .arguments import add_command, print_result

SHELLS = ("bash", "zsh", "fish", "tcsh", "powershell")
# Copies of names whose modules import torch; a test compares them.
ENCODERS = (
    "sne sne-paper deepsets neural-graph dng scale-gmn probegen hidden-probe probe-statistics "
    "padded-mlp flat-mlp statistics-mlp nfn-hnp nfn-np nft dwsnet "
    "hyper-representation sane flow-matching"
).split()
IMAGE_SETS = (
    "digits digits-shuffled waves glyphs glyphs-latin glyphs-latin-sans glyphs-latin-serif "
    "glyphs-latin-mono glyphs-greek glyphs-cyrillic glyphs-digits glyphs-textured glyphs-color "
    "glyphs-latin-5k glyphs-greek-5k glyphs-cyrillic-5k glyphs-digits-5k glyphs-textured-5k "
    "mnist mnist-unit fashion-mnist fashion-mnist-unit svhn svhn-grey-28 svhn-grey usps-28 "
    "cifar10 cifar10-28 cifar10-40k cifar10-grey cifar100 stl10 stl10-28 stl10-32 "
    "tiny-imagenet eurosat eurosat-28 eurosat-32"
).split()


def add_completion_command(commands: Any) -> None:
    """Add `completion`."""
    completion = add_command(
        commands,
        "completion",
        _completion,
        "print the code that completes commands, options and names in a shell; evaluate it in the "
        "shell's start-up file",
        "weightzoo completion bash",
    )
    completion.add_argument("shell", choices=SHELLS, help="shell to complete in")


def set_words(commands: Mapping[str, argparse.ArgumentParser]) -> None:
    """Set the words of each argument that takes a known name.

    Args:
        commands: parsers by the name of the command.
    """
    for name, command in commands.items():
        for argument in command._actions:
            words = WORDS.get(f"{name} {argument.dest}") or WORDS.get(argument.dest)
            if words is not None and argument.choices is None:
                argument.completer = words  # type: ignore[attr-defined]


def _completion(options: argparse.Namespace) -> None:
    import argcomplete

    code = argcomplete.shellcode(["weightzoo"], shell=options.shell)
    print_result(options, {"shell": options.shell, "code": code}, code)


def recipe_words(**_: Any) -> list[str]:
    """Names of the shipped recipes."""
    folder = Path(__file__).parents[1] / "zoos" / "recipes"
    return sorted(file.stem for file in folder.glob("*.toml"))


def benchmark_words(**_: Any) -> list[str]:
    """Names of the benchmarks."""
    from ..benchmarks.registry import BENCHMARKS

    return list(BENCHMARKS)


def column_words(parsed_args: argparse.Namespace, **_: Any) -> list[str]:
    """Columns of the zoo that was typed before, read from its first file.

    Args:
        parsed_args: options that were typed before.
        **_: further arguments of argcomplete, which are not used.
    """
    import h5py

    given = parsed_args.zoo
    zoo = Path(given[0] if isinstance(given, list) else given)
    files = [zoo] if zoo.is_file() else sorted(zoo.glob("*.h5"))
    if not files:
        return []
    with h5py.File(files[0], "r") as file:
        return [name for name, data in file.items() if getattr(data, "ndim", 0) == 1]


WORDS: dict[str, Callable[..., list[str]]] = {
    "build recipe": recipe_words,
    "encoder": lambda **_: ENCODERS,
    "images": lambda **_: IMAGE_SETS,
    "targets": lambda **_: IMAGE_SETS,
    "benchmark name": benchmark_words,
    "target": column_words,
    "x": column_words,
    "y": column_words,
    "colour": column_words,
    "split": lambda **_: ["train", "val", "test"],
    "device": lambda **_: ["cpu", "cuda"],
}
"""Words by "command argument", or by the argument's name in all commands."""
