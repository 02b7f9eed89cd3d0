"""Registry of the encoders that predict properties, by their names on the command line.

An encoder is an `nn.Module` with `forward(weights (B, D), layer_table) -> (B, outputs)`,
`embed(weights, layer_table) -> (B, H)` and `config`, the arguments of its constructor as plain JSON
values. An encoder that needs a layer table is made for that architecture and takes it as its first
argument.

Encoders of users have a registered name (`register_encoder`), a name that an installed package
declares in the entry point group `weightzoo.encoders`, or are named "package.module:Class". The
latter two are imported only where a caller asks for them (`encoder_entry`), never for the name in
a file (`loaded_entry`).
"""

import inspect
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any, TypeVar

from torch import nn

from ..zoos.errors import did_you_mean
from ..zoos.named_objects import named_object
from ..zoos.networks.layer_table import LayerTable
from .sne import PAPER

ENTRY_POINTS = "weightzoo.encoders"  # group of entry points

Encoder = TypeVar("Encoder", bound=nn.Module)


@dataclass(frozen=True, kw_only=True)
class EncoderEntry:
    """Description of an encoder, known before the encoder is imported.

    Attributes:
        module: name of its module in this package, or of the module of a user's class.
        class_name: name of its class in the module.
        needs_layer_table: whether the constructor takes the layer table first.
        several_architectures: whether one instance encodes networks of several architectures.
        summary: description in one line.
        options: constructor arguments that belong to the name.
        own_class: class of a user; None for an encoder of this package.
    """

    module: str
    class_name: str
    needs_layer_table: bool
    several_architectures: bool
    summary: str
    options: Mapping[str, Any] = field(default_factory=dict)
    own_class: type[nn.Module] | None = None

    @property
    def path(self) -> str:
        """The class as "package.module:Class"."""
        module = self.module if self.own_class else f"{__package__}.{self.module}"
        return f"{module}:{self.class_name}"

    def load(self) -> type[nn.Module]:
        """Import the class."""
        if self.own_class is not None:
            return self.own_class
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
            return with_config(self.load()(**arguments), arguments)
        if layer_table is None:
            raise ValueError(
                f"{self.class_name} is made for one architecture: pass its layer_table, or use "
                f"one of {[name for name, one in ENCODERS.items() if one.several_architectures]}"
            )
        encoder = self.load()(layer_table=layer_table, **arguments)
        return with_config(encoder, arguments, layer_table)


def with_config(
    encoder: nn.Module, arguments: Mapping[str, Any], layer_table: LayerTable | None = None
) -> nn.Module:
    """The encoder, with what it was made with as `config` and `layer_table`, for saving it.

    Args:
        encoder: new encoder; attributes of these names that it has are kept.
        arguments: arguments of its constructor without the layer table.
        layer_table: layer table that it is made for, if any.
    """
    kept = {"config": dict(arguments)} | ({"layer_table": layer_table} if layer_table else {})
    for name, value in kept.items():
        if not hasattr(encoder, name):
            setattr(encoder, name, value)
    return encoder


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
    "sne-paper": _entry(
        "sne", "SNE", "the same in the paper's configuration; any architecture", **PAPER
    ),
    "deepsets": _entry("deep_sets", "DeepSets", "all values as one set; any architecture"),
    "neural-graph": _entry(
        "neural_graph", "NeuralGraph", "messages between units; any architecture with a graph"
    ),
    "dng": _entry("dng", "DNG", "one pass along the graph of units; any architecture with a graph"),
    "scale-gmn": _entry(
        "scale_gmn",
        "ScaleGMN",
        "messages that keep scales and signs of units; any architecture with a graph that "
        "weightzoo runs",
    ),
    "probegen": _entry(
        "probe_gen", "ProbeGen", "outputs on learned probes; any architecture that weightzoo runs"
    ),
    "hidden-probe": _entry(
        "hidden_probe",
        "HiddenProbe",
        "hidden responses to learned probes; any architecture that weightzoo runs",
    ),
    "probe-statistics": _entry(
        "probe_statistics",
        "ProbeStatistics",
        "outputs on learned probes, with statistics of outputs and weights; any "
        "architecture that weightzoo runs",
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
"""The encoders of this package by name."""

_OWN: dict[str, EncoderEntry] = {}  # registered by users


def register_encoder(
    name: str, encoder: type[Encoder], *, summary: str = "an encoder of your own"
) -> type[Encoder]:
    """Give a class of encoders a name, under which it is trained, saved and loaded like ours.

    Args:
        name: name of the encoder. Registering it again replaces the class.
        encoder: subclass of `nn.Module` with `forward(weights (B, D), layer_table) -> (B,
            outputs)`. Its constructor takes `outputs`, the number of outputs, and other arguments
            by keyword, with values of JSON. A constructor with the argument `layer_table` makes
            the encoder for one architecture. With a method `embed(weights, layer_table) -> (B,
            H)` the encoder also gives embeddings.
        summary: description in one line.

    Returns:
        The class.

    Raises:
        ValueError: if the name is taken or is no name, or the class is no such class.

    Example:
        >>> from weightzoo.encoders import SNE, encoder_entry, register_encoder
        >>> from weightzoo.encoders.registry import unregister_encoder
        >>> class SmallSNE(SNE):
        ...     def __init__(self, outputs: int = 1) -> None:
        ...         super().__init__(width=8, heads=1, blocks=1, outputs=outputs)
        >>> _ = register_encoder("small-sne", SmallSNE, summary="an SNE of width 8")
        >>> encoder_entry("small-sne").summary
        'an SNE of width 8'
        >>> unregister_encoder("small-sne")
    """
    if not isinstance(name, str) or not name.strip() or ":" in name or "/" in name:
        raise ValueError(
            f"the name of an encoder must be a text without ':' and '/', got {name!r}: take a name "
            "such as 'my-encoder'"
        )
    if name in ENCODERS:
        raise ValueError(f"name {name!r} is one of weightzoo's encoders: take another name")
    _OWN[name] = own_entry(encoder, summary)
    return encoder


def unregister_encoder(name: str) -> None:
    """Forget a name that `register_encoder` was given.

    Raises:
        ValueError: if no such name is registered.
    """
    if name not in _OWN:
        raise ValueError(f"no encoder is registered as {name!r}, registered are {list(_OWN)}")
    del _OWN[name]


def encoder_names() -> list[str]:
    """Names of all encoders: of this package, registered, and declared by installed packages.

    Example:
        >>> from weightzoo.encoders import encoder_names
        >>> encoder_names()[:3]
        ['sne', 'sne-paper', 'deepsets']
    """
    declared = sorted(point.name for point in entry_points(group=ENTRY_POINTS))
    return list(dict.fromkeys([*ENCODERS, *_OWN, *declared]))


def known_entries() -> dict[str, EncoderEntry]:
    """The encoders of this package and the registered ones, by name."""
    return ENCODERS | _OWN


def encoder_entry(name: str) -> EncoderEntry:
    """The entry of an encoder that a caller names; a class outside this package is imported.

    Args:
        name: name of an encoder, or "package.module:Class". Modules in the working folder are
            found.

    Raises:
        ValueError: if there is no such encoder, or the class cannot be imported; the message
            lists the names.

    Example:
        >>> from weightzoo.encoders import encoder_entry
        >>> encoder_entry("sne").several_architectures
        True
    """
    if name in (known := known_entries()):
        return known[name]
    if ":" in name:
        return own_entry(named_object(name), f"the class {name}")
    for point in entry_points(group=ENTRY_POINTS):
        if point.name == name:
            register_encoder(name, _loaded_point(name, point), summary=f"the class {point.value}")
            return _OWN[name]
    raise ValueError(unknown_encoder(name, encoder_names()))


def loaded_entry(name: str, path: str | None = None) -> EncoderEntry:
    """The entry of an encoder that a file names; nothing outside this package is imported.

    Args:
        name: name of an encoder of this package, or of a registered one.
        path: "package.module:Class" of a class outside this package; a class that is registered
            under any name is found by it.

    Raises:
        ValueError: if this package has no such encoder and none was registered; the message says
            how to hand the class over.
    """
    if name in (known := known_entries()):
        return known[name]
    for entry in _OWN.values():
        if path is not None and entry.path == path:
            return entry
    where = f" (class {path!r})" if path not in (None, name) else ""
    example = "'NAME'" if ":" in name else repr(name)
    raise ValueError(
        f"encoder must be one of {list(known)}, got {name!r}{where}; no file makes weightzoo "
        "import code: hand the class over with from_pretrained(..., encoder=YourClass) or "
        f"--encoder package.module:Class, or call register_encoder({example}, YourClass) first"
    )


def own_entry(encoder: Any, summary: str = "an encoder of your own") -> EncoderEntry:
    """Describe a class of a user.

    Args:
        encoder: subclass of `nn.Module`.
        summary: description in one line.

    Raises:
        ValueError: if it is no class of modules, or its constructor does not take `outputs`.
    """
    if not (isinstance(encoder, type) and issubclass(encoder, nn.Module)):
        shown = encoder.__name__ if isinstance(encoder, type) else repr(encoder)
        raise ValueError(
            f"an encoder must be a subclass of torch.nn.Module, got {shown}: hand the class over, "
            "not an instance or a function"
        )
    parameters = inspect.signature(encoder).parameters
    every = any(one.kind is inspect.Parameter.VAR_KEYWORD for one in parameters.values())
    if "outputs" not in parameters and not every:
        raise ValueError(
            f"the constructor of {encoder.__name__} takes {list(parameters)}, and must take "
            "'outputs', the number of values it predicts: add the argument outputs: int = 1"
        )
    return EncoderEntry(
        module=encoder.__module__,
        class_name=encoder.__qualname__,
        needs_layer_table="layer_table" in parameters,
        several_architectures="layer_table" not in parameters,
        summary=summary,
        own_class=encoder,
    )


def unknown_encoder(name: str, known: Iterable[str]) -> str:
    """Message about a name that no encoder has, with the known names and similar ones.

    Args:
        name: unknown name.
        known: names to list.
    """
    known = list(known)
    return (
        f"encoder must be one of {known} or a class of yours as 'package.module:Class', got "
        f"{name!r}" + did_you_mean(name, known)
    )


def _loaded_point(name: str, point: Any) -> Any:
    """The class of an entry point."""
    try:
        return point.load()
    except (ImportError, AttributeError) as error:
        raise ValueError(
            f"encoder {name!r} is declared by an installed package as {point.value!r}, which "
            f"cannot be imported: {error}; install that package again"
        ) from error
