"""The dataset card: describes a zoo and names the files of each split for stock `datasets`.

`write_card` writes the card of one zoo folder. `repo_card` makes the card of a Hub repository with
any number of zoos, one config each, and keeps what an earlier card says about other zoos.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from .format import (
    SPLITS,
    WEIGHTS,
    Column,
    ZooHeader,
    open_zoo_file,
    read_columns_file,
)
from .index import FILE_SPLITS, Shard, ZooIndex, shard_name
from .mixed_format import MixedHeader, MixedIndex
from .networks.layer_table import LayerTable
from .strict_json import json_text

CARD_NAME = "README.md"
PLOT_NAME = "plot.png"
LICENCE, UNKNOWN_LICENCE = "cc-by-4.0", "unknown"  # of zoos built here; of zoos of others
MIXED_LICENCES = "other"  # the Hub's word where the zoos of a repository differ
TAGS = ("model-zoo", "weight-space-learning", "weightzoo")
LISTED_SHARDS = 8  # of a split; the metadata names more of them by one pattern
SIZES = ("n<1K", "1K<n<10K", "10K<n<100K", "100K<n<1M", "1M<n<10M")  # of rows, by digits
MEANINGS = {
    "model_id": "index of the model in the recipe",
    "epoch": "passes over the training images; 0 is the initial state",
    "split": '"train", "val" or "test", one per model',
    "seed": "fixes initial weights, data order, subset and dropout",
    "status": '"ok", or "diverged": weights or losses are not finite',
    "relation": "how the row was made: trained, fine-tuned, pruned, merged or generated",
    "parent_zoo": "name of the zoo that the row was made from",
    "parent_model_id": "`model_id` of the parent row, -1 for none",
    "parent_epoch": "`epoch` of the parent row, -1 for none",
    "init_std": "standard deviation of the inits normal and truncated_normal",
    "bias_init": "constant that every bias starts from",
    "lr": "learning rate, the largest one of a schedule",
    "schedule": "schedule of the learning rate",
    "augmentation": "augmentation of the train images",
    "weight_decay": "L2 coefficient added to the gradient",
    "dropout": "rate of every dropout layer, a fraction",
    "batch_size": "images per step",
    "train_fraction": "share of the train images that the model saw, a fraction",
    "frequency": "frequency of the sine wave that the model was fitted to",
    "image_index": "index of the image that the model was fitted to",
    "label": "class of that image",
    "train_loss": "mean cross-entropy, nats per image; mean squared error for fitted signals",
    "val_loss": "as train_loss, on the val images",
    "test_loss": "as train_loss, on the test images",
    "train_accuracy": "share of the train images classified correctly, a fraction",
    "val_accuracy": "share of the val images classified correctly, a fraction",
    "test_accuracy": "share of the test images classified correctly, a fraction",
    "generalization_gap": "train_accuracy - test_accuracy, a fraction",
    "sparsity": "pruned share of the weights of conv and linear layers, a fraction",
}


@dataclass(frozen=True, kw_only=True)
class CardZoo:
    """Facts of one zoo for its card.

    Attributes:
        name: name of the config under which users load it.
        index: index of its files; a `MixedIndex` of a zoo of many architectures.
        header: root attributes of any of its files.
        columns: numpy dtype of each scalar column, `object` for text, in file order.
        num_bytes: size of the rows of each split in Arrow's memory layout.
        has_plot: whether `PLOT_NAME` is beside its files.
    """

    name: str
    index: ZooIndex | MixedIndex
    header: ZooHeader | MixedHeader
    columns: dict[str, np.dtype]
    num_bytes: dict[str, int]
    has_plot: bool = False

    @property
    def tables(self) -> tuple[Shard, ...]:
        """The files that stock `datasets` reads."""
        return self.index.column_shards if isinstance(self.index, MixedIndex) else self.index.shards

    @property
    def models(self) -> int:
        """Number of models."""
        return sum(shard.models for shard in self.tables)

    @property
    def rows(self) -> int:
        """Number of checkpoints."""
        return sum(shard.rows for shard in self.tables)

    @property
    def networks(self) -> str:
        """Size of the networks, in words."""
        if isinstance(self.index, MixedIndex):
            sizes = [part.layer_table.parameters for part in self.index.parts]
            count = f"{len(sizes):,} architectures" if len(sizes) > 1 else "1 architecture"
            return f"{count} with {min(sizes):,} to {max(sizes):,} parameters"
        table = self.layer_table
        assert table is not None
        return f"{table.parameters:,} parameters each (rows of {table.width:,} values with buffers)"

    @property
    def layer_table(self) -> LayerTable | None:
        """Layer table of all rows; None in a zoo of many architectures."""
        return self.header.layer_table if isinstance(self.header, ZooHeader) else None


def read_card_zoo(
    folder: Path, index: ZooIndex | MixedIndex, name: str | None = None, has_plot: bool = False
) -> CardZoo:
    """Read the facts of a zoo for its card.

    Args:
        folder: zoo folder.
        index: index of the zoo.
        name: name of the config; None takes the zoo's name.
        has_plot: whether `PLOT_NAME` is beside the files.

    Raises:
        ZooNotFoundError: if a file of the index is missing.
        ZooFormatError: if one of them is not a zoo file.
    """
    if isinstance(index, MixedIndex):
        return _read_mixed(folder, index, name or index.name, has_plot)
    files = [open_zoo_file(folder / shard.path) for shard in index.shards]
    sizes = dict.fromkeys((shard.split for shard in index.shards), 0)
    for shard, file in zip(index.shards, files, strict=True):
        texts = file.read_columns([name for name in file.columns if file.columns[name].kind == "O"])
        row_bytes = _row_bytes(file.columns) + 4 * file.width
        sizes[shard.split] += file.rows * row_bytes + _text_bytes(texts)
    return CardZoo(
        name=name or index.name,
        index=index,
        header=files[0].header,
        columns=files[0].columns,
        num_bytes=sizes,
        has_plot=has_plot,
    )


def _read_mixed(folder: Path, index: MixedIndex, name: str, has_plot: bool) -> CardZoo:
    """Facts of a zoo of many architectures."""
    kinds: dict[str, np.dtype] = {}
    sizes = {}
    for shard in index.column_shards:
        columns = read_columns_file(folder / shard.path)
        kinds = {column: values.dtype for column, values in columns.items()}
        sizes[shard.split] = shard.rows * _row_bytes(kinds) + _text_bytes(columns)
    header = MixedHeader(
        hyper_parameters=tuple(index.header["hyper_parameters"]),
        recipe=index.header["recipe"],
        provenance=index.header["provenance"],
    )
    return CardZoo(
        name=name, index=index, header=header, columns=kinds, num_bytes=sizes, has_plot=has_plot
    )


def write_card(folder: Path, index: ZooIndex | MixedIndex, header: ZooHeader | None = None) -> None:
    """Write `README.md` in the Hub's conventions, so that `load_dataset(folder)` works.

    Args:
        folder: zoo folder with the files of the index.
        index: index of the zoo.
        header: header of any of its files; None reads it.
    """
    zoo = read_card_zoo(folder, index)
    zoo = zoo if header is None else replace(zoo, header=header)
    card = _new_card(index.name, "", _licence([zoo]))
    _enter(card.data, zoo, "")
    use = (_LOCAL_USE if zoo.layer_table else _LOCAL_MIXED_USE).format(name=zoo.name)
    card.text = f"\n{_section(zoo, '#', use, '')}"
    (folder / CARD_NAME).write_text(_text(card))


def repo_card(repo_id: str, zoos: Sequence[CardZoo], existing: str | None = None) -> str:
    """The card of a Hub repository in which each zoo lies in the folder of its name.

    Args:
        repo_id: name of the repository, "org/name".
        zoos: zoos to describe.
        existing: current card of the repository; everything but its text on these zoos is kept.

    Returns:
        The text of `README.md`: metadata with one config per zoo, one of them the default.

    Raises:
        ValueError: if the metadata of the existing card cannot be read.
    """
    title = repo_id.split("/")[-1]
    licence = _licence(zoos)
    card = _new_card(title, _OPENING.format(title=title, licence=licence), licence)
    if existing is not None:
        card = _parsed(existing)
        card.data.license = _joint_licence(card, zoos)
    for zoo in zoos:
        _enter(card.data, zoo, f"{zoo.name}/")
        template = _HUB_USE if zoo.layer_table else _HUB_MIXED_USE
        use = template.format(repo=repo_id, name=zoo.name)
        section = _section(zoo, "##", use, f"https://huggingface.co/datasets/{repo_id}")
        start, end = f"<!-- zoo: {zoo.name} -->", f"<!-- end of zoo: {zoo.name} -->"
        text = re.sub(f"\n*{re.escape(start)}.*?{re.escape(end)}", "", card.text, flags=re.DOTALL)
        card.text = f"{text.rstrip()}\n\n{start}\n{section}{end}\n"
    return _text(card)


def write_collection_card(folder: Path, names: Sequence[str], title: str) -> None:
    """Write `README.md` of a folder of zoos, so that `load_dataset(folder, name)` works.

    Args:
        folder: folder of zoo folders.
        names: names of the zoo folders, under which users load them; the first is the default.
        title: name of the folder, when it is at its place.
    """
    zoos = [read_card_zoo(folder / name, ZooIndex.read(folder / name), name) for name in names]
    card = _new_card(title, "", _licence(zoos))
    for zoo in zoos:
        _enter(card.data, zoo, f"{zoo.name}/")
    lines = [f"- `{zoo.name}`: {_size_line(zoo)}" for zoo in zoos]
    card.text = _COLLECTION.format(title=title, lines="\n".join(lines), name=zoos[0].name)
    (folder / CARD_NAME).write_text(_text(card))


def lacks_licence(zoo: CardZoo) -> bool:
    """Whether others hold rights in a zoo and no licence is stated."""
    return _own_licence(zoo) == UNKNOWN_LICENCE


def under_licence(zoo: CardZoo, licence: str) -> CardZoo:
    """The same facts with a licence that the publisher states.

    Args:
        zoo: zoo of a card.
        licence: licence as the Hub names it.
    """
    provenance = dict(zoo.header.provenance) | {"licence": licence}
    header: Any = replace(zoo.header, provenance=provenance)
    return replace(zoo, header=header)


def collection_card(
    title: str, licence: str, configs: Sequence[Mapping[str, Any]], rows: int, text: str
) -> str:
    """A card with the metadata of a collection and a text of one's own.

    Args:
        title: name that the Hub shows.
        licence: licence as the Hub names it; "" leaves it out.
        configs: configs in the Hub's form, {"config_name", "data_files"}; the first is the default.
        rows: number of rows of all configs.
        text: text below the metadata.
    """
    card = _new_card(title, text, licence)
    if not licence:
        del card.data.license
    first, *others = (dict(config) for config in configs)
    card.data.configs = [first | {"default": True}, *others]
    card.data.size_categories = [_size_category(rows)]
    return _text(card)


def with_facts(text: str, zoos: Sequence[CardZoo]) -> str:
    """A card with files, columns and sizes of some zoos in its metadata; the text is unchanged.

    Args:
        text: card with metadata.
        zoos: zoos, each in the folder of its name.

    Raises:
        ValueError: if the metadata cannot be read.
    """
    card = _parsed(text)
    for zoo in zoos:
        _enter(card.data, zoo, f"{zoo.name}/")
    return _text(card)


def stated_licence(text: str) -> str:
    """The licence in a card's metadata; "" if there is none, or "unknown"."""
    from huggingface_hub import DatasetCard

    licence: Any = DatasetCard(text).data.get("license")
    return "" if licence in (None, UNKNOWN_LICENCE) else str(licence)


def _text(card: Any) -> str:
    return f"{str(card).rstrip()}\n"


def _imported(zoo: CardZoo) -> bool:
    return "imported" in zoo.header.provenance


def _descends_from_imported(zoo: CardZoo) -> bool:
    parent = zoo.header.provenance.get("parent")
    return isinstance(parent, dict) and "imported" in parent


def _licence(zoos: Sequence[CardZoo]) -> str:
    """The licence as the Hub names it; "unknown" where others hold rights in a zoo."""
    licences = {_own_licence(zoo) for zoo in zoos}
    if len(licences) > 1 and UNKNOWN_LICENCE not in licences:
        return MIXED_LICENCES
    return UNKNOWN_LICENCE if UNKNOWN_LICENCE in licences else licences.pop()


def _joint_licence(card: Any, zoos: Sequence[CardZoo]) -> str:
    """The licence of a repository's card with further zoos; that of others is never hidden."""
    current, added = str(card.data.license), _licence(zoos)
    if current == added or not any("licence" in zoo.header.provenance for zoo in zoos):
        return current
    names = {zoo.name for zoo in zoos}
    others = [one for one in card.data.get("configs") or [] if one.get("config_name") not in names]
    if not others:
        return added
    return UNKNOWN_LICENCE if UNKNOWN_LICENCE in (current, added) else MIXED_LICENCES


def _size_line(zoo: CardZoo) -> str:
    size = f"with {zoo.layer_table.parameters:,} parameters" if zoo.layer_table else "of "
    size += "" if zoo.layer_table else zoo.networks
    return f"{zoo.rows:,} rows of {zoo.models:,} networks {size}"


def _own_licence(zoo: CardZoo) -> str:
    """The licence that the zoo states, else that of zoos built here."""
    if isinstance(stated := zoo.header.provenance.get("licence"), str):
        return stated
    foreign = _imported(zoo) or _descends_from_imported(zoo)
    return UNKNOWN_LICENCE if foreign else LICENCE


def _licence_note(zoo: CardZoo) -> str:
    if _imported(zoo):
        return _IMPORTED
    return _DESCENDED if _descends_from_imported(zoo) else ""


def _new_card(title: str, text: str, licence: str) -> Any:
    from huggingface_hub import DatasetCard, DatasetCardData

    data = DatasetCardData(
        license=licence, pretty_name=title, tags=list(TAGS), task_categories=["other"]
    )
    return DatasetCard(f"---\n{data.to_yaml()}\n---\n{text}")


def _parsed(existing: str) -> Any:
    from huggingface_hub import DatasetCard

    try:
        card: Any = DatasetCard(existing)
    except Exception as error:  # huggingface_hub does not say which YAML library raises
        raise ValueError(
            f"the metadata of the repository's {CARD_NAME} cannot be read ({error}): correct it on "
            "the Hub, or delete the file and push again to write a new one"
        ) from error
    tags = card.data.get("tags") or []
    card.data.license = card.data.get("license") or LICENCE
    card.data.tags = [*tags, *(tag for tag in TAGS if tag not in tags)]
    return card


def _enter(data: Any, zoo: CardZoo, folder: str) -> None:
    """Replace a zoo's config and facts in a card's metadata."""
    configs = _with(
        data.get("configs"), {"config_name": zoo.name, "data_files": _files(zoo, folder)}
    )
    if not any(config.get("default") for config in configs):
        configs[0]["default"] = True
    data.configs = configs
    data.dataset_info = _with(data.get("dataset_info"), _facts(zoo))
    splits = [split for info in data.dataset_info for split in info.get("splits") or ()]
    data.size_categories = [_size_category(sum(split.get("num_examples", 0) for split in splits))]


def _size_category(rows: int) -> str:
    return SIZES[min(max(len(str(rows)) - 3, 0), len(SIZES) - 1)]


def _with(entries: Any, entry: dict[str, Any]) -> list[dict[str, Any]]:
    """Add an entry, or replace the one of the same config name; a default stays the default."""
    entries = [entries] if isinstance(entries, dict) else list(entries or [])
    names = [old.get("config_name") for old in entries]
    if entry["config_name"] not in names:
        return [*entries, entry]
    index = names.index(entry["config_name"])
    kept = {"default": True} if entries[index].get("default") else {}
    return [*entries[:index], entry | kept, *entries[index + 1 :]]


def _files(zoo: CardZoo, folder: str) -> list[dict[str, Any]]:
    """The files of every split that is not empty."""
    files = []
    for split in SPLITS:
        names = [shard.path for shard in zoo.tables if shard.split == split]
        count = len(names)
        if count > LISTED_SHARDS and names == [shard_name(split, i, count) for i in range(count)]:
            names = [shard_name(split, 0, count).replace("-00000-of-", "-*-of-")]
        if names:
            paths = [folder + name for name in names]
            files.append({"split": FILE_SPLITS[split], "path": paths})
    return files


def _facts(zoo: CardZoo) -> dict[str, Any]:
    """Columns and sizes, which `datasets` checks when it loads the files."""
    table, shards = zoo.layer_table, zoo.tables
    features: list[dict[str, Any]] = [
        {"name": name, "dtype": "string" if kind.kind == "O" else kind.name}
        for name, kind in zoo.columns.items()
    ]
    if table is not None:
        features.append({"name": WEIGHTS, "list": "float32", "length": table.width})
    splits = [
        {"name": FILE_SPLITS[split], "num_examples": _rows(shards, split), "num_bytes": size}
        for split, size in zoo.num_bytes.items()
    ]
    return {
        "config_name": zoo.name,
        "features": features,
        "splits": splits,
        "download_size": sum(shard.size_bytes for shard in shards),
        "dataset_size": sum(zoo.num_bytes.values()),
    }


def _row_bytes(kinds: Mapping[str, np.dtype]) -> int:
    """Size of a row's scalars in Arrow's memory layout: values, and the int32 offset of a text."""
    return sum(4 if kind.kind == "O" else kind.itemsize for kind in kinds.values())


def _text_bytes(columns: Mapping[str, Column]) -> int:
    """Size of all texts of columns."""
    texts = [column for column in columns.values() if column.dtype.kind == "O"]
    return sum(len(text.encode()) for column in texts for text in column)


def _section(zoo: CardZoo, level: str, use: str, url: str) -> str:
    """The part of a card that describes one zoo to a reader."""
    recipe = zoo.header.recipe
    counts = f"{zoo.models} models, {zoo.rows} checkpoints"
    plot = f"\n![test accuracy of {zoo.name}]({zoo.name}/{PLOT_NAME})\n" if zoo.has_plot else ""
    built = {"recipe": recipe, "provenance": zoo.header.provenance}
    return f"""{level} {zoo.name}

{recipe.get("description", "")}

{counts}, {zoo.networks}, \
{sum(shard.size_bytes for shard in zoo.index.shards) / 1e6:,.1f} MB.

| split | models | checkpoints |
|---|---|---|
{_split_rows(zoo.tables)}
{plot}
{use}
{level}# Columns

One row is one checkpoint of one model, ordered by {_order(zoo)}; N rows.

{_column_lines(zoo)}

{level}# Limits

Splits are by model: no model has checkpoints in two splits. Rows with `status` "diverged" hold
non-finite weights or losses. All metrics are measured on the image set that the recipe names.\
{_shared_seeds(recipe)}

{level}# How it was built

```json
{json_text(built, indent=1)}
```

{level}# Licence and citation

{_licence([zoo])}.{_licence_note(zoo)}

```bibtex
{_citation(zoo, counts, url)}
```
"""


def _order(zoo: CardZoo) -> str:
    return "model, then epoch" if zoo.layer_table else "architecture, model, then epoch"


def _shared_seeds(recipe: Mapping[str, Any]) -> str:
    """A warning about a grid in which every combination has the same seeds."""
    grid = [values for values in recipe.get("factors", {}).values() if isinstance(values, list)]
    fixed = recipe.get("seed_kind") == "fixed"
    return _SHARED_SEEDS if fixed and any(len(values) > 1 for values in grid) else ""


def _split_rows(shards: Sequence[Shard]) -> str:
    models = {
        split: sum(shard.models for shard in shards if shard.split == split) for split in SPLITS
    }
    return "\n".join(f"| {split} | {models[split]} | {_rows(shards, split)} |" for split in SPLITS)


def _column_lines(zoo: CardZoo) -> str:
    meanings = {name: "a hyper-parameter" for name in zoo.header.hyper_parameters} | MEANINGS
    lines = []
    for name, kind in zoo.columns.items():
        meaning = f": {meanings[name]}" if name in meanings else ""
        lines.append(f"- `{name}` {'text' if kind.kind == 'O' else kind.name} (N,){meaning}")
    if table := zoo.layer_table:
        lines.append(f"- `{WEIGHTS}` float32 (N, {table.width}): one flat weight vector per row")
    return "\n".join(lines)


def _citation(zoo: CardZoo, counts: str, url: str) -> str:
    provenance = zoo.header.provenance
    fields = {"title": f"{{{zoo.name}: {counts}}}"}
    if url:
        fields["howpublished"] = f"\\url{{{url}}}"
    if year := re.match(r"\d{4}", str(provenance.get("finished", ""))):
        fields["year"] = year[0]
    made = "Imported" if _imported(zoo) else "Built"
    fields["note"] = f"{made} with weightzoo {provenance.get('weightzoo', '')}".rstrip()
    lines = "".join(f"  {key} = {{{value}}},\n" for key, value in fields.items())
    return f"@misc{{{zoo.name},\n{lines}}}"


def _rows(shards: Sequence[Shard], split: str) -> int:
    return sum(shard.rows for shard in shards if shard.split == split)


_LOCAL_USE = """```python
from weightzoo import load_zoo

train = load_zoo("{name}", split="train")  # the folder's path
```

Stock `datasets` reads the same files: `load_dataset("{name}", split="train")`.
"""

_HUB_USE = """```python
from weightzoo import load_zoo

train = load_zoo("{repo}", "{name}", split="train")
```

Without weightzoo, stock `datasets` reads the same files, whole or streaming:

```python
from datasets import load_dataset

train = load_dataset("{repo}", "{name}", split="train", streaming=True)
```
"""

_LOCAL_MIXED_USE = """```python
from weightzoo import load_zoo

zoo = load_zoo("{name}")  # the folder's path
for architecture, batch in zoo["train"].batches(batch_size=32, seed=0):
    batch["weights"]
```

Stock `datasets` reads the columns alone: `load_dataset("{name}", split="train")`. The weights are
float32 values in the `.f32` files, row after row; `zoo.json` says where each architecture starts.
"""

_HUB_MIXED_USE = """```python
from weightzoo import load_zoo

zoo = load_zoo("{repo}", "{name}")
for architecture, batch in zoo["train"].batches(batch_size=32, seed=0):
    batch["weights"]
```

Without weightzoo, stock `datasets` reads the columns alone:

```python
from datasets import load_dataset

columns = load_dataset("{repo}", "{name}", split="train")
```

The weights are float32 values in the `.f32` files, row after row; `zoo.json` says where each
architecture starts.
"""

_SHARED_SEEDS = (
    "\nEvery combination of the grid has the same seeds, so models of different splits start from "
    "the\nsame random draws. An encoder may exploit the positions of weights in this zoo; it then "
    "fails\non models that start from other weights."
)
_DESCENDED = " Made from an imported zoo: the licence of its publishers applies; cite them."
_IMPORTED = " Imported, not built here: the licence of its publishers applies; cite them."
_OPENING = """
# {title}

Populations of trained networks: each row is one checkpoint of one model, with its flat weight
vector, its hyper-parameters and its measured properties. One config is one zoo, of one
architecture. The files are plain HDF5: `h5py`, `datasets` and weightzoo read them.
Licence: {licence}.
"""

_COLLECTION = """
# {title}

Zoos of several architectures, one folder each, made by
[weightzoo](https://pypi.org/project/weightzoo/):

{lines}

```python
from datasets import load_dataset

dataset = load_dataset("{title}", "{name}")
```
"""
