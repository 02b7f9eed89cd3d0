"""Trained encoders that predict a property, as folders of trained models."""

from pathlib import Path
from typing import Any

import torch

from ...encoders.registry import ENCODERS
from ...zoos.networks.layer_table import LayerTable
from ..scoring.targets import TargetMapping
from .encoder_making import encoder_config, encoder_name, encoder_path, handed_entry, remake_encoder
from .model_folder import (
    config_errors,
    load_weights,
    read_model_config,
    read_model_tensors,
    write_model_folder,
)
from .property_predictor import PropertyPredictor
from .weight_scaling import WeightScaler

FORMAT = "weightzoo-encoder-1"
KEYS = ("encoder", "config", "layer_table", "link", "scaler", "training")


def save_predictor(predictor: PropertyPredictor, folder: Path | str) -> Path:
    """Write an encoder with everything that prediction needs.

    Args:
        predictor: trained encoder.
        folder: folder to write, created if it does not exist.

    Returns:
        The folder.

    Raises:
        ValueError: if an argument of the encoder is no value of JSON.
    """
    module, table = predictor.module, getattr(predictor.module, "layer_table", None)
    config = {
        "format": FORMAT,
        "encoder": (name := encoder_name(module)),
        "config": encoder_config(module),
        "layer_table": table.to_json() if isinstance(table, LayerTable) else None,
        "link": predictor.target_mapping.to_json(),
        "scaler": predictor.scaler.to_json(),
        "training": dict(predictor.training),
    }
    if name not in ENCODERS:  # the caller of a load must hand over the class
        config["class"] = encoder_path(module)
    return write_model_folder(folder, module.state_dict(), config, _card(config))


def load_predictor(
    folder: Path, device: str = "cpu", encoder: type[torch.nn.Module] | str | None = None
) -> PropertyPredictor:
    """Load an encoder that `save_predictor` wrote; nothing that its files name is imported.

    Args:
        folder: folder of the encoder.
        device: device of the encoder.
        encoder: class of an encoder of your own, or its name or "package.module:Class"; None
            loads an encoder of weightzoo, or one that `register_encoder` was given.

    Raises:
        ModelFormatError: if it has no trained encoder, one of another version or of a class that
            was not handed over, or weights that do not fit its config.
        ValueError: if the name or class that is handed over is no encoder.
    """
    config, handed = read_model_config(folder, {FORMAT: KEYS}), handed_entry(encoder)
    target_mapping = TargetMapping.from_json(config["link"])
    with config_errors(folder, TypeError, ValueError, AttributeError):
        module = remake_encoder(
            config["encoder"],
            config["config"],
            config["layer_table"],
            config.get("class"),
            handed,
        )
    load_weights(module, read_model_tensors(folder), folder)
    return PropertyPredictor(
        module=module.to(device).eval(),
        target_mapping=target_mapping,
        scaler=WeightScaler.from_json(config["scaler"]),
        training=config["training"],
    )


def _card(config: dict[str, Any]) -> str:
    """The model card on the Hub, made from the config."""
    training = config["training"]
    zoos = ", ".join(f"{zoo['name']} ({zoo['rows']} rows)" for zoo in training.get("zoos", []))
    score = training.get("val_score")
    found = f"score on the val split {score} at epoch {training.get('best_epoch')}"
    if score is None:
        found = f"no score on the val split ({training.get('note') or 'none recorded'})"
    return f"""---
library_name: weightzoo
tags: [weight-space-learning, model-zoo]
---
# {config["encoder"]} predicting {config["link"]["target"]}

Predicts the column `{config["link"]["target"]}` of a model zoo from the weights of its models.
Trained with weightzoo on {zoos or "an unknown zoo"}, seed {training.get("seed")};
{found}.

```python
from weightzoo.loaders import load_zoo
from weightzoo.tasks import from_pretrained

predicted = from_pretrained("path/or/repo").predict(load_zoo("zoo", split="test"))
```
"""
