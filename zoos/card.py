"""The dataset card of a zoo folder: what the zoo is, and where stock `datasets` finds its files."""

import json
from pathlib import Path

from .format import SPLITS, ZooHeader
from .index import FILE_SPLITS, ZooIndex

CARD_NAME = "README.md"
LICENCE = "cc-by-4.0"


def write_card(folder: Path, index: ZooIndex, header: ZooHeader) -> None:
    """Write `README.md` in the Hub's conventions, so that `load_dataset(folder)` works.

    Args:
        folder: the zoo folder.
        index: its index.
        header: the header of any of its files.
    """
    (folder / CARD_NAME).write_text(f"---\n{_metadata(index)}\n---\n\n{_body(index, header)}")


def _metadata(index: ZooIndex) -> str:
    """The YAML block: one config whose data files are the shards of each split."""
    from huggingface_hub import DatasetCardData

    splits = [split for split in SPLITS if any(shard.split == split for shard in index.shards)]
    data_files = [
        {
            "split": FILE_SPLITS[split],
            "path": [shard.path for shard in index.shards if shard.split == split],
        }
        for split in splits
    ]
    card = DatasetCardData(
        license=LICENCE,
        pretty_name=index.name,
        tags=["model-zoo", "weight-space-learning", "weightzoo"],
        configs=[{"config_name": index.name, "default": True, "data_files": data_files}],
    )
    return card.to_yaml()


def _body(index: ZooIndex, header: ZooHeader) -> str:
    table, recipe = header.layer_table, header.recipe
    models = {
        split: sum(shard.models for shard in index.shards if shard.split == split)
        for split in SPLITS
    }
    return f"""# {index.name}

{recipe.get("description", "")}

{sum(models.values())} models, {sum(shard.rows for shard in index.shards)} checkpoints, \
{table.parameters:,} parameters each (rows of {table.width:,} values with buffers).

| split | models | checkpoints |
|---|---|---|
{_split_rows(index, models)}

Splits are by model: no model has checkpoints in two splits. `weights` is (N, D) float32, one
checkpoint per row; the other columns hold its epoch, hyper-parameters and metrics (accuracies
are fractions). Rows with `status` "diverged" hold non-finite weights or losses.

```python
from weightzoo import load_zoo

train = load_zoo("{index.name}", split="train")  # the folder's path
```

Stock `datasets` reads the same files: `load_dataset("{index.name}", split="train")`.

## How it was built

```json
{json.dumps({"recipe": recipe, "provenance": header.provenance}, indent=1)}
```
"""


def _split_rows(index: ZooIndex, models: dict[str, int]) -> str:
    rows = {split: 0 for split in SPLITS}
    for shard in index.shards:
        rows[shard.split] += shard.rows
    return "\n".join(f"| {split} | {models[split]} | {rows[split]} |" for split in SPLITS)
