import numpy as np
import pytest
import torch
from make_published_zoos import published_cnn
from torch import nn

from weightzoo.builders.checkpoints.unpickling import UnreadableFileError
from weightzoo.builders.importing.layers import (
    check_tensors,
    count_layers,
    derive_layer_table,
    is_indexed,
    known_architecture,
    signature,
)
from weightzoo.zoos.networks.layer_table import LayerTable
from weightzoo.zoos.networks.presets import cnn_l, cnn_s


def arrays(module: nn.Module) -> dict[str, np.ndarray]:
    return {name: value.detach().numpy() for name, value in module.state_dict().items()}


@pytest.mark.parametrize("dropout", [0.0, 0.5])
@pytest.mark.parametrize("large", [False, True])
def test_published_networks_are_recognised(dropout: float, large: bool) -> None:
    named = count_layers(arrays(published_cnn(dropout, 3, large)))
    wanted = cnn_l(3) if large else cnn_s(3)
    assert known_architecture(named) == wanted
    assert list(named) == [tensor.name for tensor in wanted.layer_table()]
    check_tensors(named, wanted)


def test_tensors_are_matched_by_index_not_by_order() -> None:
    state = arrays(published_cnn(0.5))
    backwards = dict(reversed(state.items()))
    assert list(backwards) != list(state)
    for name, values in count_layers(state).items():
        np.testing.assert_array_equal(count_layers(backwards)[name], values)


def test_check_names_every_wrong_tensor() -> None:
    named = dict(count_layers(arrays(published_cnn())))
    del named["conv2.bias"]
    named["linear2.weight"] = np.zeros((4, 20))
    named["linear3.bias"] = np.zeros(4)
    with pytest.raises(UnreadableFileError) as error:
        check_tensors(named, cnn_s(1))
    for part in (
        "conv2.bias (6,) is missing",
        "linear2.weight has shape (4, 20), not (10, 20)",
        "linear3.bias is unknown",
    ):
        assert part in str(error.value)


def test_indexed_names_are_told_from_others() -> None:
    assert is_indexed(["module_list.0.weight", "module_list.11.bias"])
    assert not is_indexed(["module_list.0.weight", "other.1.bias"])
    assert not is_indexed(["conv1.weight", "fc.weight"])
    assert not is_indexed(["module_list.0.log_sigma"])


def test_derived_table_equals_that_of_the_module() -> None:
    network = nn.Sequential(
        nn.Embedding(7, 4),
        nn.Conv2d(3, 4, 3, bias=False),
        nn.BatchNorm2d(4),
        nn.Conv1d(4, 4, 2),
        nn.LayerNorm(4),
        nn.MultiheadAttention(4, 2),
        nn.Linear(4, 2),
    )
    renamed = {name.replace("0.", "embed."): v for name, v in arrays(network).items()}
    wanted = LayerTable.from_module(network)
    derived = derive_layer_table(renamed)
    for ours, theirs in zip(derived, wanted, strict=True):
        same = ("shape", "role", "offset", "dtype", "depth")
        assert all(getattr(ours, name) == getattr(theirs, name) for name in same), ours
        assert ours.kind == theirs.kind, ours


def test_signature_ignores_order_and_sees_type() -> None:
    state = arrays(nn.Linear(2, 3))
    assert signature(state) == signature(dict(reversed(state.items())))
    doubled = {name: values.astype(np.float64) for name, values in state.items()}
    assert signature(state) != signature(doubled)
    assert signature({"w": torch.ones(2).numpy()}) == (("w", (2,), "float32"),)
