"""Collections of LoRA adapters: PEFT, diffusers and kohya files, and plain .pth files.

A file is read as by `state-dicts`: one adapter a file, with a table of properties if there is one,
and `checkpoint-N` folders as epochs. Beside a file, `adapter_config.json` gives the columns
`adapter_rank`, `adapter_alpha`, `adapter_base`, `adapter_task` and more, `README.md` the licence.
Files without a config give their rank by the shapes of their factors, and their alpha by its
tensors (kohya) or by the metadata that diffusers writes. `adapter_scale` is what the product B A is
multiplied with: alpha / rank, or alpha / sqrt(rank) if the config says so; `adapter_scales` has it
by module if modules differ. Texts of a file's metadata, such as the class of Model-J's adapters,
are columns too.

Tensors are named `<module>.lora_A.weight` and `<module>.lora_B.weight` in every layout. Layer sets
of the product come from `zoos.tokens.lora_sets`.

A folder `train`, `val` or `test` above a file gives its split. If all files are .pth and end in _0
or _1, as those of PADBench (PEFTGuard, Sun et al. 2025, doi 10.1109/SP61157.2025.00161), the number
is the column `label`: 1 for an adapter with a backdoor. The detector of PADBench reads products
B A in place of factors: one tensor (modules x layers, out, in) a file, or one tensor
(layers, out, in) by kind of module, such as `q_proj`. They are kept as stored, under `products` or
the names of the file; their rank and scale are not recorded.
"""

import json
import math
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from ...zoos.strict_json import json_text
from ...zoos.tensors.lazy import LazyTensor
from ...zoos.tensors.lora_names import PEFT_PREFIX, factor_of, stored_factor
from ..checkpoints.opening import find_state_dict, natural_order
from ..checkpoints.tensors import Leaf
from ..checkpoints.unreadable import UnreadableFileError, reading, shown
from ..importing.model_texts import NO_LICENCE, adapter_columns, card_licence, common_licence
from ..importing.models import FoundModel, OpenState, Remark, Scan
from .state_dicts import SPLIT_NAMES, StateDictReader

CONFIG_NAME, CARD_NAME = "adapter_config.json", "README.md"
PRODUCTS, STACK_DIMENSIONS = "products", 3
LONGEST_TEXT = 200  # of a value in a file's metadata that becomes a column
_WHOLE_NAMES = ("adapter_model", "pytorch_lora_weights")
_LABEL = re.compile(r".*_([01])")
_NESTED = "lora_adapter_metadata"  # where diffusers keeps the configs of its components


class LoraReader(StateDictReader):
    """Reads one adapter per file."""

    def scan(self) -> Scan:
        """Find all adapters, and describe each by its config, its card and its shapes."""
        scan = super().scan()
        found, scan.models = scan.models, []
        for model in found:
            with scan.refusing(model.name):
                self._describe(model, scan)
                scan.models.append(model)
        _set_labels(scan)
        scan.licence = common_licence({str(one.properties["licence"]) for one in scan.models})
        scan.notes.append("tensors are named <module>.lora_A.weight and <module>.lora_B.weight")
        return scan

    def open_state(self, model: FoundModel, row: int) -> OpenState:
        """Open the factors of one adapter under common names; tensors of alpha are left out.

        Args:
            model: model of the source.
            row: index of the checkpoint in `model.locations`.

        Raises:
            UnreadableFileError: if it holds no factors, half a pair, or two tensors of one name.
        """
        if len(files := model.locations[row]) == 1:
            checkpoint = self.open_file(files[0])
            if products := _products(checkpoint.root):
                return OpenState(products, checkpoint.read)
            state = OpenState(self.rename(find_state_dict(checkpoint.root), model), checkpoint.read)
        else:
            state = super().open_state(model, row)
        named: dict[str, Leaf] = {}
        for name, leaf in state.tensors.items():
            if name.endswith(".alpha"):
                continue
            key = _stored_name(name)
            if key in named:
                raise UnreadableFileError(f"two tensors stand for {key!r}")
            named[key] = leaf
        _check_factors(named)
        return OpenState({k: named[k] for k in sorted(named, key=natural_order)}, state.read)

    def _describe(self, model: FoundModel, scan: Scan) -> None:
        """Add the columns of an adapter, from the last of its checkpoints."""
        file = model.locations[-1][0]
        folder = file.rpartition("/")[0]
        config = self._config(model.name, folder, scan)
        kind = "DoRA" if config.get("use_dora") else config.get("peft_type", "LORA")
        if kind != "LORA":
            raise UnreadableFileError(f"an adapter of kind {kind!r}: only LORA is read")
        checkpoint = self.open_file(file)
        if products := _products(checkpoint.root):
            self._describe_products(model, products, folder, scan)
            return
        metadata = _metadata(checkpoint.metadata)
        whole = len(model.locations[-1]) == 1  # adapters in several files are opened together
        state = (
            OpenState(find_state_dict(checkpoint.root), checkpoint.read)
            if whole
            else super().open_state(model, len(model.locations) - 1)
        )
        ranks = _ranks(state.tensors)
        alphas = {
            _module(name): float(np.asarray(state.read(leaf)).reshape(-1)[0])
            for name, leaf in state.tensors.items()
            if name.endswith(".alpha") and math.prod(leaf.shape) == 1
        }
        nested = _nested_config(checkpoint.metadata)
        columns = adapter_columns(nested | config)
        columns["adapter_rank"] = max(ranks.values())
        columns |= _scales(nested | config, ranks, alphas)
        licence = {"licence": self._licence(folder)}
        model.properties = metadata | columns | licence | model.properties
        model.split = model.split or _split_of(file)
        base = file.rpartition("/")[2].partition(".")[0]
        if folder and base in _WHOLE_NAMES and model.name == f"{folder}/{base}":
            model.name = folder

    def _describe_products(
        self, model: FoundModel, products: Mapping[str, Leaf], folder: str, scan: Scan
    ) -> None:
        """Add the columns of a file of products."""
        model.properties = {"licence": self._licence(folder)} | model.properties
        model.split = model.split or _split_of(model.locations[-1][0])
        note = f"products B A are kept as stored, such as {shown([*products][0])}"
        if note not in scan.notes:
            scan.notes.append(note)

    def _config(self, name: str, folder: str, scan: Scan) -> dict[str, Any]:
        file = f"{folder}/{CONFIG_NAME}".lstrip("/")
        if file not in self.source:
            return {}
        try:
            with reading():
                config = json.loads(self.source.read(file))
                return dict(config)
        except UnreadableFileError as error:
            scan.remarks.append(Remark(name, f"{CONFIG_NAME}: {error}"))
            return {}

    def _licence(self, folder: str) -> str:
        """Licence of the card beside a file, or of the collection's."""
        for file in (f"{folder}/{CARD_NAME}".lstrip("/"), CARD_NAME):
            if file in self.source:
                return card_licence(self.source.read(file))
        return NO_LICENCE


def _stored_name(name: str) -> str:
    """Name of a tensor in a zoo."""
    if (factor := factor_of(name)) is not None:
        return factor.stored
    return name.removeprefix(PEFT_PREFIX)


def _module(name: str) -> str:
    """Module that a tensor of alpha belongs to."""
    return name.removesuffix(".alpha").removeprefix(PEFT_PREFIX)


def _products(root: Any) -> dict[str, Leaf] | None:
    """The stacks of products in a file, or None if it holds anything else."""
    named = root if isinstance(root, Mapping) and root else {PRODUCTS: root}
    found = {str(name): getattr(value, "array", value) for name, value in named.items()}
    are_stacks = all(
        isinstance(value, LazyTensor | np.ndarray)
        and len(value.shape) >= STACK_DIMENSIONS
        and factor_of(name) is None
        for name, value in found.items()
    )
    return found if are_stacks else None


def _check_factors(tensors: Mapping[str, Leaf]) -> None:
    """Reject adapters that lack one factor of a pair."""
    sides: dict[str, set[str]] = {}
    for name in tensors:
        if (factor := stored_factor(name)) is not None:
            sides.setdefault(factor.module, set()).add(factor.side)
        elif "lora_" in name.rpartition(".")[0].rpartition(".")[2] or "lora_magnitude" in name:
            raise UnreadableFileError(f"{shown(name)} is no factor of an adapter")
    if not sides:
        raise UnreadableFileError(f"holds no factors of an adapter, but {shown(list(tensors)[:3])}")
    if halves := sorted(module for module, found in sides.items() if len(found) < 2):
        raise UnreadableFileError(f"lacks one of the two factors of {shown(halves[:3])}")


def _ranks(tensors: Mapping[str, Leaf]) -> dict[str, int]:
    """Rank by module, the first size of A."""
    found = {}
    for name, leaf in tensors.items():
        factor = factor_of(name)
        if factor is not None and factor.side == "A" and leaf.shape:
            found[factor.module] = int(leaf.shape[0])
    if not found:
        raise UnreadableFileError(f"holds no factors of an adapter, but {shown(list(tensors)[:3])}")
    return found


def _scales(
    config: Mapping[str, Any], ranks: Mapping[str, int], alphas: Mapping[str, float]
) -> dict[str, Any]:
    """Alpha and scale of the product, one value or JSON by module."""
    pattern = config.get("alpha_pattern") or {}
    scales = {}
    for module, rank in ranks.items():
        own = next((v for k, v in pattern.items() if f".{module}".endswith(f".{k}")), None)
        alpha = alphas.get(module, own if own is not None else config.get("lora_alpha"))
        if alpha is not None:
            scales[module] = alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)
    if not config and not alphas:  # diffusers writes no alpha where it equals the rank
        scales = dict.fromkeys(ranks, 1.0)
    found: dict[str, Any] = {"adapter_scale": None}
    if len(set(alphas.values())) == 1:
        found["adapter_alpha"] = next(iter(alphas.values()))
    if len(set(scales.values())) == 1 and len(scales) == len(ranks):
        found["adapter_scale"] = next(iter(scales.values()))
    elif scales:
        found["adapter_scales"] = json_text(scales)
    return found


def _metadata(metadata: Mapping[str, str]) -> dict[str, str]:
    """Short texts of a file's metadata, as columns."""
    return {
        key: value
        for key, value in metadata.items()
        if key not in ("format", _NESTED) and len(value) <= LONGEST_TEXT
    }


def _nested_config(metadata: Mapping[str, str]) -> dict[str, Any]:
    """The config of PEFT that diffusers keeps in the metadata, of its first component."""
    with reading():
        entries = json.loads(metadata.get(_NESTED) or "{}")
        config: dict[str, Any] = {}
        for key, value in entries.items():
            config.setdefault(str(key).rpartition(".")[2], value)
    return config


def _split_of(file: str) -> str | None:
    """Split by the name of a folder above a file."""
    found = [SPLIT_NAMES.get(part, part) for part in file.lower().split("/")[:-1]]
    return next((part for part in found if part in SPLIT_NAMES.values()), None)


def _set_labels(scan: Scan) -> None:
    """Add the column `label`, if all files are named as those of PADBench."""
    found = [_LABEL.fullmatch(model.locations[0][0].removesuffix(".pth")) for model in scan.models]
    if not all(model.locations[0][0].endswith(".pth") for model in scan.models):
        return
    for model, match in zip(scan.models, found, strict=True):
        if all(found) and match:
            model.properties.setdefault("label", int(match[1]))
