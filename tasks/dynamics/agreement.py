"""Agreement of the classes that networks predict.

Networks trained with other random choices disagree on about as many unseen images as each
misclassifies, if their ensemble is calibrated; no label is needed. Source: Jiang et al. 2022,
arXiv:2106.13799; Nakkiran and Bansal 2020, arXiv:2009.08092.

Scale: predictions do not change under any rescaling that keeps the function.

Shape letters: M models, N images, C classes.
"""

import torch
from torch import Tensor


def pair_agreement(first: Tensor, second: Tensor) -> Tensor:
    """Share of images on which the two networks of each pair predict the same class, (M,).

    Args:
        first: predicted classes, (M, N).
        second: predicted classes, (M, N).
    """
    return (first == second).double().mean(1)


def population_agreement(predictions: Tensor) -> Tensor:
    """Mean agreement of each network with all others, (M,), float64.

    Votes are counted by image and class, so the cost is O(M N), not O(M^2 N).

    Args:
        predictions: predicted classes, (M, N), at least two models.

    Raises:
        ValueError: if there are fewer than two models.

    Example:
        >>> import torch
        >>> from weightzoo.tasks.dynamics.agreement import population_agreement
        >>> population_agreement(torch.tensor([[0, 1], [0, 1], [0, 2]])).tolist()
        [0.75, 0.75, 0.5]
    """
    if len(predictions) < 2:
        raise ValueError(f"agreement needs at least 2 models, got {len(predictions)}")
    classes = int(predictions.max()) + 1
    votes = torch.nn.functional.one_hot(predictions.long(), classes).sum(0)  # (N, C)
    same = votes.T.gather(0, predictions.long()) - 1
    return same.double().mean(1) / (len(predictions) - 1)
