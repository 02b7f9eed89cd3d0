"""Registry of the encoders that predict properties, by their names on the command line.

An encoder is an `nn.Module` with `forward(weights (B, D), layer_table) -> (B, outputs)`,
`embed(weights, layer_table) -> (B, H)` and `config`, the arguments of its constructor as plain JSON
values. An encoder that needs a layer table is made for that architecture and takes it as its first
argument.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

from torch import nn

from ..zoos.errors import did_you_mean
from ..zoos.networks.layer_table import LayerTable


@dataclass(frozen=True, kw_only=True)
class EncoderEntry:
    """Description of an encoder, known before the encoder is imported.

    Attributes:
        module: name of its module in this package.
        class_name: name of its class in the module.
        needs_layer_table: whether the constructor takes the layer table first.
        several_architectures: whether one instance encodes networks of several architectures.
        summary: description in one line.
        options: constructor arguments that belong to the name.
    """

    module: str
    class_name: str
    needs_layer_table: bool
    several_architectures: bool
    summary: str
    options: Mapping[str, Any] = field(default_factory=dict)

    def load(self) -> type[nn.Module]:
        """Import the class."""
        encoder: type[nn.Module] = getattr(
            import_module(f".{self.module}", __package__), self.class_name
        )
        return encoder

    def make(self, layer_table: LayerTable | None = None, **options: Any) -> nn.Module:
        """Make an untrained encoder.

        Args:
            layer_table: layer table of the architecture; required if `needs_layer_table`, else
                ignored.
            **options: constructor arguments, which override those of the entry.

        Raises:
            ValueError: if a layer table is required and missing.
            UnsuitableError: if the encoder cannot take the architecture.
        """
        arguments = {**self.options, **options}
        if not self.needs_layer_table:
            return self.load()(**arguments)
        if layer_table is None:
            raise ValueError(
                f"{self.class_name} is made for one architecture: pass its layer_table, or use "
                f"one of {[name for name, one in ENCODERS.items() if one.several_architectures]}"
            )
        return self.load()(layer_table, **arguments)


def _entry(
    module: str, class_name: str, summary: str, *, bound: bool = False, **options: Any
) -> EncoderEntry:
    """Make an entry; a bound encoder is made for one architecture."""
    return EncoderEntry(
        module=module,
        class_name=class_name,
        needs_layer_table=bound,
        several_architectures=not bound,
        summary=summary,
        options=options,
    )


ENCODERS: dict[str, EncoderEntry] = {
    "sne": _entry("sne", "SNE", "sets of chunks, tensors and layers; any architecture"),
    "deepsets": _entry("deep_sets", "DeepSets", "all values as one set; any architecture"),
    "neural-graph": _entry(
        "neural_graph", "NeuralGraph", "messages between units; any architecture with a graph"
    ),
    "padded-mlp": _entry(
        "padded_mlp", "PaddedMLP", "a perceptron over the first values; any architecture"
    ),
    "flat-mlp": _entry("flat_mlp", "FlatMLP", "a perceptron over all values", bound=True),
    "statistics-mlp": _entry(
        "statistics_mlp",
        "StatisticsMLP",
        "a perceptron over seven statistics per tensor",
        bound=True,
    ),
    "nfn-hnp": _entry(
        "nfn", "NFN", "equivariant to hidden units; MLPs and CNNs", bound=True, symmetry="hnp"
    ),
    "nfn-np": _entry(
        "nfn", "NFN", "equivariant to all units; MLPs and CNNs", bound=True, symmetry="np"
    ),
    "nft": _entry(
        "nft", "NFT", "attention between rows and columns of weights; MLPs and CNNs", bound=True
    ),
    "dwsnet": _entry("dwsnet", "DWSNet", "equivariant to hidden units; MLPs and INRs", bound=True),
}


def encoder_entry(name: str) -> EncoderEntry:
    """Return the entry of a name.

    Raises:
        ValueError: if there is no such encoder; the message lists the names.
    """
    if name not in ENCODERS:
        raise ValueError(
            f"encoder must be one of {list(ENCODERS)}, got {name!r}" + did_you_mean(name, ENCODERS)
        )
    return ENCODERS[name]
