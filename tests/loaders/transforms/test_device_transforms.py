"""Layer sets and augmentations on a GPU: the same numbers as on the CPU."""

import pytest
import torch

from weightzoo.loaders.transforms.alignment import align
from weightzoo.loaders.transforms.augmentations import AdditiveNoise, Compose, Erasing, Permute
from weightzoo.loaders.transforms.permutations import HiddenPermutations
from weightzoo.loaders.transforms.standardization import LayerStandardization, standardized_parts
from weightzoo.zoos.recipe import load_recipe
from weightzoo.zoos.tokens.chunks import Chunks
from weightzoo.zoos.tokens.neurons import Neurons, RowChunks
from weightzoo.zoos.tokens.tokenizers import Tokenizer
from weightzoo.zoos.tokens.windows import Windows

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
ARCHITECTURE = load_recipe("digits-cnn").architecture
TABLE = ARCHITECTURE.layer_table()
WEIGHTS = torch.randn(6, TABLE.width, generator=torch.Generator().manual_seed(0))
TOKENIZERS = [Chunks(TABLE), Chunks(TABLE, 32, "row"), Neurons(TABLE), RowChunks(TABLE, 64)]


@pytest.mark.parametrize("tokenizer", TOKENIZERS, ids=["flat", "row", "neurons", "row-chunks"])
def test_tokens_made_on_the_device_equal_those_of_the_cpu(tokenizer: Tokenizer) -> None:
    windows = Windows(tokenizer, 16, 4)
    device = WEIGHTS.cuda()
    for make in (tokenizer, windows.split):
        host, there = make(WEIGHTS), make(device)
        assert all(torch.equal(there[key].cpu(), host[key]) for key in host)
        assert all(tensor.is_cuda for tensor in there.values())
    assert torch.equal(tokenizer.inverse(tokenizer(device)["values"]), device)
    assert torch.equal(windows.inverse(windows.split(device)["values"]), device)


def test_permutations_and_alignment_equal_those_of_the_cpu() -> None:
    permutations = HiddenPermutations.of(ARCHITECTURE)
    orders = permutations.random_permutations(torch.Generator().manual_seed(1), 6)
    permuted = permutations.apply(WEIGHTS.cuda(), orders)
    assert torch.equal(permuted.cpu(), permutations.apply(WEIGHTS, orders))
    copies = permutations.apply(WEIGHTS[:1].repeat(6, 1).cuda(), orders)
    aligned, _ = align(copies, WEIGHTS[0].cuda(), permutations)
    assert torch.equal(aligned.cpu(), WEIGHTS[:1].expand(6, -1))


def test_augmentations_draw_on_the_device_and_repeat() -> None:
    augment = Compose(
        [Permute(HiddenPermutations.of(ARCHITECTURE)), AdditiveNoise(0.1), Erasing(1.0)]
    )
    one, other = (augment(WEIGHTS.cuda(), torch.Generator("cuda").manual_seed(3)) for _ in "ab")
    assert one.is_cuda and torch.equal(one, other)
    assert not torch.equal(one.cpu(), WEIGHTS)


def test_standardization_equals_that_of_the_cpu() -> None:
    count = len(standardized_parts(TABLE))
    fitted = LayerStandardization(TABLE, (0.25,) * count, (2.0,) * count)
    assert torch.equal(fitted.apply(WEIGHTS.cuda()).cpu(), fitted.apply(WEIGHTS))
