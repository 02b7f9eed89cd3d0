"""`write_zoo`: models that are trained already become a zoo folder, one by one.

Shape letters: N models or checkpoints, D length of the flat weight vector.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, nn

from ...zoos.column_values import column_array, table_columns
from .zoo_writer import WrittenZoo, ZooWriter


def write_zoo(
    folder: str | Path,
    models: Any,
    columns: Any = None,
    *,
    name: str,
    licence: str,
    architecture: Any = None,
    input_shape: Sequence[int] | None = None,
    splits: Any = None,
    parents: str | Path | None = None,
    description: str = "",
    overwrite: bool = False,
) -> WrittenZoo:
    """Write models of one architecture as a zoo folder, which `load_zoo` opens.

    Models are taken one by one: a generator that loads each from its file needs the memory of one.
    A call that was killed goes on when it is made again with the same arguments; the models are
    asked for again, and those that are there are compared, not written.

    Args:
        folder: the zoo folder to make.
        models: N state dicts or `nn.Module`s in any iterable, or an array or tensor (N, D), which
            needs an architecture.
        columns: N values by column name: a dict of sequences, a pandas DataFrame or an Arrow
            table. `model_id` counts up from 0 unless it is given; give it, and `epoch`, where
            models have several checkpoints. Accuracies are fractions.
        name: the zoo's name.
        licence: the Hub's word for the licence of the weights, such as "cc-by-4.0" or "mit".
        architecture: an `Architecture` or its plain data, a `LayerTable`, an `nn.Module` or what
            `trace_architecture` returns. None traces the first model if it is a module: one whose
            layers are known can be rebuilt, of others only the state dicts are kept.
        input_shape: (channels, height, width) or (features,) of an input, without the batch; None
            derives it where it can be derived.
        splits: N splits, a seed from which they are drawn by model, or a dict of shares by split;
            None takes the seed 0 and 70, 15 and 15 %.
        parents: zoo folder that the models descend from, see `ZooWriter`.
        description: a line for the card.
        overwrite: replace a zoo at `folder`, and discard other unfinished work.

    Returns:
        What was written; its `note` says what a zoo of state dicts only cannot do.

    Raises:
        TypeError: if an argument is of another type.
        ValueError: if models and columns differ in number, a model does not fit the first one, or
            a value is not allowed.
        BuildError: if the folder is taken.

    Example:
        >>> import tempfile, torch
        >>> from torch import nn
        >>> from weightzoo import load_zoo, write_zoo
        >>> modules = [nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)) for _ in "12345"]
        >>> written = write_zoo(
        ...     tempfile.mkdtemp() + "/mine",
        ...     modules,
        ...     {"test_accuracy": [0.1, 0.2, 0.3, 0.4, 0.5], "teacher": ["a", "b", "a", "b", "a"]},
        ...     name="mine",
        ...     licence="cc-by-4.0",
        ... )
        >>> written.splits
        {'train': 4, 'test': 1}
        >>> load_zoo(written.path, split="train").filter("teacher == 'a'").columns["epoch"][0]
        np.int64(-1)
    """
    given = table_columns(columns)
    if _is_by_model(splits):
        given, splits = given | {"split": column_array("split", splits)}, None
    writer = ZooWriter(
        folder,
        name=name,
        licence=licence,
        architecture=architecture,
        input_shape=input_shape,
        splits=splits,
        parents=parents,
        description=description,
        overwrite=overwrite,
    )
    rows = _checked_models(models)
    with writer:
        try:
            _add_all(writer, rows, given)
            writer.check()
        except (TypeError, ValueError):
            writer.discard()  # a corrected call has other rows
            raise
    return writer.result


def _is_by_model(splits: Any) -> bool:
    return not isinstance(splits, str | Mapping | int) and splits is not None


def _checked_models(models: Any) -> Iterable[Any]:
    """The models as an iterable; a single one is refused."""
    if isinstance(models, nn.Module) and not isinstance(models, nn.ModuleList):
        raise TypeError("models must be many, got a single nn.Module: hand over a list of modules")
    if isinstance(models, str | bytes | Path) or not isinstance(models, Iterable):
        raise TypeError(
            "models must be an iterable of state dicts or modules, or an array (N, D), got "
            f"{models!r}"
        )
    if isinstance(models, Mapping):
        raise TypeError(
            "models must be a list, got a dict: for one state dict give [state_dict]; for models "
            "by name give list(models.values()) and the names as a column"
        )
    if isinstance(models, np.ndarray | Tensor) and models.ndim != 2:
        raise TypeError(
            f"an array of models must be (N, D), got shape {tuple(models.shape)}: flatten each "
            "model into one row"
        )
    return models


def _add_all(writer: ZooWriter, models: Iterable[Any], columns: Mapping[str, np.ndarray]) -> None:
    """Add every model with its row of the columns.

    Raises:
        ValueError: if there are more models than rows, or fewer.
    """
    count = len(next(iter(columns.values()))) if columns else None
    done = 0
    for done, model in enumerate(models, 1):
        if count is not None and done > count:
            raise ValueError(f"there are more models than the {count} rows of the columns")
        try:
            writer.add(model, **{name: column[done - 1] for name, column in columns.items()})
        except (TypeError, ValueError) as error:
            kind = TypeError if isinstance(error, TypeError) else ValueError
            raise kind(f"model {done - 1}: {error}") from error
    if count is not None and done < count:
        raise ValueError(f"there are {done} models, and the columns have {count} rows")
