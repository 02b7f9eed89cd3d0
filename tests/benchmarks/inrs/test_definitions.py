"""Rows of the benchmarks on INRs."""

import pytest

from weightzoo.benchmarks.inrs.definitions import ABLATION_PAIRS
from weightzoo.benchmarks.inrs.predictors import CHUNK_SIZES, COMPLETE, ablations
from weightzoo.encoders.registry import ENCODERS
from weightzoo.tasks.training.encoder_regressor import EncoderRegressor
from weightzoo.zoos.networks.presets import preset


@pytest.mark.parametrize("size", ["small", "full"])
def test_each_ablation_is_another_encoder_or_another_training(size: str) -> None:
    table, seen = preset("inr").layer_table(), set()
    for one in ablations(size)[1:]:
        assert isinstance(one, EncoderRegressor)
        encoder = ENCODERS[one.encoder.name].make(table, **one.encoder.options)
        seen.add((str(encoder.config), one.settings.invariance))
    assert len(seen) == 7 + len(CHUNK_SIZES)


def test_each_ablation_is_compared_with_the_complete_encoder() -> None:
    names = [one.name for one in ablations("small")]
    assert ABLATION_PAIRS == tuple((COMPLETE, name) for name in names[2:]) and len(names) == 13
