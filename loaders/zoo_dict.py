"""`ZooDict`: the splits of a zoo, with the methods that apply to all of them."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..zoos.errors import did_you_mean
from ..zoos.index import FILE_SPLITS, ZooIndex
from .dataset.zoo_dataset import ZooDataset
from .editing import save_zoo
from .html import html_table

SECOND_NAMES = {hub: ours for ours, hub in FILE_SPLITS.items() if hub != ours}


class ZooDict(dict[str, ZooDataset]):
    """Datasets of one zoo by split, as `load_zoo` returns them.

    It is a dict with the keys "train", "val" and "test", as far as they have rows. Looking up
    "validation", the word of the Hub, gives "val". A method applies to every split and returns a
    new `ZooDict`.

    Example:
        >>> from weightzoo import load_zoo
        >>> zoo = load_zoo(ZOO)
        >>> last = zoo.filter("epoch == 2").select_columns(["model_id", "test_accuracy"])
        >>> {split: len(rows) for split, rows in last.items()}
        {'train': 2, 'val': 1, 'test': 1}
        >>> last["validation"] is last["val"]
        True
    """

    def __missing__(self, key: str) -> ZooDataset:
        """Look up a split by its second name.

        Raises:
            KeyError: if the zoo has no such split; the message lists the splits.
        """
        ours = SECOND_NAMES.get(key)
        if ours is not None and ours in self:
            return self[ours]
        known = [*self, *SECOND_NAMES]
        raise KeyError(f"no split {key!r}, there are {list(self)}" + did_you_mean(str(key), known))

    def __getattr__(self, name: str) -> Any:
        """Say how a method of one dataset is called.

        Raises:
            AttributeError: always, as only names that are missing come here.
        """
        message = f"{type(self).__name__!r} object has no attribute {name!r}"
        if hasattr(ZooDataset, name) and self:
            split = next(iter(self))
            message += f": it is of one split, zoo[{split!r}].{name}"
        raise AttributeError(message)

    def __contains__(self, key: object) -> bool:
        """Whether there is a split of that name, in our word or the Hub's."""
        return super().__contains__(key) or super().__contains__(SECOND_NAMES.get(str(key)))

    def get(self, key: str, default: Any = None) -> Any:
        """Return a split by either name, or the default.

        Args:
            key: name of the split.
            default: value for a split that is missing.
        """
        return self[key] if key in self else default

    def map_splits(self, change: Callable[[ZooDataset], ZooDataset]) -> "ZooDict":
        """Apply a function to every split."""
        return ZooDict({split: change(rows) for split, rows in self.items()})

    def filter(self, condition: str | Callable[[Mapping[str, np.ndarray]], Any]) -> "ZooDict":
        """Select the rows of every split that fulfil a condition, see `ZooDataset.filter`.

        Raises:
            ValueError: if the text is no comparison, or the function returns no (N,) booleans.
        """
        return self.map_splits(lambda rows: rows.filter(condition))

    def select_columns(self, names: str | Sequence[str]) -> "ZooDict":
        """Keep the named columns of every split only; the weights are always kept.

        Raises:
            KeyError: if there is no such column.
        """
        return self.map_splits(lambda rows: rows.select_columns(names))

    def with_format(self, format: str, *given: Any, **options: Any) -> "ZooDict":
        """Set the format of the items of every split, see `ZooDataset.with_format`.

        Args:
            format: one of `FORMATS`.
            *given: tokenizer of format "layer_sets".
            **options: its keyword arguments.

        Raises:
            ValueError: if the format is unknown, or a column has a name that layer sets use.
        """
        return self.map_splits(lambda rows: rows.with_format(format, *given, **options))

    def save(
        self,
        folder: str | Path,
        *,
        name: str | None = None,
        licence: str | None = None,
        description: str | None = None,
        overwrite: bool = False,
    ) -> ZooIndex:
        """Write all splits as a whole zoo folder, see `save_zoo`.

        Args:
            folder: zoo folder to make.
            name: name of the zoo; None takes the folder's.
            licence: licence of the zoo; None keeps that of the zoo it is made from.
            description: line for the card; None keeps that of the zoo it is made from.
            overwrite: replace a zoo at `folder`.

        Raises:
            ValueError: if there is no row, or a column that every zoo has was not loaded.
            BuildError: if the folder is taken.
        """
        return save_zoo(
            self,
            folder,
            name=name,
            licence=licence,
            description=description,
            overwrite=overwrite,
        )

    def __repr__(self) -> str:
        """Show name and size once, and the rows of each split."""
        if not self:
            return "ZooDict()"
        first = next(iter(self.values()))
        rows = ", ".join(f"{split}: {len(part)} rows" for split, part in self.items())
        return f"ZooDict({first.name!r}, D={first.source.width}, {rows})"

    def _repr_html_(self) -> str:
        """Show the splits as a table in a notebook."""
        first = next(iter(self.values()), None)
        if first is None:
            return html_table("empty zoo", ("split", "rows"), ())
        architecture = first.header.architecture
        kind = "unknown architecture" if architecture is None else architecture.name
        rows = [(split, f"{len(part):,}", _models(part)) for split, part in self.items()]
        title = f"{first.name}: {kind}, D = {first.source.width:,}"
        return html_table(title, ("split", "rows", "models"), rows)


def _models(dataset: ZooDataset) -> str:
    """Number of models; unknown without the column."""
    if "model_id" not in dataset.table.names:
        return "unknown"
    return f"{len(np.unique(dataset.table.column('model_id', dataset.rows))):,}"
