"""Writes what is made from the code: catalogues, the API reference, the table of recipes, the card.

    python docs/generate.py

writes them beside this file, and the card of the project's own collection into the folder above.
A test compares what lies there with what this script makes, so that no page can go stale.
"""

import argparse
import importlib
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from weightzoo.builders.catalogue import CATALOGUE, NO_LICENCE
from weightzoo.builders.estimate import part_sizes
from weightzoo.builders.imports import FORMATS
from weightzoo.cli.main import _parser
from weightzoo.encoders.registry import ENCODERS
from weightzoo.tasks.release.card import release_card
from weightzoo.tasks.release.collection import load_collection
from weightzoo.tasks.trainings import TRAIN_KINDS
from weightzoo.zoos.cards.licences import LICENCE
from weightzoo.zoos.images.catalog import IMAGE_SETS
from weightzoo.zoos.images.glyphs import GLYPH_SETS
from weightzoo.zoos.images.hub_images import HUB_SETS
from weightzoo.zoos.recipe import load_recipe, recipe_names
from weightzoo.zoos.recipe_table import TABLE_PATH
from weightzoo.zoos.strict_json import json_text
from weightzoo.zoos.texts.text_set import TEXT_SETS

HERE = Path(__file__).parent
CARD = HERE.parent / "DATASET_CARD.md"
NOTE = "<!-- Made by docs/generate.py; do not edit by hand. -->\n"
PUBLIC = {
    "weightzoo": "The main entry points.",
    "weightzoo.loaders": "Datasets, loaders, tokenizers and augmentations.",
    "weightzoo.loaders.collections": "One tensor of many models at a time.",
    "weightzoo.encoders": "Reference encoders of weights.",
    "weightzoo.tasks": "Training, scoring and saving of encoders.",
}
"""Public packages: every name in their `__all__` is public."""
AUTOENCODERS = {
    "hyper-representation": ("hyper_representation", "one token per neuron; one architecture"),
    "sane": ("sane", "tokens in windows; networks of any size"),
    "flow-matching": ("flow_matching", "aligned flat weights; one architecture; draws networks"),
}
"""Module and input of the models that are trained without a target."""
IMPORTS = {
    "modelzoos-raw": "raw folders of the Model Zoos, arXiv 2209.14764, and others of Ray Tune",
    "modelzoos-pt": "preprocessed files of the Model Zoos, arXiv 2209.14764",
    "smallcnn": "small CNN zoo, arXiv 2002.11448",
    "inr-pth": "implicit neural representations as .pth files, arXiv 2301.12780 and 2302.14040",
    "wildpark": "CNN Wild Park, arXiv 2403.12143",
    "small-transformers": "Small Transformer Zoo, arXiv 2410.04209",
    "nino": "training trajectories of NiNo, arXiv 2409.04434",
    "lora": "low-rank adapters of the formats that diffusers, kohya and PADBench use",
    "model-j": "one layer of each repository of an index on the Hub, such as Model-J",
    "mother": "graphs of models with their parents, arXiv 2405.18432",
    "state-dicts": "any folder of state dicts with a table of properties",
    "hub": "models on the Hugging Face Hub, one repository each",
}

LOCAL_SOURCES = {
    "digits": "scikit-learn's digits",
    "digits-shuffled": "the same with shuffled labels",
    "waves": "drawn signals, folded",
}
"""Sources of the image sets that are neither drawn from fonts nor on the Hub."""


def published_rows() -> list[list[str]]:
    """Table of the published zoos, from the list that `weightzoo catalogue` prints."""
    return [
        [
            f"[`{zoo.name}`]({zoo.page})",
            zoo.contents,
            zoo.paper,
            zoo.size,
            zoo.licence,
            "<br>".join(f"`{command}`" for command in zoo.commands) or "not read yet",
            zoo.defects,
        ]
        for zoo in CATALOGUE
    ]


def pages() -> dict[str, str]:
    """All pages that are written, by file name; the site adds that of the commands."""
    made = {
        "zoos.md": zoo_page,
        "published_zoos.md": published_page,
        "encoders.md": encoder_page,
        "image_sets.md": image_page,
        "reference.md": reference_page,
    }
    return {name: NOTE + make() for name, make in made.items()}


def recipe_rows() -> list[dict[str, Any]]:
    """The table that `weightzoo list` prints, from the recipes themselves."""
    rows = []
    for name in recipe_names():
        recipe = load_recipe(name)
        rows.append(
            {
                "name": name,
                "models": recipe.size,
                "parameters": recipe.architecture.layer_table().parameters,
                "checkpoints": len(recipe.checkpoints),
                "description": recipe.description,
            }
        )
    return rows


def zoo_page() -> str:
    """Catalogue of the zoos that recipes build and that importers read."""
    rows = []
    for name in recipe_names():
        recipe = load_recipe(name)
        size, count = recipe.architecture.layer_table().width, recipe.size
        checkpoints = count * len(recipe.checkpoints)
        stored = gigabytes(checkpoints * size * 4)
        get = f"`weightzoo build {name}`"
        rows.append(
            (
                f"`{name}`",
                recipe.description,
                f"{count:,}",
                f"{checkpoints:,}",
                f"{size:,}",
                stored,
                get,
            )
        )
    head = ("zoo", "what it is", "models", "rows", "D", "weights", "how to get it")
    imports = [(f"`{name}`", IMPORTS[name]) for name in FORMATS]
    return (
        "# Catalogue of zoos\n\n"
        "Each recipe trains one zoo. A row is one checkpoint of one model; D is the number of "
        f"values in a weight vector. Zoos that recipes build are under {LICENCE}. `weightzoo build "
        "NAME --dry-run` estimates the hours on your machine. A CNN is a convolutional "
        "network, an MLP a multilayer perceptron; CNN-s and CNN-l are the small and the large CNN "
        "of the Model Zoos. SNE is the set-based neural network "
        "encoder, an INR is an implicit neural representation: a network that stores one "
        "signal.\n\n"
        f"{table(head, rows)}\n\n"
        "## Zoos that others published\n\n"
        "`weightzoo import FORMAT SOURCE --out FOLDER` converts them; see "
        "[Import a published zoo](import_a_zoo.md). Their licence is that of their publishers.\n\n"
        f"{table(('format', 'what it reads'), imports)}\n"
    )


def published_page() -> str:
    """Catalogue of the zoos that others published, as `weightzoo catalogue` lists them."""
    head = ("zoo", "contents", "paper", "size", "licence", "commands", "known defects")
    return (
        "# Catalogue of published zoos\n\n"
        "`weightzoo catalogue` prints this table, `weightzoo fetch NAME` downloads a zoo that has "
        "a stable address, and `weightzoo import` converts it. FILE is one of the fetched files. "
        f'"{NO_LICENCE}" means that no licence was found beside the data. A CNN is a '
        "convolutional network; CNN-s and CNN-l are the small and the large CNN of the Model Zoos. "
        "A ViT is a vision transformer, an INR an implicit neural representation, a SIREN a "
        "sinusoidal representation network. LoRA is low-rank adaptation, PEFT parameter-efficient "
        "fine-tuning, DWSNet the deep weight-space network.\n\n"
        f"{table(head, published_rows())}\n"
    )


def encoder_page() -> str:
    """Catalogue of the encoders."""
    rows = [
        (f"`{name}`", paper(entry.module), entry.summary, several(entry.several_architectures))
        for name, entry in ENCODERS.items()
    ]
    rows += [
        (f"`{name}`", paper(AUTOENCODERS[name][0]), AUTOENCODERS[name][1], "no target")
        for name in TRAIN_KINDS
        if name not in ENCODERS
    ]
    head = ("name", "paper", "how it reads weights", "trained on")
    return (
        "# Catalogue of encoders\n\n"
        "`weightzoo train NAME ZOO --out FOLDER` trains one; `weightzoo train` with the last three "
        "trains an autoencoder or a flow without a target column. INRs are implicit neural "
        "representations: networks that store one signal. MLPs are multilayer perceptrons, CNNs "
        "convolutional networks.\n\n"
        "Training, prediction and embedding hand each encoder what it declares "
        "([your own encoder](your_encoder.md)): `sne`, `sne-paper` and `hyper-representation` "
        "layer sets (a layer set is the weights as a set of chunks), `sane` windows of tokens, "
        "`scale-gmn`, `probegen`, `hidden-probe` and `probe-statistics` networks with their "
        "activation functions, the others flat weights.\n\n"
        f"{table(head, rows)}\n"
    )


def image_page() -> str:
    """Catalogue of the image sets."""
    rows = [(f"`{name}`", *_image_row(name)) for name in IMAGE_SETS]
    head = ("name", "shape", "train", "val", "test", "source")
    return (
        "# Catalogue of image sets\n\n"
        "Names for `images` in a recipe and for `--images`. Sets of the Hub are downloaded on "
        "first use; the others need no network. Sizes of a dash are known after the download. "
        "Besides these, `hub:ORG/NAME` names any image set of the Hub, `folder:PATH` a folder of "
        "images by class, `arrays:FILE.npz` arrays of NumPy and `idx:FOLDER` the four files of a "
        "set like MNIST; see [Your own image set](your_images.md).\n\n"
        f"{table(head, rows)}\n\n"
        "Language models read texts instead, as windows of 128 bytes: `packages` (text of "
        "installed packages, so it depends on their versions), one of its domains "
        + ", ".join(f"`{name}`" for name in TEXT_SETS if name != "packages")
        + ", or `text:PATH`, a file or a folder of files; see "
        "[Language models](building.md#language-models).\n"
    )


def command_page() -> str:
    """Help of every command."""
    commands = next(
        action for action in _parser()._actions if isinstance(action, argparse._SubParsersAction)
    )
    parts = ["# Commands\n\nThe help of every command, as `weightzoo COMMAND --help` prints it."]
    for name, command in commands.choices.items():
        lines = [f"## weightzoo {name}", "", f"{sentence(command.description or '')}", ""]
        lines += [f"    {command.epilog}", "", "| argument | meaning |", "|---|---|"]
        lines += [
            f"| {cell(_argument(action))} | {cell((action.help or '').replace('%%', '%'))} |"
            for action in command._actions
            if action.dest not in ("help", "json")
        ]
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"


def reference_page() -> str:
    """Every public name, with the place from which the site takes its docstring."""
    parts = [
        "# API reference\n\nEvery public name, in the package that it is imported from. A name "
        "that several packages have is described once. SNE is the set-based neural network "
        "encoder, SANE the sequential autoencoder for neural embeddings."
    ]
    seen = set[str]()
    for package, text in PUBLIC.items():
        parts.append(f"## {package}\n\n{text}")
        module = importlib.import_module(package)
        for name in sorted(module.__all__, key=str.lower):
            path = _path(package, name, getattr(module, name))
            again = path in seen
            seen.add(path)
            parts.append(
                f"`{package}.{name}`: see above." if again else _entry(f"{package}.{name}", path)
            )
    return "\n\n".join(parts) + "\n"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table.

    Args:
        head: names of the columns.
        rows: cells by row.
    """
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell(one) for one in line) + " |" for line in lines)


def gigabytes(size: int) -> str:
    """A size in GB, or in TB if it is large."""
    return f"{size / 1e9:.3g} GB" if size < 1e12 else f"{size / 1e12:.3g} TB"


def cell(text: str) -> str:
    """Text as a cell of a Markdown table."""
    return text.replace("|", "\\|").replace("\n", " ")


def sentence(text: str) -> str:
    """Text with a capital letter and a full stop."""
    return text[:1].upper() + text[1:] + "."


def paper(module: str) -> str:
    """The first paper in the docstring of an encoder's module, its public code, or "baseline"."""
    text = importlib.import_module(f"weightzoo.encoders.{module}").__doc__ or ""
    if code := re.search(r"public code \(`([\w-]+/[\w-]+)`\)", text):
        return f"[{code[1]}](https://github.com/{code[1]})"
    found = re.search(r"arXiv[: ](\d{4}\.\d{4,5})", text)
    if found is None or module == "flat_mlp":
        return "baseline"
    return f"[arXiv {found[1]}](https://arxiv.org/abs/{found[1]})"


def several(architectures: bool) -> str:
    """Zoos that an encoder is trained on."""
    return "several architectures" if architectures else "one architecture"


def _image_row(name: str) -> tuple[str, ...]:
    """Shape, sizes and source of an image set."""
    side: int | None
    channels: int | None
    sizes = part_sizes(name)
    counts = ["–"] * 3 if sizes is None else [f"{size:,}" for size in sizes]
    if name in GLYPH_SETS:
        glyphs = GLYPH_SETS[name]
        side, channels, source = glyphs.side, glyphs.channels, "fonts"
    elif name in HUB_SETS:
        found = HUB_SETS[name]
        side, channels = found.side, found.channels
        source = f"[{found.repo}](https://huggingface.co/datasets/{found.repo})"
    else:
        side, channels, source = 28, 1, LOCAL_SOURCES[name]
    shape = " × ".join("own" if one is None else str(one) for one in (channels, side, side))
    return shape, *counts, source


def _argument(action: argparse.Action) -> str:
    """An argument as it is typed."""
    value = action.metavar or (
        "{" + ",".join(map(str, action.choices)) + "}" if action.choices else action.dest.upper()
    )
    if not action.option_strings:
        return f"`{action.dest}`"
    return f"`{action.option_strings[0]}{'' if action.nargs == 0 else f' {value}'}`"


def _path(package: str, name: str, value: object) -> str:
    """Where a public object is defined; the package itself for objects without a home."""
    home, own = getattr(value, "__module__", None), getattr(value, "__qualname__", None)
    if not home or not own or not home.startswith("weightzoo"):
        return f"{_HOMES.get((package, name), package)}.{name}"
    return f"{home}.{own}"


_HOMES = {("weightzoo.encoders", "ENCODERS"): "weightzoo.encoders.registry"}


def _entry(name: str, path: str) -> str:
    return (
        f"::: {path}\n    options:\n      heading: {name}\n      toc_label: {name.split('.')[-1]}"
    )


def main() -> None:
    """Write every page."""
    for name, text in pages().items():
        (HERE / name).write_text(text, encoding="utf-8")
    CARD.write_text(release_card(load_collection()), encoding="utf-8")
    TABLE_PATH.write_text(json_text(recipe_rows(), indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
