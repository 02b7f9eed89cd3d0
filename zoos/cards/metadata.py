"""Metadata of a card: configs, files, columns and sizes in the Hub's form."""

from typing import Any

from ..format import SPLITS, WEIGHTS
from ..index import FILE_SPLITS, shard_name
from .card_zoo import CardZoo, split_rows
from .licences import LICENCE

CARD_NAME = "README.md"
TAGS = ("model-zoo", "weight-space-learning", "weightzoo")
LISTED_SHARDS = 8  # of a split; the metadata names more of them by one pattern
SIZES = ("n<1K", "1K<n<10K", "10K<n<100K", "100K<n<1M", "1M<n<10M")  # of rows, by digits


def card_text(card: Any) -> str:
    """Metadata and text of a `DatasetCard`, as `README.md` holds them."""
    return f"{str(card).rstrip()}\n"


def new_card(title: str, text: str, licence: str) -> Any:
    """Make a `DatasetCard` that names no zoo yet.

    Args:
        title: name that the Hub shows.
        text: text below the metadata.
        licence: licence as the Hub names it.
    """
    from huggingface_hub import DatasetCard, DatasetCardData

    data = DatasetCardData(
        license=licence, pretty_name=title, tags=list(TAGS), task_categories=["other"]
    )
    return DatasetCard(f"---\n{data.to_yaml()}\n---\n{text}")


def parsed_card(existing: str) -> Any:
    """Read a card as a `DatasetCard` with a licence and the tags of this package.

    Raises:
        ValueError: if its metadata cannot be read.
    """
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


def enter_zoo(data: Any, zoo: CardZoo, folder: str) -> None:
    """Replace a zoo's config and facts in a card's metadata.

    Args:
        data: metadata, a `DatasetCardData`; it is changed.
        zoo: facts of the zoo.
        folder: path of its files in the repository, "" or ending in "/".
    """
    configs = _with(
        data.get("configs"), {"config_name": zoo.name, "data_files": _files(zoo, folder)}
    )
    if not any(config.get("default") for config in configs):
        configs[0]["default"] = True
    data.configs = configs
    data.dataset_info = _with(data.get("dataset_info"), _facts(zoo))
    splits = [split for info in data.dataset_info for split in info.get("splits") or ()]
    data.size_categories = [size_category(sum(split.get("num_examples", 0) for split in splits))]


def size_category(rows: int) -> str:
    """The Hub's name of a range of sizes."""
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
        {"name": FILE_SPLITS[split], "num_examples": split_rows(shards, split), "num_bytes": size}
        for split, size in zoo.num_bytes.items()
    ]
    return {
        "config_name": zoo.name,
        "features": features,
        "splits": splits,
        "download_size": sum(shard.size_bytes for shard in shards),
        "dataset_size": sum(zoo.num_bytes.values()),
    }
