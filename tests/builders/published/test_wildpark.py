import base64
import io
import sys
import types
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from make_published_zoos import flatten
from torch import Tensor, nn

from weightzoo.builders.checkpoints.unpickling import Stub, load_pickle
from weightzoo.builders.checkpoints.unreadable import UnreadableFileError
from weightzoo.builders.imports import import_zoo
from weightzoo.builders.published.wildpark import WildParkReader, plain
from weightzoo.zoos.errors import BuildError
from weightzoo.zoos.index import ZooIndex

# The parts of omegaconf that its pickles name, laid out as omegaconf 2.4 lays them out.
FAKE = {
    "omegaconf.base": ("ContainerMetadata", "Metadata"),
    "omegaconf.dictconfig": ("DictConfig",),
    "omegaconf.listconfig": ("ListConfig",),
    "omegaconf.nodes": ("AnyNode", "IntegerNode"),
}

# Pickled by omegaconf 2.4.0 itself, base64 of zlib: the dataclass config that the park's
# training script makes, {n_layers: 2, n_classes: 10, channels: [3, 8, 16], activation: [relu,
# tanh]}, and a config from a dict, {n_layers: 2, channels: [3, 8, 16], activation: [relu, none],
# x: None}.
STRUCTURED = (
    b"eNpllHt7E0UUxtMUbLItd7yAKAIqAWzwVhUBsZZ7IeIisIq4TiaTnC2T2Zy9FILM88gfPk/7EeCb+O08ZzZbNiX/ZD"
    b"KX3/ue98zkn7qMh2ogZGz67V4kMx5EA+8yDVeKIdZOvcAZi/VW0KzVauFQZaInMoGzlaNdkSqPDmQiMiq5Pdni4Q46"
    b"u9PiW62gQWcT1Q+z8UjhnKSvyAy8ZTP2sBHM02LcXVMyK9abUj0dqSQaKpOlbWlMOFDEFTp6JrIoNm2mpypzS6kYjr"
    b"RKvJVOp7TsObl4xHuFxvmNYJZ+P1ZjXAh20mgY95TGXW7c12KQ4m6LeyYeRS82eox7N9LAK9fDJI4z3LcZ7HZb0liv"
    b"qySUQoLC/VLGWpN3Eku9nuqLXGecpYcHZBh280hnkQlDr5g7+C++7eM7TowcFQW/C41ggSaUVlxzMfkeNPJuMMehj0"
    b"RC03gIuBmHLb7fglngcI9Y/KAFc9CAJhyE+Q1Y6ADV8iHs24T9cABI7aiPHwEJgOPBoY6TDqlvGTOPWTzegl0wE9Rp"
    b"Wid4otJXQ0Gl3KUODTz8mBQ/sfgpqW9v/uuen6RNLYunJrY6zhWcYFunK7bO+PgZ24HDwQ72s06NWrx26b+X/HmVd3"
    b"NaJG/t4uqYUIuxSlI8+4a7G1THQCWFw89J/AuLX3I+bOQri1+Tkak+6JhuHi5RYkswv0nezrK3byrevvXxO+dtBhZX"
    b"69SEprMgtUhTleI5YJnvLZ4vZS5YvMj1VqDnGPpDBXrJxx+3oB5BuS4JwhilU1yu1KWjtHyIt2hY3uqfSGjF4uWy91"
    b"csXuXaJm+Jt3p4DZrTxbrZ64WnZfZ0o+Lppo+rdDeW6G4sTbwde4S3Wq7A2xY7ZYE/W7wzXeBqjWG/VGC+j3cdZIUK"
    b"nKURQ361eK+E3Lf4YBtkhiFBBfKbj79vQRoTyEOLf5SQRxb/3AapMySsQP7yUWxB9uZdRWnzWxb0SNfdPwh2geOUFn"
    b"tlnMpin8GUIEzy6jJ4UAGDj1GR11TIuYmku35rr0N83Hrjpt7NEmpUcVE1KQ4tmrKs2OKI1ddIfa0SMFbUEx9TJyBh"
    b"0T2aROkcM5piWm5xvaQ9sfh0G80lPa7Qnvn49xQtEwbwuUuLHl/7f9599yo="
)
PLAIN = (
    b"eNptkulX00AUxdsCUgICKoK4axGLC+77iiwuhapxiwvESTrti4aE2yQc+2HO0Q+eA/+1M1kwVT7lzSTvd++7eT9Ltr"
    b"/OW8z2veZsw7FDVTgtbUGW80mJwswvFAVKVWOgUCiY6zxkDRYy9ORaLRZwTTaEzPF4eyX9REOv7O0T2FM1yrK3zZtm"
    b"2Nng6Lflw/Fa2pzX0VA2BuVL3/rG7TB5P2CbphU5buh4pqkpXxq0GOFvhI7vMReDW0aPPH/nHQzVjT5ZNl3WCrBXYN"
    b"jQsqPZ9v0QI9vGcCwf+O4mb5s2s4lj1LZ915WaEhhoDd5kkRsmWvtI+439Og7EmlIjsTVGZWNIXnCXr3Mv9XqQypFl"
    b"9KtoNlhbXmO8HreZMplQnScEDiUBeKbLOrwdYDKXnec3eKCSqMtCw2EZ2RGBo1X6L+C/uR6THx0XOFGlfirTQJ0Gt2"
    b"iIJklOf5JGtmmU4hFO6TgdWTRORaNXOdqUwVVqJelXubGJeR53A0zlhFwnyJZgWZbZEpyRgtMCZ6UrUj+1KjCTinf9"
    b"K9Wu4VziZ0r5OZ/zc0HHRRrrbvDlGmCW4hiVU5pYxaUqqRguC1xRgmraqwLXuqatFRT9eo5+Q8fNmDFNlVqPrBTjls"
    b"DtjHFH4G43o6gY93KM+zoe7DDKKeOhwKOM8VhgrptRUownOca8joUdxmhkcZm32kgmV22TqXXDIqlAlwSeZoE+E3ie"
    b"cimNb1GBX+TANR3LNEb/hLWShFUXeJmZfCXwepew9BzrjY63MWOJKvFytLkb4V068XuBDxnMEPi4S2qfcrDPOr50wT"
    b"zf41hNRi/K8w+sxVxT4GvGZQJW9/6uKa6d4zZ08HTQSj2yosia/QPi33Jw"
)


@pytest.fixture
def omegaconf(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Makes configs as omegaconf would; `forget` takes the modules away again."""
    made = {}
    for module, names in {"omegaconf": (), **FAKE}.items():
        made[module] = types.ModuleType(module)
        for name in names:
            made[module].__dict__[name] = type(name, (), {"__module__": module})
        monkeypatch.setitem(sys.modules, module, made[module])

    def node(module: str, name: str, **state: Any) -> Any:
        found = getattr(made[module], name)()
        metadata = made["omegaconf.base"].Metadata()
        metadata.__dict__.update(ref_type=Any, object_type=dict, optional=True, key=None)
        found.__dict__.update(_metadata=metadata, _parent=None, **state)
        return found

    def config(value: Any) -> Any:
        if isinstance(value, dict):
            content = {key: config(entry) for key, entry in value.items()}
            return node("omegaconf.dictconfig", "DictConfig", _content=content)
        if isinstance(value, list):
            members = [config(entry) for entry in value]
            return node("omegaconf.listconfig", "ListConfig", _content=members)
        kind = "IntegerNode" if isinstance(value, int) else "AnyNode"
        return node("omegaconf.nodes", kind, _val=value)

    def forget() -> None:
        for module in made:
            monkeypatch.delitem(sys.modules, module)

    config.forget = forget  # type: ignore[attr-defined]
    return config


def wild_cnn(channels: list[int]) -> dict[str, Tensor]:
    """A net of the park: `layers.<i>` convolutions and `fc`."""
    net = nn.Module()
    pairs = zip(channels[:-1], channels[1:], strict=True)
    net.layers = nn.ModuleList([nn.Conv2d(a, b, 3) for a, b in pairs])
    net.fc = nn.Linear(channels[-1], 10)
    return net.state_dict()


def write_model(park: Path, name: str, channels: list[int], omegaconf: Any) -> dict[int, Any]:
    """Write three checkpoints of one model; return their state dicts."""
    states = {}
    for iteration in (0, 1, 2):
        folder = park / name / f"checkpoint_{iteration:06d}"
        folder.mkdir(parents=True)
        states[iteration] = wild_cnn(channels)
        config = {
            "n_layers": len(channels) - 1,
            "n_classes": 10,
            "channels": channels,
            "residual": [-1, -1],
            "activation": ["relu", "tanh"] if name.endswith("1") else ["gelu", "gelu"],
        }
        checkpoint = {
            "model": states[iteration],
            "optimizer": {"state": {}, "param_groups": [{"lr": 0.001}]},
            "config": omegaconf(config),
            "iteration": iteration,
            "timesteps_total": None,
            "last_result": {"test/acc": 0.25 + iteration / 10, "test/loss": 2.0, "config": {}},
        }
        torch.save(checkpoint, folder / "checkpoint.pt")
    return states


def test_park_becomes_one_zoo_per_architecture(tmp_path: Path, omegaconf: Any) -> None:
    park = tmp_path / "park"
    states = {}
    for index in range(6):
        channels = [3, 4, 8] if index < 4 else [3, 8, 4]
        states[f"model_{index}"] = write_model(park, f"model_{index}", channels, omegaconf)
    omegaconf.forget()
    report = import_zoo("wildpark", park, tmp_path / "out", progress=False)
    assert "omegaconf" not in sys.modules
    assert sorted((zoo.models, zoo.rows) for zoo in report.zoos) == [(2, 6), (4, 12)]
    for zoo in report.zoos:
        for file in ZooIndex.read(Path(zoo.path)).open(Path(zoo.path)):
            columns, weights = file.read_columns(), file.map_weights()
            for index, name in enumerate(columns["model_name"]):
                wanted = flatten(states[name][int(columns["epoch"][index])])
                np.testing.assert_array_equal(weights[index], wanted)


def test_config_and_results_become_columns(tmp_path: Path, omegaconf: Any) -> None:
    for index in range(3):
        write_model(tmp_path / "park", f"model_{index}", [3, 4, 8], omegaconf)
    omegaconf.forget()
    import_zoo("wildpark", tmp_path / "park", tmp_path / "out", progress=False)
    files = ZooIndex.read(tmp_path / "out").open(tmp_path / "out")
    for file in files:
        columns = file.read_columns()
        mixed = columns["model_name"] == "model_1"
        assert set(columns["activation"][mixed]) <= {"relu,tanh"}
        assert set(columns["activation"][~mixed]) <= {"gelu"}
        np.testing.assert_allclose(columns["test_accuracy"], 0.25 + columns["epoch"] / 10)
        assert np.isnan(columns["train_accuracy"]).all()
    table = files[0].header.layer_table
    assert [tensor.name for tensor in table][::2] == [
        "conv1.weight",
        "conv2.weight",
        "linear1.weight",
    ]


@pytest.mark.parametrize(
    ("data", "wanted"),
    [
        (
            STRUCTURED,
            {
                "n_layers": 2,
                "n_classes": 10,
                "channels": [3, 8, 16],
                "activation": ["relu", "tanh"],
            },
        ),
        (
            PLAIN,
            {"n_layers": 2, "channels": [3, 8, 16], "activation": ["relu", "none"], "x": None},
        ),
    ],
)
def test_real_omegaconf_pickles_become_plain_data(data: bytes, wanted: dict[str, Any]) -> None:
    pickled = io.BytesIO(zlib.decompress(base64.b64decode(data)))
    assert plain(load_pickle(pickled, stubs=WildParkReader.stubs)) == wanted


def test_strict_import_names_the_architectures(tmp_path: Path, omegaconf: Any) -> None:
    for index, channels in enumerate(([3, 4, 8], [3, 8, 4])):
        write_model(tmp_path / "park", f"model_{index}", channels, omegaconf)
    with pytest.raises(BuildError, match="holds 2 architectures: 1 of 498 .*such as model_0"):
        import_zoo("wildpark", tmp_path / "park", tmp_path / "out", strict=True, progress=False)
    assert [path.name for path in tmp_path.iterdir()] == ["park"]


def test_classes_elsewhere_are_refused_by_name(
    tmp_path: Path, omegaconf: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_model(tmp_path / "park", "model_0", [3, 4], omegaconf)
    module = types.ModuleType("hydra_plugins")
    module.Launcher = type("Launcher", (), {"__module__": "hydra_plugins"})  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "hydra_plugins", module)
    folder = tmp_path / "park" / "model_1" / "checkpoint_000000"
    folder.mkdir(parents=True)
    torch.save({"model": {}, "config": module.Launcher()}, folder / "checkpoint.pt")
    report = import_zoo("wildpark", tmp_path / "park", tmp_path / "out", progress=False)
    (refused,) = report.refused
    assert refused.model == "model_1" and "names 'hydra_plugins.Launcher'" in refused.reason


def test_config_that_refers_to_itself_without_end_is_refused() -> None:
    node: Any = Stub()
    for _ in range(60):
        parent = Stub()
        parent.state = {"_content": [node, node]}
        node = parent
    with pytest.raises(UnreadableFileError, match="more than 100000 entries"):
        plain(node)
