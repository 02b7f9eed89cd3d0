"""Agreement of predicted classes, counted by hand."""

import pytest
import torch

from weightzoo.tasks.dynamics.agreement import pair_agreement, population_agreement


def test_pair_agreement_is_the_share_of_equal_classes() -> None:
    first = torch.tensor([[0, 1, 2, 2], [5, 5, 5, 5]])
    second = torch.tensor([[0, 1, 1, 2], [5, 5, 5, 5]])
    assert pair_agreement(first, second).tolist() == [0.75, 1]


def test_population_agreement_is_the_mean_over_all_pairs() -> None:
    drawn = torch.randint(0, 4, (7, 30), generator=torch.Generator().manual_seed(0))
    pairs = pair_agreement(drawn.repeat_interleave(7, 0), drawn.repeat(7, 1)).view(7, 7)
    wanted = (pairs.sum(1) - 1) / 6
    torch.testing.assert_close(population_agreement(drawn), wanted)


def test_one_model_has_no_other_to_agree_with() -> None:
    with pytest.raises(ValueError, match="at least 2 models"):
        population_agreement(torch.zeros(1, 5, dtype=torch.int64))
