"""Columns from the texts that Hugging Face libraries write beside weights."""

import re
from typing import Any

from ...zoos.strict_json import json_text

NO_LICENCE = "none stated"
_LICENCE = re.compile(r"^license:[ \t]*[\"']?([\w .+-]+?)[\"']?[ \t]*$", re.MULTILINE)
_ADAPTER = {  # key of adapter_config.json: column
    "peft_type": "adapter_type",
    "task_type": "adapter_task",
    "base_model_name_or_path": "adapter_base",
    "r": "adapter_rank",
    "lora_alpha": "adapter_alpha",
    "lora_dropout": "adapter_dropout",
    "target_modules": "adapter_targets",
    "bias": "adapter_bias",
}


def adapter_columns(config: Any) -> dict[str, Any]:
    """Columns of an `adapter_config.json` of PEFT; lists become sorted JSON."""
    kept = {column: config.get(key) for key, column in _ADAPTER.items()}
    return {c: json_text(sorted(v)) if isinstance(v, list) else v for c, v in kept.items()}


def card_licence(text: bytes) -> str:
    """Licence in the metadata of a model card, or `NO_LICENCE`."""
    card = text.decode("utf-8", "replace").split("\n---", 1)[0]
    match = _LICENCE.search(card) if card.startswith("---") else None
    return match[1].strip() if match else NO_LICENCE


def common_licence(licences: set[str]) -> str | None:
    """The licence that all models state, or None."""
    return licences.pop() if len(licences) == 1 and licences != {NO_LICENCE} else None
