"""Types of arguments that are easily mistaken: a dict of splits where one dataset is meant."""

from collections.abc import Mapping, Sequence
from typing import Any

from .zoo_dataset import ZooDataset


def check_dataset(dataset: Any, taker: str) -> ZooDataset:
    """One dataset; a stream of a zoo becomes its rows by number.

    Args:
        dataset: what a user handed over.
        taker: name of the function or class that takes it, for the message.

    Raises:
        TypeError: if it is anything else, such as the dict of splits that `load_zoo` returns.
    """
    if isinstance(dataset, ZooDataset):
        return dataset
    if callable(as_zoo := getattr(dataset, "as_zoo", None)):
        opened: ZooDataset = as_zoo()
        return opened
    raise TypeError(f"{taker} takes a ZooDataset, got {_described(dataset)}")


def check_datasets(datasets: Any, taker: str) -> list[ZooDataset]:
    """Several datasets.

    Args:
        datasets: what a user handed over.
        taker: name of the function or class that takes them, for the message.

    Raises:
        TypeError: if it is no sequence of datasets.
    """
    if isinstance(datasets, ZooDataset):
        raise TypeError(f"{taker} takes a list of datasets, got one ZooDataset: write [dataset]")
    if not isinstance(datasets, Sequence) or isinstance(datasets, str):
        raise TypeError(f"{taker} takes a list of datasets, got {_described(datasets)}")
    return [check_dataset(dataset, taker) for dataset in datasets]


def _described(value: Any) -> str:
    """A value in words, with what to write instead."""
    if isinstance(value, Mapping) and value:
        first = next(iter(value))
        return (
            f"a dict with the keys {[str(key) for key in value]}, as load_zoo returns without a "
            f"split: give one of them, zoo[{first!r}], or load_zoo(..., split={first!r})"
        )
    if isinstance(value, str):
        return f"the text {value!r}: load it first, load_zoo({value!r}, split='train')"
    if type(value).__module__.startswith("datasets."):
        return f"a stock {type(value).__name__}: weightzoo.from_hf writes it as a zoo"
    return f"{type(value).__name__} {value!r:.80}"
