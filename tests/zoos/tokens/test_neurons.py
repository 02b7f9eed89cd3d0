"""Neuron tokens: weights and bias of each output unit together, positions, and exact inverses."""

import pickle

import pytest
import torch
from torch import nn

from weightzoo.zoos.networks.layer_table import KINDS, ROLES, LayerTable
from weightzoo.zoos.recipe import load_recipe
from weightzoo.zoos.tokens.neurons import Neurons, RowChunks
from weightzoo.zoos.tokens.tokenizers import Tokenizer

CNN = load_recipe("digits-cnn").architecture.layer_table()
MODULE = nn.Sequential(nn.Conv2d(3, 4, 2), nn.BatchNorm2d(4), nn.Linear(7, 5, bias=False))
TABLE = LayerTable.from_module(MODULE)


def resnet18_table(classes: int) -> LayerTable:
    """The tensors of torchvision's ResNet-18, without its memory."""
    layers: list[nn.Module] = [nn.Conv2d(3, 64, 7, bias=False), nn.BatchNorm2d(64)]
    before = 64
    for width in (64, 128, 256, 512):
        for index in range(4):
            inputs = before if index == 0 else width
            layers += [nn.Conv2d(inputs, width, 3, bias=False), nn.BatchNorm2d(width)]
        if before != width:
            layers += [nn.Conv2d(before, width, 1, bias=False), nn.BatchNorm2d(width)]
        before = width
    layers.append(nn.Linear(512, classes))
    return LayerTable.from_module(nn.Sequential(*layers))


@pytest.mark.parametrize("models", [1, 4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("table", [CNN, TABLE], ids=["cnn", "norm"])
@pytest.mark.parametrize("size", [None, 1, 5, 289])
def test_inverse_gives_back_the_weights_exactly(
    table: LayerTable, size: int | None, dtype: torch.dtype, models: int
) -> None:
    tokenizer: Tokenizer = Neurons(table) if size is None else RowChunks(table, size)
    weights = torch.randn(models, table.width, dtype=dtype)
    tokens = tokenizer(weights)
    assert tokens["values"].shape == (models, *tokenizer.shape)
    assert int(tokens["mask"].sum()) == table.width
    assert not tokens["values"][:, ~tokens["mask"]].any()
    assert torch.equal(tokenizer.inverse(tokens["values"]), weights)


def test_neuron_is_its_weights_then_its_bias() -> None:
    state = MODULE.state_dict()
    tokens = Neurons(TABLE)(TABLE.flatten(state)[None])
    values, mask = tokens["values"][0], tokens["mask"]
    assert Neurons(TABLE).shape == (4 + 4 + 4 + 4 + 1 + 5, 13)
    assert torch.equal(values[2, :12], state["0.weight"][2].flatten())
    assert values[2, 12] == state["0.bias"][2] and mask[2].all()
    assert torch.equal(values[4:8, 0], state["1.weight"])
    assert torch.equal(values[4:8, 1], state["1.bias"])
    assert torch.equal(values[12:16, 0], state["1.running_var"])
    assert torch.equal(values[17:, :7], state["2.weight"])
    assert mask.sum(1).tolist() == [13] * 4 + [2] * 4 + [1] * 9 + [7] * 5


def test_columns_tell_kind_role_level_and_position() -> None:
    columns = Neurons(TABLE).shared
    assert [KINDS[i] for i in columns["kind"]] == ["conv"] * 4 + ["norm"] * 13 + ["linear"] * 5
    assert [ROLES[i] for i in columns["role"]] == ["weight"] * 8 + ["buffer"] * 9 + ["weight"] * 5
    assert columns["level"].tolist() == [0] * 4 + [1] * 13 + [2] * 5
    index, level, within = columns["position"].T
    assert index.tolist() == list(range(22)) and torch.equal(level, columns["level"])
    assert within.tolist() == [*range(4), *range(13), *range(5)]


def test_row_chunks_cut_each_row_and_pad_its_last_token() -> None:
    table = LayerTable.from_module(nn.Linear(4, 2))
    weights = torch.tensor([[1.0, 2, 3, 4, 11, 12, 13, 14, 5, 15]])
    tokens = RowChunks(table, 2)(weights)
    rows = [[1, 2], [3, 4], [5, 0], [11, 12], [13, 14], [15, 0]]
    assert tokens["values"].tolist() == [rows]
    assert tokens["mask"].sum(1).tolist() == [2, 2, 1, 2, 2, 1]
    assert tokens["position"].tolist() == [[k, 0, k] for k in range(6)]


def test_model_zoo_cnn_has_48_neurons() -> None:
    assert Neurons(CNN).shape == (8 + 6 + 4 + 20 + 10, 6 * 25 + 51)


@pytest.mark.parametrize("classes", [10, 200])
def test_resnet18_has_as_many_tokens_as_in_sane(classes: int) -> None:
    convolutions, norms, counters = 39_104, 14_400, 20  # the counters we keep, SANE does not
    shared = RowChunks(resnet18_table(classes), 288).shared
    kinds = [
        int((shared["kind"] == KINDS.index(kind)).sum()) for kind in ("conv", "norm", "linear")
    ]
    assert kinds == [convolutions, norms + counters, 2 * classes]


def test_published_positions_are_token_matrix_and_neuron() -> None:
    shared = RowChunks(TABLE, 5, "published").shared
    conv = [(0, neuron) for neuron in range(4) for _ in range(3)]  # 12 weights and a bias
    norm = [(matrix, neuron) for matrix in (1, 2, 3) for neuron in range(4)]
    linear = [(4, neuron) for neuron in range(5) for _ in range(2)]
    expected = conv + norm + [(3, 0)] + linear  # the batch counter has no number of its own
    assert shared["position"].tolist() == [[n, *place] for n, place in enumerate(expected)]
    weights = torch.randn(2, TABLE.width)
    running = RowChunks(TABLE, 5)(weights)
    assert torch.equal(RowChunks(TABLE, 5, "published")(weights)["values"], running["values"])
    assert torch.equal(shared["mask"], running["mask"])
    with pytest.raises(ValueError, match="positions must be one of .*, got 'neuron'"):
        RowChunks(TABLE, 5, "neuron")


def test_resnet18_fits_the_published_tables_of_positions() -> None:
    """Tables of the published configuration: 55,000 tokens, 100 matrices, 550 neurons."""
    table = resnet18_table(200)
    greatest = RowChunks(table, 288, "published").shared["position"].amax(0)
    matrices, counters = 20 + 20 * 3 + 1, 20  # a norm is scale and shift, mean, variance
    assert greatest.tolist() == [53_904 + counters - 1, matrices - 1, 511]
    assert bool((greatest < torch.tensor([55_000, 100, 550])).all())
    assert RowChunks(table, 288).shared["position"].amax(0)[2] == 8191


def test_bias_of_another_length_or_layer_stands_alone() -> None:
    table = LayerTable.from_module(nn.ConvTranspose2d(2, 3, 1))  # weight (in, out, 1, 1)
    weights = torch.arange(1.0, 10.0)[None]
    tokens = Neurons(table)(weights)
    assert tokens["values"][0].tolist() == [[1, 2, 3], [4, 5, 6], [7, 0, 0], [8, 0, 0], [9, 0, 0]]
    assert [ROLES[i] for i in tokens["role"]] == ["weight"] * 2 + ["bias"] * 3


def test_pickled_tokenizers_cut_the_same() -> None:
    for tokenizer in (Neurons(TABLE), RowChunks(TABLE, 6), RowChunks(TABLE, 6, "published")):
        copy = pickle.loads(pickle.dumps(tokenizer))
        assert torch.equal(copy.shared["position"], tokenizer.shared["position"])
        weights = torch.randn(2, TABLE.width)
        assert torch.equal(copy(weights)["values"], tokenizer(weights)["values"])


def test_row_chunks_reject_a_size_that_is_no_whole_number() -> None:
    with pytest.raises(ValueError, match="size must be a whole number from 1, got 2.5"):
        RowChunks(CNN, 2.5)  # type: ignore[arg-type]
