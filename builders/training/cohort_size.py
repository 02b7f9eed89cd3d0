"""Number of models that are trained in step.

On a CPU the models of a cohort share the cost of a call, up to about 32 models (measured, see
LOG.md). Networks with long steps gain nothing and are trained few at a time, to save memory. On a
GPU the size follows from the total memory, not from the free memory, so that a resumed build has
the same size. If memory runs out all the same, the cohort is cut in halves.
"""

from collections.abc import Callable, Sequence

import torch

from ...zoos.errors import BuildError
from ...zoos.networks.architectures import Architecture
from ...zoos.networks.layers import output_values
from .cohort import CohortResult

CPU_COHORT, GPU_COHORT = 32, 128  # the GPU's is a guess: it was never measured
FEWEST = 8  # models in a cohort of a small population
CPU_BYTES = 2**28  # memory of one cohort, in each worker
GPU_SHARE = 0.5
PASSES = 3  # copies of a layer's outputs: saved for the gradient, their gradient, one temporary
VECTORS = 5  # weights, gradient, two optimizer states, one temporary


def cohort_size(
    architecture: Architecture, batch_size: int, models: int, device: torch.device | str
) -> int:
    """Choose the size of cohorts; at least 1.

    Args:
        architecture: architecture of the models.
        batch_size: images or points per step.
        models: number of models in the whole population; a small one is cut in four, so that
            cores can share it.
        device: "cpu" or a CUDA device.
    """
    device = torch.device(device)
    if device.type == "cuda":
        memory = torch.cuda.get_device_properties(device).total_memory
        most, memory = GPU_COHORT, int(memory * GPU_SHARE)
    else:
        most, memory = min(CPU_COHORT, max(FEWEST, models // 4)), CPU_BYTES
    return max(1, min(most, memory // model_bytes(architecture, batch_size)))


def model_bytes(architecture: Architecture, batch_size: int) -> int:
    """Approximate memory of one model in training, in bytes.

    Args:
        architecture: architecture of the model.
        batch_size: images or points per step.
    """
    values = output_values(architecture.layers, architecture.input_shape)
    width = architecture.layer_table().width
    return 4 * (VECTORS * width + PASSES * batch_size * values)


def train_within_memory(
    train: Callable[[Sequence[int]], CohortResult], positions: Sequence[int]
) -> CohortResult:
    """Train a cohort, in halves if the GPU's memory runs out.

    Args:
        train: function that trains the models at some positions.
        positions: positions of the cohort's models in the population.

    Raises:
        BuildError: if one model alone does not fit.
    """
    try:
        return train(positions)
    except torch.OutOfMemoryError as error:
        if len(positions) == 1:
            raise BuildError(
                f"one model does not fit the GPU's memory, take a smaller batch_size: {error}"
            ) from error
    torch.cuda.empty_cache()  # here, where the failed cohort's tensors are gone
    middle = len(positions) // 2
    halves = [train_within_memory(train, half) for half in (positions[:middle], positions[middle:])]
    return CohortResult(
        torch.cat([half.weights for half in halves]),
        {name: torch.cat([half.metrics[name] for half in halves]) for name in halves[0].metrics},
    )
