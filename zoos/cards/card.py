"""The dataset card: describes a zoo and names the files of each split for stock `datasets`.

`write_card` writes the card of one zoo folder. `repo_card` makes the card of a Hub repository with
any number of zoos, one config each, and keeps what an earlier card says about other zoos.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..format import ZooHeader
from ..index import ZooIndex
from ..mixed_format import MixedIndex
from .card_zoo import CardZoo, read_card_zoo
from .licences import joint_licence, shared_licence
from .metadata import CARD_NAME, card_text, enter_zoo, new_card, parsed_card, size_category
from .section import size_line, zoo_section


def write_card(folder: Path, index: ZooIndex | MixedIndex, header: ZooHeader | None = None) -> None:
    """Write `README.md` in the Hub's conventions, so that `load_dataset(folder)` works.

    Args:
        folder: zoo folder with the files of the index.
        index: index of the zoo.
        header: header of any of its files; None reads it.
    """
    zoo = read_card_zoo(folder, index)
    zoo = zoo if header is None else replace(zoo, header=header)
    card = new_card(index.name, "", shared_licence([zoo]))
    enter_zoo(card.data, zoo, "")
    use = (_LOCAL_USE if zoo.layer_table else _LOCAL_MIXED_USE).format(name=zoo.name)
    card.text = f"\n{zoo_section(zoo, '#', use, '')}"
    (folder / CARD_NAME).write_text(card_text(card))


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
    licence = shared_licence(zoos)
    card = new_card(title, _OPENING.format(title=title, licence=licence), licence)
    if existing is not None:
        card = parsed_card(existing)
        card.data.license = joint_licence(card, zoos)
    for zoo in zoos:
        enter_zoo(card.data, zoo, f"{zoo.name}/")
        template = _HUB_USE if zoo.layer_table else _HUB_MIXED_USE
        use = template.format(repo=repo_id, name=zoo.name)
        section = zoo_section(zoo, "##", use, f"https://huggingface.co/datasets/{repo_id}")
        start, end = f"<!-- zoo: {zoo.name} -->", f"<!-- end of zoo: {zoo.name} -->"
        text = re.sub(f"\n*{re.escape(start)}.*?{re.escape(end)}", "", card.text, flags=re.DOTALL)
        card.text = f"{text.rstrip()}\n\n{start}\n{section}{end}\n"
    return card_text(card)


def write_collection_card(folder: Path, names: Sequence[str], title: str) -> None:
    """Write `README.md` of a folder of zoos, so that `load_dataset(folder, name)` works.

    Args:
        folder: folder of zoo folders.
        names: names of the zoo folders, under which users load them; the first is the default.
        title: name of the folder, when it is at its place.
    """
    zoos = [read_card_zoo(folder / name, ZooIndex.read(folder / name), name) for name in names]
    card = new_card(title, "", shared_licence(zoos))
    for zoo in zoos:
        enter_zoo(card.data, zoo, f"{zoo.name}/")
    lines = [f"- `{zoo.name}`: {size_line(zoo)}" for zoo in zoos]
    card.text = _COLLECTION.format(title=title, lines="\n".join(lines), name=zoos[0].name)
    (folder / CARD_NAME).write_text(card_text(card))


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
    card = new_card(title, text, licence)
    if not licence:
        del card.data.license
    first, *others = (dict(config) for config in configs)
    card.data.configs = [first | {"default": True}, *others]
    card.data.size_categories = [size_category(rows)]
    return card_text(card)


def with_facts(text: str, zoos: Sequence[CardZoo]) -> str:
    """A card with files, columns and sizes of some zoos in its metadata; the text is unchanged.

    Args:
        text: card with metadata.
        zoos: zoos, each in the folder of its name.

    Raises:
        ValueError: if the metadata cannot be read.
    """
    card = parsed_card(text)
    for zoo in zoos:
        enter_zoo(card.data, zoo, f"{zoo.name}/")
    return card_text(card)


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
