"""Random streams of a model."""

from weightzoo.builders.training.initialization import noise_provenance


def test_provenance_names_the_device_that_drew_noise_unless_it_is_the_cpu() -> None:
    assert noise_provenance("cuda:1") == {"noise": "cuda"}
    assert noise_provenance("cpu") == {}
