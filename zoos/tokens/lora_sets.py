"""Layer sets of LoRA adapters: singular vectors of the product B A, without the product itself.

An adapter is the same for every invertible matrix G of rank R when B becomes B G and A becomes
G^-1 A. Its singular values and vectors do not change with G, up to the sign of each pair. They come
from QR decompositions of B and of A transposed, and the singular value decomposition of an R x R
matrix, so that the product, (O, I), is never made. The sign is fixed: the entry of u of the largest
size is positive.

Source: the decomposition that W2T (arXiv:2603.15990) tokenizes adapters with. Differs from it: one
token holds u and v, both times the square root of the singular value.

Shape letters: B adapters in the batch, D length of the flat vector, M modules, R rank, O outputs,
I inputs, N tokens (the ranks of all modules together), S values per token, the largest O + I.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ..networks.layer_table import KINDS, ROLES, LayerTable, TensorSpec
from ..tensors.lora_names import stored_factor
from .tokenizers import check_shape


@dataclass(frozen=True)
class ModuleFactors:
    """Entries of a layer table with the factors of one module."""

    name: str
    a: TensorSpec
    b: TensorSpec

    @property
    def inputs(self) -> int:
        """I, the size of A beside the rank; of a convolution with its kernel."""
        return self.a.size // self.a.shape[0]

    @property
    def outputs(self) -> int:
        """O, the size of B beside the rank."""
        return self.b.shape[0]

    @property
    def rank(self) -> int:
        """Number of singular values, at most the rank of the factors."""
        return min(self.a.shape[0], self.outputs, self.inputs)


@dataclass(frozen=True)
class LowRank:
    """Singular value decomposition of the products of one module, largest value first.

    Attributes:
        u: (B, O, R), columns of unit length.
        singular: (B, R), not negative.
        v: (B, I, R), columns of unit length.
    """

    u: Tensor
    singular: Tensor
    v: Tensor


class LoraSets:
    """Tokenizer of adapters with one token per singular value of each adapted module.

    Attributes:
        layer_table: layer table of the adapters.
        modules: adapted modules, in the order of the table. Other tensors are not read.
        shape: number of tokens and values per token, (N, S).
        shared: tensors that are equal for all adapters, as those of `Tokenizer`: `mask` (N, S),
            `kind`, `role`, `level` and `tensor` (N,), and `position` (N, 3), index of the token,
            of its module, and of the singular value.

    Example:
        >>> import torch
        >>> from weightzoo.loaders import LoraSets
        >>> from weightzoo.zoos.networks.layer_table import LayerTable, TensorSpec
        >>> same = dict(kind="linear", role="weight", dtype="float32", layer="q", depth=0)
        >>> a = TensorSpec(name="q.lora_A.weight", shape=(2, 5), offset=0, **same)
        >>> b = TensorSpec(name="q.lora_B.weight", shape=(3, 2), offset=10, **same)
        >>> sets = LoraSets(LayerTable((a, b)))
        >>> sets(torch.randn(4, 16))["values"].shape
        torch.Size([4, 2, 8])
    """

    def __init__(self, layer_table: LayerTable) -> None:
        """Find the pairs of factors.

        Args:
            layer_table: layer table of the adapters, with tensors named as `import lora` does.

        Raises:
            ValueError: if the table has no pair of factors, or one of a pair is missing.
        """
        self.layer_table = layer_table
        self.modules = tuple(_modules(layer_table))
        tokens = sum(module.rank for module in self.modules)
        self.shape = (tokens, max(module.outputs + module.inputs for module in self.modules))
        self.shared = _describe(layer_table, self.modules, self.shape[1])

    def __reduce__(self) -> tuple[type["LoraSets"], tuple[LayerTable]]:
        """Pickle the arguments alone."""
        return type(self), (self.layer_table,)

    def __call__(self, weights: Tensor) -> dict[str, Tensor]:
        """Decompose adapters.

        Args:
            weights: flat weights, (B, D), on any device.

        Returns:
            `values` (B, N, S): u, then v, each times the square root of its singular value, zero
            where `mask` is false; `singular` (B, N); and the tensors of `shared`. The scale of an
            adapter, its column `adapter_scale`, is not included. Rows with values that are not
            finite are NaN.

        Raises:
            ValueError: if the weights have another shape.
        """
        values = weights.new_zeros(len(weights), *self.shape, dtype=torch.float32)
        singular, first = [], 0
        for module in self.modules:
            found = self.decompose(weights, module)
            root = found.singular.sqrt()[:, None]
            own = values[:, first : first + module.rank]
            own[:, :, : module.outputs] = (found.u * root).mT
            own[:, :, module.outputs : module.outputs + module.inputs] = (found.v * root).mT
            singular.append(found.singular)
            first += module.rank
        shared = {name: tensor.to(weights.device) for name, tensor in self.shared.items()}
        return {"values": values, "singular": torch.cat(singular, 1)} | shared

    def decompose(self, weights: Tensor, module: ModuleFactors) -> LowRank:
        """Singular value decomposition of the product B A of one module, for every adapter.

        Args:
            weights: flat weights, (B, D).
            module: one of `modules`.

        Raises:
            ValueError: if the weights have another shape.
        """
        check_shape("weights", weights, (self.layer_table.width,))
        finite = weights.isfinite().all(1)
        a_BRI = _part(weights, module.a).flatten(2).nan_to_num(0.0, 0.0, 0.0)
        b_BOR = _part(weights, module.b).flatten(2).nan_to_num(0.0, 0.0, 0.0)
        q_BOK, left_BKR = torch.linalg.qr(b_BOR)
        p_BIK, right_BKR = torch.linalg.qr(a_BRI.mT)
        u_BKN, singular, vt_BNK = torch.linalg.svd(left_BKR @ right_BKR.mT, full_matrices=False)
        u, v = q_BOK @ u_BKN, p_BIK @ vt_BNK.mT
        sign = u.gather(1, u.abs().argmax(1, keepdim=True)).sign()
        sign = torch.where(sign == 0, torch.ones_like(sign), sign)
        lost = torch.where(finite, 0.0, torch.nan)[:, None]
        return LowRank(u * sign + lost[..., None], singular + lost, v * sign + lost[..., None])


def _modules(layer_table: LayerTable) -> Iterator[ModuleFactors]:
    pairs: dict[str, dict[str, TensorSpec]] = {}
    for spec in layer_table:
        if (factor := stored_factor(spec.name)) is not None:
            pairs.setdefault(factor.module, {})[factor.side] = spec
    if not pairs:
        raise ValueError(
            "layer table has no factors of LoRA adapters, named <module>.lora_A.weight and "
            f".lora_B.weight, its tensors are {[spec.name for spec in layer_table][:3]}"
        )
    for name, pair in pairs.items():
        if set(pair) != {"A", "B"} or pair["A"].shape[0] != pair["B"].size // pair["B"].shape[0]:
            shapes = {side: spec.shape for side, spec in pair.items()}
            raise ValueError(f"module {name!r} has no pair of factors of one rank, got {shapes}")
        yield ModuleFactors(name, pair["A"], pair["B"])


def _part(weights: Tensor, spec: TensorSpec) -> Tensor:
    part = weights[:, spec.offset : spec.offset + spec.size].float()
    return part.reshape(len(weights), *spec.shape)


@torch.inference_mode(False)
def _describe(
    layer_table: LayerTable, modules: tuple[ModuleFactors, ...], size: int
) -> dict[str, Tensor]:
    ranks = torch.tensor([module.rank for module in modules])
    tokens = int(ranks.sum())
    widths = torch.tensor([module.outputs + module.inputs for module in modules])
    of_module = {
        "kind": [KINDS.index(module.b.kind) for module in modules],
        "role": [ROLES.index(module.b.role) for module in modules],
        "level": list(range(len(modules))),
        "tensor": [layer_table.index(module.b) for module in modules],
    }
    shared = {
        key: torch.tensor(numbers).repeat_interleave(ranks) for key, numbers in of_module.items()
    }
    starts = (ranks.cumsum(0) - ranks).repeat_interleave(ranks)
    index = torch.arange(tokens)
    position = torch.stack([index, shared["level"], index - starts], 1)
    mask = torch.arange(size) < widths.repeat_interleave(ranks)[:, None]
    return {"mask": mask, **shared, "position": position}
