"""Merge methods that look at activations: what they measure on images, and what they do with it.

Shape letters: M members, E examples, O outputs, I inputs.
"""

import copy
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...zoos.errors import MergeError
from ...zoos.images.image_set import Images
from .matrix_methods import as_matrices, regmean_merge

EXAMPLES = 256  # of a calibration set, as RegMean takes
LEAST_DEVIATION = 1e-6  # of a unit that REPAIR rescales


def fisher_information(module: nn.Module, images: Images, seed: int = 0) -> dict[str, Tensor]:
    """Diagonal Fisher information of a classifier's parameters.

    Source: Matena and Raffel 2022, arXiv:2111.09832: the mean square of the gradient of the
    log-probability of a label drawn from the model itself.

    Args:
        module: network in eval mode.
        images: E examples.
        seed: seed of the draws.

    Returns:
        float32, by name of the state dict; buffers get ones, so that they are averaged.
    """
    generator = torch.Generator().manual_seed(seed)
    total = {name: torch.zeros_like(value) for name, value in module.named_parameters()}
    for pixels in images.pixels[:EXAMPLES].split(1):
        with torch.enable_grad():
            logits = module(pixels)
            label = torch.multinomial(logits.detach().softmax(1), 1, generator=generator)[:, 0]
            gradients = torch.autograd.grad(
                F.cross_entropy(logits, label), list(module.parameters())
            )
        for name, gradient in zip(total, gradients, strict=True):
            total[name] += gradient.square()
    count = min(EXAMPLES, len(images.pixels))
    ones = {name: torch.ones_like(value).float() for name, value in module.named_buffers()}
    return ones | {name: value / count for name, value in total.items()}


def input_grams(module: nn.Module, images: Images) -> dict[str, Tensor]:
    """Gram matrices of the inputs of linear and convolution layers, by name of the weight.

    Args:
        module: network in eval mode.
        images: E examples.

    Returns:
        (I, I) float32 each; a convolution's inputs are its patches.
    """
    layers = [name for name, layer in module.named_modules() if takes_gram(layer)]
    inputs, _ = _activations(module, images.pixels[:EXAMPLES], layers)
    rows = {name: _input_rows(module.get_submodule(name), inputs[name]) for name in inputs}
    return {f"{name}.weight": own.T @ own for name, own in rows.items()}


def regmean_plus(
    modules: Sequence[nn.Module], images: Sequence[Images], off_diagonal: float = 0.9
) -> dict[str, Tensor]:
    """Merge layer by layer, with inputs that went through the layers merged before.

    Source: RegMean++, Nguyen et al. 2025, arXiv:2508.03121. What has no Gram matrix, such as
    biases and norms, is averaged. Members with the same images get the plain mean, because all
    inputs are measured in the merge.

    Args:
        modules: M networks of one architecture, in eval mode.
        images: E examples of each member.
        off_diagonal: factor of the off-diagonal entries of the Gram matrices.

    Returns:
        State dict of the merged network.
    """
    states = [module.state_dict() for module in modules]
    merged = copy.deepcopy(modules[0])
    merged.load_state_dict({name: _mean([state[name] for state in states]) for name in states[0]})
    for name in _ordered_layers(merged, images[0].pixels[:1]):
        grams = torch.stack([_gram(merged, name, own.pixels[:EXAMPLES]) for own in images])
        weights = torch.stack([state[f"{name}.weight"] for state in states])
        own_OI = regmean_merge(as_matrices(weights).double(), grams.double(), off_diagonal)
        weight = merged.get_parameter(f"{name}.weight")
        weight.data.copy_(own_OI.view_as(weight))
    return dict(merged.state_dict())


def repair(merged: nn.Module, members: Sequence[nn.Module], images: Images) -> dict[str, Tensor]:
    """Give every hidden unit of a merge the mean and deviation that it has in the members.

    Averages of aligned networks lose variance from layer to layer. Weights and biases of all
    layers but the last are rescaled, from the first layer on.

    Source: REPAIR, Jordan et al. 2022, arXiv:2211.08403. Differs from it: the correction is
    written into the weights, and no batch norm is added.

    Args:
        merged: merge of the members, in eval mode.
        members: M networks, with their hidden units aligned to each other.
        images: E examples.

    Returns:
        State dict of the repaired network.

    Raises:
        MergeError: if a hidden layer has no bias.
    """
    network, pixels = copy.deepcopy(merged), images.pixels[:EXAMPLES]
    names = _ordered_layers(network, pixels[:1])[:-1]
    measured = [_unit_statistics(member, pixels, names) for member in members]
    for name in names:
        mean, deviation = (
            torch.stack([own[name][part] for own in measured]).mean(0) for part in (0, 1)
        )
        own_mean, own_deviation = _unit_statistics(network, pixels, [name])[name]
        factor = deviation / own_deviation.clamp_min(LEAST_DEVIATION)
        if network.get_submodule(name).bias is None:
            raise MergeError(f"REPAIR shifts biases, and layer {name!r} has none")
        weight, bias = (network.get_parameter(f"{name}.{part}").data for part in ("weight", "bias"))
        weight.mul_(factor.view(-1, *[1] * (weight.dim() - 1)))
        bias.sub_(own_mean).mul_(factor).add_(mean)
    return dict(network.state_dict())


def takes_gram(layer: nn.Module) -> bool:
    """Whether RegMean merges a layer's weight: a linear layer or an ungrouped convolution."""
    return isinstance(layer, nn.Linear) or (isinstance(layer, nn.Conv2d) and layer.groups == 1)


def _mean(values: Sequence[Tensor]) -> Tensor:
    """The mean; of counters the first."""
    return torch.stack(list(values)).mean(0) if values[0].is_floating_point() else values[0]


def _activations(
    module: nn.Module, pixels: Tensor, names: Sequence[str]
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Inputs and outputs of some layers, in the order in which the layers are used."""
    inputs, outputs = dict[str, Tensor](), dict[str, Tensor]()

    def record(name: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        def hook(layer: nn.Module, given: tuple[Tensor, ...], result: Tensor) -> None:
            inputs[name], outputs[name] = given[0], result

        return hook

    hooks = [module.get_submodule(name).register_forward_hook(record(name)) for name in names]
    with torch.no_grad():
        module(pixels)
    for hook in hooks:
        hook.remove()
    return inputs, outputs


def _ordered_layers(module: nn.Module, pixels: Tensor) -> list[str]:
    """Names of linear and convolution layers in the order in which they are used."""
    names = [name for name, layer in module.named_modules() if takes_gram(layer)]
    return list(_activations(module, pixels, names)[0])


def _gram(module: nn.Module, name: str, pixels: Tensor) -> Tensor:
    rows = _input_rows(module.get_submodule(name), _activations(module, pixels, [name])[0][name])
    return rows.T @ rows


def _unit_statistics(
    module: nn.Module, pixels: Tensor, names: Sequence[str]
) -> dict[str, tuple[Tensor, Tensor]]:
    """Mean and deviation of every output of some layers, over examples and positions."""
    found = {}
    for name, values in _activations(module, pixels, names)[1].items():
        of_channels = isinstance(module.get_submodule(name), nn.Conv2d)
        rows = values.transpose(0, 1).flatten(1) if of_channels else values.flatten(0, -2).T
        found[name] = rows.mean(1), rows.std(1)
    return found


def _input_rows(layer: nn.Module, inputs: Tensor) -> Tensor:
    """Inputs of a layer, (E, I): of a convolution one row per patch."""
    if not isinstance(layer, nn.Conv2d):
        return inputs.flatten(0, -2)
    if isinstance(layer.padding, str):
        raise MergeError(f"convolutions with padding {layer.padding!r} have no Gram matrix here")
    patches = F.unfold(inputs, layer.kernel_size, layer.dilation, layer.padding, layer.stride)
    return patches.transpose(1, 2).flatten(0, 1)
