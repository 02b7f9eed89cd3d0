"""What a training step copies to its device."""

from dataclasses import replace

import pytest
import torch
from device_copies import DeviceCopies

from weightzoo.builders.training.cohort import Cohort, DataOrder
from weightzoo.builders.training.objectives import load_data
from weightzoo.zoos.images.image_set import Images, ImageSet
from weightzoo.zoos.recipe import HyperParameters, Model, load_recipe


@pytest.mark.parametrize("epochs", [1, 2])
def test_order_is_copied_to_the_device_once_per_epoch(epochs: int) -> None:
    order = DataOrder([0, 1], 50, 50, "meta")
    with DeviceCopies() as copies:
        batches = [list(order.batches(5)) for _ in range(epochs)]
    assert [len(one) for one in batches] == [10] * epochs
    assert copies.count == epochs


def test_steps_copy_nothing_to_the_device() -> None:
    recipe = replace(load_recipe("digits-mlp"), epochs=1, checkpoints=(1,))
    images = Images(torch.randn(20, 1, 28, 28), torch.arange(20) % 10)
    data = ImageSet("random", 10, "sha256:0", images, images, images)
    values = HyperParameters(batch_size=4, dropout=0.0)
    models = [Model(model_id=n, seed=n, split="train", hyper_parameters=values) for n in (0, 1)]
    steps = Cohort(recipe, models, data, "meta").epoch()
    next(steps)
    with DeviceCopies() as copies:
        assert len(list(steps)) == 4
    assert copies.count == 0


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("name", ["digits-cnn", "digits-mlp"])
def test_steps_on_a_gpu_never_wait_for_it(name: str) -> None:
    recipe = load_recipe(name)
    values = HyperParameters(batch_size=16, dropout=0.3, augmentation="crop_flip")
    models = [Model(model_id=n, seed=n, split="train", hyper_parameters=values) for n in (0, 1)]
    steps = Cohort(recipe, models, load_data("digits"), "cuda").epoch()
    next(steps)
    torch.cuda.set_sync_debug_mode("error")
    try:
        assert len(list(steps)) > 3
    finally:
        torch.cuda.set_sync_debug_mode("default")
