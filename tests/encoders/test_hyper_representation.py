import pytest
import torch

from weightzoo.encoders.hyper_representation import COMPRESSIONS, HyperRepresentation
from weightzoo.encoders.parts.blocks import Transformer
from weightzoo.encoders.sane import SANE

MASK = torch.tensor([[1, 1, 1, 0], [1, 1, 1, 0], [1, 1, 1, 1]], dtype=torch.bool)
LAYER = torch.tensor([0, 0, 1])


def tokens(models: int = 5, seed: int = 0) -> torch.Tensor:
    return torch.randn(models, 3, 4, generator=torch.Generator().manual_seed(seed)) * MASK


def autoencoder(**options: object) -> HyperRepresentation:
    torch.manual_seed(0)
    module = HyperRepresentation(MASK, LAYER, latent=3, width=8, heads=2, blocks=1, **options)  # type: ignore[arg-type]
    return module.eval()


def sane() -> SANE:
    torch.manual_seed(0)
    return SANE(4, (9, 3, 9), latent=2, width=8, heads=2, blocks=1).eval()


def positions(windows: int = 1) -> torch.Tensor:
    return torch.tensor([[0, 0, 0], [1, 0, 1], [2, 1, 0]]).repeat(windows, 1, 1)


@pytest.mark.parametrize("compression", COMPRESSIONS)
@pytest.mark.parametrize("bottleneck", ["linear", "bounded"])
def test_autoencoder_keeps_shapes_and_padding(compression: str, bottleneck: str) -> None:
    module = autoencoder(compression=compression, bottleneck=bottleneck)
    with torch.no_grad():
        module.compress.weight *= 100
    latent, made = module(tokens())
    assert latent.shape == (5, 3) and made.shape == (5, 3, 4)
    assert torch.equal(made[:, ~MASK], torch.zeros(5, int((~MASK).sum())))
    assert bool((latent.abs() <= 1).all()) == (bottleneck == "bounded")


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_models_of_a_batch_do_not_see_each_other(compression: str) -> None:
    """The published code attended across the batch."""
    module = autoencoder(compression=compression)
    together = module.encode(tokens())
    alone = torch.cat([module.encode(model[None]) for model in tokens()])
    torch.testing.assert_close(together, alone)


def test_tokens_of_a_model_see_each_other() -> None:
    torch.manual_seed(0)
    module = Transformer(8, 2, 1, 16).eval()
    x = torch.randn(1, 3, 8)
    changed = x.clone()
    changed[:, 2, 0] += 1
    assert not torch.allclose(module(x)[:, 0], module(changed)[:, 0])


def test_compression_token_alone_is_read() -> None:
    """In the published code it had no effect."""
    module = autoencoder(compression="token")
    assert module.compress.in_features == 8
    before = module.encode(tokens())
    with torch.no_grad():
        module.first += 1
    assert not torch.allclose(module.encode(tokens()), before)


def test_padding_does_not_reach_the_latent_vector() -> None:
    module = autoencoder()
    torch.testing.assert_close(module.encode(tokens() + 9.0 * ~MASK), module.encode(tokens()))
    assert not torch.allclose(module.encode(tokens() + 9.0 * MASK), module.encode(tokens()))


def test_order_of_neurons_matters_to_the_autoencoder() -> None:
    """It claims no symmetry: tokens have positions."""
    module = autoencoder(compression="average")
    swapped = tokens()[:, [1, 0, 2]]
    assert not torch.allclose(module.encode(swapped), module.encode(tokens()))
    with torch.no_grad():
        module.position[:] = 0
    torch.testing.assert_close(module.encode(swapped), module.encode(tokens()))


def test_blocks_start_from_weights_of_their_own() -> None:
    module = Transformer(8, 2, 2, 16)
    first, second = (block.state_dict()["linear1.weight"] for block in module.blocks)
    assert not torch.equal(first, second)


@pytest.mark.parametrize(
    "bad",
    [{"compression": "mean"}, {"bottleneck": "mlp"}, {"dropout": 0.0, "feed_forward": -1}],
)
def test_autoencoder_rejects_unknown_options(bad: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="must be|heads divide"):
        autoencoder(**bad)


def test_sane_keeps_a_latent_vector_per_token() -> None:
    mask = MASK.repeat(5, 1, 1)
    latent, made = sane()(tokens(), positions(5), mask)
    assert latent.shape == (5, 3, 2) and made.shape == (5, 3, 4)


def test_sane_hides_tokens_beyond_the_ends() -> None:
    module, mask = sane(), MASK.repeat(5, 1, 1)
    mask[:, 2] = False
    changed = tokens()
    changed[:, 2] += 5
    kept = module.encode(changed, positions(5), mask)[:, :2]
    torch.testing.assert_close(kept, module.encode(tokens(), positions(5), mask)[:, :2])
    seen = module.encode(changed, positions(5), MASK)[:, :2]
    assert not torch.allclose(seen, module.encode(tokens(), positions(5), MASK)[:, :2])


@pytest.mark.parametrize("place", range(3))
def test_sane_reads_every_part_of_the_position(place: int) -> None:
    moved = positions(5)
    moved[:, 0, place] += 1
    module = sane()
    same = module.encode(tokens(), positions(5), MASK)
    assert not torch.allclose(module.encode(tokens(), moved, MASK), same)


def test_sane_rejects_odd_widths() -> None:
    with pytest.raises(ValueError, match="width must be even"):
        SANE(4, (1, 1, 1), width=9, heads=3)
