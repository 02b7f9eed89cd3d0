"""Encoders that run networks: what their probes are, and what they refuse."""

import pytest
import torch

from weightzoo.encoders.hidden_probe import HiddenProbe
from weightzoo.encoders.parts.probes import Probes
from weightzoo.encoders.probe_gen import ProbeGen, output_features
from weightzoo.encoders.probe_statistics import ProbeStatistics, confidence
from weightzoo.encoders.registry import ENCODERS
from weightzoo.zoos.errors import UnsuitableError
from weightzoo.zoos.networks.batched import NetworkBatch
from weightzoo.zoos.networks.presets import preset


def cnns(models: int = 4) -> NetworkBatch:
    cnn = preset("cnn-s")
    weights = 0.2 * torch.randn(models, cnn.layer_table().width)
    return NetworkBatch(cnn, ("relu", "tanh") * (models // 2), weights)


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32), (4, 8, 6), (2,), (16,), (784,), (20,)])
def test_probes_fit_every_input_shape_and_differ(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    probes = Probes(6, 8, "learned")(shape)
    assert probes.shape == (6, *shape)
    assert 0.2 < probes.std() < 1.0
    assert torch.pdist(probes.flatten(1)).min() > 0.1


@pytest.mark.parametrize("encoder", [ProbeGen, HiddenProbe, ProbeStatistics])
@pytest.mark.parametrize("kind", ["learned", "random"])
def test_only_learned_probes_change_in_training(
    encoder: type[ProbeGen] | type[HiddenProbe] | type[ProbeStatistics], kind: str
) -> None:
    torch.manual_seed(0)
    module, networks = encoder(probes=4, probe_kind=kind), cnns()
    before, table = module.input((1, 28, 28)).detach(), networks.architecture.layer_table()
    optimizer = torch.optim.AdamW(module.parameters(), lr=1e-2)
    module(networks, table).square().sum().backward()
    optimizer.step()
    assert torch.equal(module.input((1, 28, 28)), before) == (kind == "random")


def test_outputs_are_read_as_asinh_and_softmax() -> None:
    features = output_features(torch.tensor([[[0.0, 1e4]]]), values=3)
    wanted = [0.0, 0.0, torch.asinh(torch.tensor(1e4)).item(), 1.0, 0.0, 0.0]
    assert features.flatten().tolist() == pytest.approx(wanted)
    with pytest.raises(UnsuitableError, match="make it with values=4"):
        output_features(torch.zeros(1, 1, 4), values=3)


def test_confidence_counts_entropies_and_variances() -> None:
    sure, torn = [0.0, 60.0], [0.0, 0.0]
    found = confidence(torch.tensor([[sure, torn]]))[0]
    half = torch.tensor(2.0).log().item() / 2
    assert found[:4].tolist() == pytest.approx([half, half, 0.75, 0.25], abs=1e-3)
    mixed = -(0.25 * torch.tensor(0.25).log() + 0.75 * torch.tensor(0.75).log())
    assert found[4].item() == pytest.approx(mixed.item(), abs=1e-3)
    assert found[5:].exp().tolist() == pytest.approx([450.0, 450.0])


def test_confidence_has_finite_gradients_for_dead_and_for_huge_outputs() -> None:
    outputs = torch.stack([torch.zeros(3, 4), torch.full((3, 4), 1e30)]).requires_grad_()
    confidence(outputs).sum().backward()
    assert outputs.grad is not None and outputs.grad.isfinite().all()


def test_probe_statistics_without_classes_is_blind_to_their_order_alone() -> None:
    torch.manual_seed(0)
    networks = cnns()
    table = networks.architecture.layer_table()
    tensors = {
        name: tensor.flip(1) if name.startswith("linear2") else tensor
        for name, tensor in table.split(networks.weights).items()
    }
    weights = torch.cat([tensor.flatten(1) for tensor in tensors.values()], 1)
    turned = NetworkBatch(networks.architecture, networks.activations, weights)
    for reads in (True, False):
        encoder = ProbeStatistics(probes=4, reads_classes=reads).eval()
        same = torch.allclose(encoder(networks, table), encoder(turned, table), atol=1e-5)
        assert same != reads


def test_probe_statistics_reads_weights_only_if_asked() -> None:
    torch.manual_seed(0)
    networks = cnns()
    table = networks.architecture.layer_table()
    weights = networks.weights.clone()
    tensors = table.split(weights)
    tensors["linear2.weight"].zero_()  # views: the outputs no longer depend on earlier weights
    other = weights.clone()
    table.split(other)["conv1.weight"].mul_(2)
    pair = [NetworkBatch(networks.architecture, networks.activations, w) for w in (weights, other)]
    for reads in (True, False):
        encoder = ProbeStatistics(probes=4, reads_weights=reads).eval()
        one, two = (encoder(batch, table) for batch in pair)
        assert torch.allclose(one, two, atol=1e-7) != reads


def test_hidden_probe_reads_hidden_units_and_probe_gen_outputs_alone() -> None:
    torch.manual_seed(0)
    networks = cnns()
    table = networks.architecture.layer_table()
    tensors = table.split(networks.weights.clone())
    tensors["linear2.weight"].zero_()  # views: the outputs are now the same for all inputs
    weights = torch.cat([tensor.flatten(1) for tensor in tensors.values()], 1)
    other = NetworkBatch(networks.architecture, networks.activations, weights)
    weights = weights.clone()
    weights[:, :200] *= 2
    changed = NetworkBatch(networks.architecture, networks.activations, weights)
    for encoder, sees in ((ProbeGen(probes=4).eval(), False), (HiddenProbe(probes=4).eval(), True)):
        assert torch.allclose(encoder(other, table), encoder(changed, table), atol=1e-7) != sees


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"probe_kind": "real"}, "probe_kind must be one of"),
        ({"probes": 0}, "at least 1"),
        ({"width": 0}, "must be at least 1"),
    ],
)
@pytest.mark.parametrize("encoder", [ProbeGen, HiddenProbe, ProbeStatistics])
def test_encoders_reject_bad_options(
    encoder: type[ProbeGen], options: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        encoder(**options)


@pytest.mark.parametrize("name", ["probegen", "hidden-probe"])
def test_networks_of_token_numbers_cannot_be_probed(name: str) -> None:
    language = preset("transformer", tokens=5, vocabulary=7, width=4, heads=2, blocks=1)
    table = language.layer_table()
    networks = NetworkBatch(language, ("relu",), torch.zeros(1, table.width))
    with pytest.raises(UnsuitableError, match="'transformer' read token numbers.*such as SNE"):
        ENCODERS[name].make(table).eval()(networks, table)
