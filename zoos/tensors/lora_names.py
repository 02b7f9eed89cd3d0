"""Names of the factors of LoRA adapters in the layouts of PEFT, diffusers and kohya.

An adapter adds B A to a weight. PEFT names the factors `<module>.lora_A.weight` and
`.lora_B.weight` (with the adapter's name in between in an unsaved module), diffusers
`<module>.lora.down.weight` and `.lora.up.weight` or `<module>.processor.to_q_lora.down.weight`,
kohya `<module>.lora_down.weight` and `.lora_up.weight`. Files of one
layer name them `A` and `B`.
"""

import re
from dataclasses import dataclass
from functools import lru_cache

PEFT_PREFIX = "base_model.model."
KEPT_NAME = 500  # characters of a name whose factor is kept
_SIDES = {"A": "A", "B": "B", "down": "A", "up": "B"}
_FACTORS = tuple(
    re.compile(pattern)
    for pattern in (
        r"(?P<module>.+)\.lora_(?P<embedding>embedding_)?(?P<side>[AB])(?:\.[^.]+)?\.weight",
        r"(?P<module>.+)\.lora_(?P<embedding>embedding_)(?P<side>[AB])(?:\.[^.]+)?",
        r"(?P<module>.+)\.processor\.(?P<projection>to_[a-z]+)_lora\.(?P<side>down|up)\.weight",
        r"(?P<module>.+)\.lora[._](?P<side>down|up)\.weight",
        r"(?P<side>[AB])",
    )
)
_STORED = re.compile(r"(?:(?P<module>.+)\.)?lora_(?P<embedding>embedding_)?(?P<side>[AB])\.weight")


@dataclass(frozen=True)
class FactorName:
    """A factor of an adapter.

    Attributes:
        module: name of the adapted module, without the prefix of PEFT.
        side: "A", the inputs to the rank, or "B", the rank to the outputs.
        embeds: whether the module is an embedding, whose weight is the transposed product.
    """

    module: str
    side: str
    embeds: bool = False

    @property
    def stored(self) -> str:
        """Name of the tensor in a zoo, equal for all layouts."""
        kind = "lora_embedding_" if self.embeds else "lora_"
        return f"{self.module}.{kind}{self.side}.weight".lstrip(".")


def factor_of(name: str) -> FactorName | None:
    """The factor with a published name, or None if the tensor is no factor.

    Example:
        >>> from weightzoo.zoos.tensors.lora_names import factor_of
        >>> factor_of("base_model.model.layers.0.q_proj.lora_A.default.weight").stored
        'layers.0.q_proj.lora_A.weight'
        >>> factor_of("unet.mid.attn1.processor.to_q_lora.up.weight").stored
        'unet.mid.attn1.to_q.lora_B.weight'
    """
    return _kept_factor(name) if len(name) <= KEPT_NAME else _find_factor(name)


def _find_factor(name: str) -> FactorName | None:
    for pattern in _FACTORS:
        if match := pattern.fullmatch(name):
            found = match.groupdict()
            parts = (found.get("module"), found.get("projection"))
            module = ".".join(part for part in parts if part).removeprefix(PEFT_PREFIX)
            return FactorName(module, _SIDES[found["side"]], bool(found.get("embedding")))
    return None


_kept_factor = lru_cache(4096)(_find_factor)  # adapters of one kind share their names


def stored_factor(name: str) -> FactorName | None:
    """The factor with a name of a zoo, see `FactorName.stored`, or None."""
    match = _STORED.fullmatch(name)
    return match and FactorName(match["module"] or "", match["side"], bool(match["embedding"]))
