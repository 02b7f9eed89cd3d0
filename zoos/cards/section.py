"""The part of a card that describes one zoo to a reader."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from ..format import SPLITS, WEIGHTS
from ..index import Shard
from ..strict_json import json_text
from .card_zoo import CardZoo, split_rows
from .licences import is_imported, licence_note, shared_licence

PLOT_NAME = "plot.png"
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
_SHARED_SEEDS = (
    "\nEvery combination of the grid has the same seeds, so models of different splits start from "
    "the\nsame random draws. An encoder may exploit the positions of weights in this zoo; it then "
    "fails\non models that start from other weights."
)


def zoo_section(zoo: CardZoo, level: str, use: str, url: str) -> str:
    """The part of a card that describes one zoo to a reader.

    Args:
        zoo: facts of the zoo.
        level: mark of its heading, "#" or "##".
        use: lines on how to load it.
        url: address of its repository; "" without one.
    """
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

{shared_licence([zoo])}.{licence_note(zoo)}

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
    return "\n".join(
        f"| {split} | {models[split]} | {split_rows(shards, split)} |" for split in SPLITS
    )


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
    made = "Imported" if is_imported(zoo) else "Built"
    fields["note"] = f"{made} with weightzoo {provenance.get('weightzoo', '')}".rstrip()
    lines = "".join(f"  {key} = {{{value}}},\n" for key, value in fields.items())
    return f"@misc{{{zoo.name},\n{lines}}}"


def size_line(zoo: CardZoo) -> str:
    """Numbers of rows, models and parameters in words."""
    size = f"with {zoo.layer_table.parameters:,} parameters" if zoo.layer_table else "of "
    size += "" if zoo.layer_table else zoo.networks
    return f"{zoo.rows:,} rows of {zoo.models:,} networks {size}"
