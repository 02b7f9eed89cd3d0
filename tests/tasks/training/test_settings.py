"""Training settings: the learning rate of encoders and autoencoders."""

import pytest

from weightzoo.tasks.training.settings import warmup_cosine


def test_rate_rises_in_a_tenth_of_the_steps_and_falls_to_zero() -> None:
    factor = warmup_cosine(100)
    assert [factor(step) for step in (0, 4, 9, 10)] == [0.1, 0.5, 1.0, 1.0]
    assert factor(55) == pytest.approx(0.5)
    assert factor(100) == factor(120) == 0.0  # not up again when training goes on
