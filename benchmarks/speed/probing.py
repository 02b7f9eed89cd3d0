"""Times the batched forward pass of many networks on the same probes, forward and backward.

    python benchmarks/speed/probing.py

64 CNN-s of Model Zoos answer 64 images; the loss is the mean square of the logits. "loop" calls one
module after another, "vmap" is `torch.func.vmap` over `functional_call`, "batched" is
`NetworkBatch.outputs`. Gradients are of the images alone, as when probes are learned, or of the
images and all weights. The ways run in turn on one core, and the figure is the smallest processor
time of all rounds. Before any timing, logits and gradients of the three are compared.
"""

import argparse
import json
import time
from collections.abc import Callable

import torch
from torch import Tensor
from torch.func import functional_call, vmap

from weightzoo.zoos.networks.batched import NetworkBatch
from weightzoo.zoos.networks.presets import preset

ACTIVATIONS = ("relu", "tanh", "gelu", "sigmoid")
Way = Callable[[], tuple[Tensor, Tensor]]


def ways(models: int, probes: int, of_weights: bool) -> dict[str, Way]:
    """Functions that give logits (M, P, O) and the gradient of the images (P, C, H, W).

    Args:
        models: number of networks.
        probes: number of images.
        of_weights: whether gradients of the weights are computed as well.
    """
    cnn = preset("cnn-s")
    table = cnn.layer_table()
    names = sorted(ACTIVATIONS[model % len(ACTIVATIONS)] for model in range(models))
    modules = [cnn.module(name).eval().requires_grad_(of_weights) for name in names]
    flat = torch.stack([table.flatten(module.state_dict()) for module in modules])
    images = torch.randn(probes, *cnn.input_shape)
    templates = {name: cnn.module(name).eval() for name in ACTIVATIONS}

    def answered(outputs: Callable[[Tensor, Tensor], Tensor]) -> tuple[Tensor, Tensor]:
        given = images.clone().requires_grad_()
        weights = flat.clone().requires_grad_(of_weights)
        logits = outputs(weights, given)
        logits.square().mean().backward()
        assert given.grad is not None
        return logits.detach(), given.grad

    def by_loop(_: Tensor, given: Tensor) -> Tensor:
        return torch.stack([module(given) for module in modules])

    def by_vmap(weights: Tensor, given: Tensor) -> Tensor:
        parts = []
        for name in sorted(ACTIVATIONS):
            rows = [row for row, own in enumerate(names) if own == name]
            tensors = table.split(weights[rows])
            template = templates[name]
            parts.append(vmap(lambda one, t=template: functional_call(t, one, (given,)))(tensors))
        return torch.cat(parts)

    def by_batch(weights: Tensor, given: Tensor) -> Tensor:
        return NetworkBatch(cnn, tuple(names), weights).outputs(given)

    found = {"loop": by_loop, "vmap": by_vmap, "batched": by_batch}
    return {name: lambda way=way: answered(way) for name, way in found.items()}  # type: ignore[misc]


def check_equal(ways: dict[str, Way]) -> None:
    """Reject ways that differ in logits or gradients by more than rounding.

    Differences are measured over all values, because rounding decides which of two nearly equal
    values a pool takes, and the gradient of the other one is then zero.

    Raises:
        AssertionError: if a way differs.
    """
    wanted = ways["loop"]()
    for name, way in ways.items():
        for found, want in zip(way(), wanted, strict=True):
            if (found - want).norm() > 1e-3 * want.norm():
                raise AssertionError(f"{name} differs from the loop over modules")


def timed(ways: dict[str, Way], rounds: int) -> dict[str, float]:
    """Smallest processor time of each way in milliseconds, measured in turn.

    Args:
        ways: functions by name.
        rounds: number of measurements of each.
    """
    best = dict.fromkeys(ways, float("inf"))
    for _ in range(rounds):
        for name, way in ways.items():
            started = time.process_time()
            way()
            best[name] = min(best[name], 1e3 * (time.process_time() - started))
    return best


def main() -> None:
    """Print one line of JSON with milliseconds and ratios."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--models", type=int, default=64, help="number of networks (64)")
    parser.add_argument("--probes", type=int, default=64, help="number of images (64)")
    parser.add_argument("--rounds", type=int, default=10, help="measurements of each way (10)")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    result = {}
    for of_weights in (False, True):
        found = ways(arguments.models, arguments.probes, of_weights)
        check_equal(found)
        best = timed(found, arguments.rounds)
        ratios = {f"loop / {name}": best["loop"] / best[name] for name in ("vmap", "batched")}
        key = "gradients of images and weights" if of_weights else "gradients of images"
        rounded = {name: round(value, 2) for name, value in (best | ratios).items()}
        result[key] = rounded
    print(json.dumps({"models": arguments.models, "probes": arguments.probes} | result))


if __name__ == "__main__":
    main()
