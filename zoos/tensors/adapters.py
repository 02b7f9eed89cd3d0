"""LoRA adapters in PEFT's layout: `adapter_config.json` beside `adapter_model.safetensors`.

An adapter adds scale * B A to a weight of its base, where scale is alpha / rank, or
alpha / sqrt(rank) with rank-stabilised scaling (Kalajdzievski 2023, arXiv:2312.03732).

Shape letters: O outputs, I inputs, R rank.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import ZooFormatError
from .checkpoint_folder import read_json
from .safetensors_file import SafetensorsFile

CONFIG_NAME, WEIGHTS_NAME = "adapter_config.json", "adapter_model.safetensors"
_PREFIX = "base_model.model."
_FACTOR = re.compile(r"^(?P<module>.+)\.lora_(?P<side>[AB])(\.[^.]+)?\.weight$")


@dataclass(frozen=True)
class LoraAdapter:
    """An open adapter.

    Attributes:
        path: its folder.
        file: its tensors.
        base: what the config calls its base: a path or a Hub repository.
        factors: names of A and B in the file, by the name of the weight in the base.
        scales: what B A is multiplied with, by the name of the weight.
        replaced: names in the file of tensors that replace the base's, by name in the base.
        transposed: whether the base holds its weights as (I, O).
    """

    path: Path
    file: SafetensorsFile
    base: str
    factors: Mapping[str, tuple[str, str]]
    scales: Mapping[str, float]
    replaced: Mapping[str, str]
    transposed: bool

    def delta(self, name: str) -> Tensor:
        """What the adapter adds to a weight of the base, (O, I) or transposed, float32."""
        a_RI, b_OR = (self.file.read(factor).float() for factor in self.factors[name])
        delta = torch.mm(b_OR, a_RI) * self.scales[name]
        return delta.T.contiguous() if self.transposed else delta


def is_adapter(path: Path) -> bool:
    """Whether a folder holds a PEFT adapter."""
    return (path / CONFIG_NAME).is_file()


def open_adapter(path: Path | str) -> LoraAdapter:
    """Open an adapter; no tensor is read.

    Raises:
        ZooFormatError: if it is of another kind than LoRA, or names tensors we cannot place.
    """
    path = Path(path)
    config = read_json(path / CONFIG_NAME)
    kind = config.get("peft_type")
    if kind != "LORA" or config.get("use_dora"):
        raise ZooFormatError(
            f"{path} is an adapter of kind {'DoRA' if config.get('use_dora') else kind!r}: only "
            "LORA is read, merge it into its base first"
        )
    file = SafetensorsFile(path / WEIGHTS_NAME)
    factors, replaced = _sorted_tensors(path, file)
    return LoraAdapter(
        path=path,
        file=file,
        base=str(config.get("base_model_name_or_path") or ""),
        factors=factors,
        scales={name: _scale(path, config, file, name, pair) for name, pair in factors.items()},
        replaced=replaced,
        transposed=bool(config.get("fan_in_fan_out")),
    )


def _sorted_tensors(
    path: Path, file: SafetensorsFile
) -> tuple[dict[str, tuple[str, str]], dict[str, str]]:
    sides, replaced = dict[str, dict[str, str]](), dict[str, str]()
    for key in file.tensors:
        match = _FACTOR.match(key)
        if match:
            weight = f"{match['module'].removeprefix(_PREFIX)}.weight"
            sides.setdefault(weight, {})[match["side"]] = key
        elif "lora_" in key or not key.startswith(_PREFIX):
            raise ZooFormatError(f"{path} holds {key!r}, which is no factor of a linear layer")
        else:
            replaced[key.removeprefix(_PREFIX).replace(".modules_to_save.default.", ".")] = key
    if halves := sorted(name for name, pair in sides.items() if len(pair) < 2):
        raise ZooFormatError(f"{path} lacks one of the two factors of {halves[:5]}")
    return {name: (pair["A"], pair["B"]) for name, pair in sides.items()}, replaced


def _scale(
    path: Path,
    config: Mapping[str, Any],
    file: SafetensorsFile,
    name: str,
    pair: tuple[str, str],
) -> float:
    shape_a, shape_b = (file.tensors[factor].type.shape for factor in pair)
    if len(shape_a) != 2 or len(shape_b) != 2 or shape_a[0] != shape_b[1]:
        raise ZooFormatError(f"{path}: the factors of {name!r} have shapes {shape_a}, {shape_b}")
    module, rank = name.removesuffix(".weight"), shape_a[0]
    alpha = config.get("lora_alpha")
    for pattern, own in (config.get("alpha_pattern") or {}).items():
        if not re.fullmatch(r"[\w.]+", pattern):  # a pattern from a file could take for ever
            raise ZooFormatError(f"{path} has the alpha_pattern {pattern!r}: only names are read")
        if f".{module}".endswith(f".{pattern}"):
            alpha = own
    if not isinstance(alpha, int | float):
        raise ZooFormatError(f"{path / CONFIG_NAME} has no number 'lora_alpha', got {alpha!r}")
    return alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)
