"""The logit-invariance regulariser: equal outputs for networks that compute the same.

Source: SNE, arXiv:2305.16625, section 3.6, eq. 10 and definition C.1, after Moskalev et al. 2023,
arXiv:2308.03904. Which reordered weights compute the same is the caller's to know.
"""

from torch import Tensor


def half_squared_distance(outputs: Tensor, others: Tensor) -> Tensor:
    """Mean over models of 1/2 ||f(x) - f(gx)||^2, the regulariser (def. C.1).

    Args:
        outputs: (B, ...), an encoder's for weights x; its prediction, which is how we read the
            source's "logit", or its embedding.
        others: (B, ...), its outputs for g x, the same networks with their hidden units in another
            order. Both should come of one batch, so that a batch norm treats them alike.

    Returns:
        A scalar.
    """
    return 0.5 * (outputs - others).square().flatten(1).sum(dim=1).mean()
