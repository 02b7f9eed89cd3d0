import base64
import io
import json
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
from torch.nn import functional as F

from weightzoo.builders.checkpoints.unpickling import Stub, load_pickle
from weightzoo.builders.checkpoints.unreadable import UnreadableFileError
from weightzoo.builders.importing import mixed_import, partial_import
from weightzoo.builders.imports import import_zoo
from weightzoo.builders.published.wildpark import WildParkReader, plain
from weightzoo.cli.main import main
from weightzoo.loaders import load_zoo
from weightzoo.tasks.inspection.verification import verify_zoo
from weightzoo.zoos.errors import BuildError, ZooError
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


def write_model(
    park: Path,
    name: str,
    channels: list[int],
    omegaconf: Any,
    config: dict[str, Any] | None = None,
) -> dict[int, Any]:
    """Write three checkpoints of one model; return their state dicts."""
    states = {}
    for iteration in (0, 1, 2):
        folder = park / name / f"checkpoint_{iteration:06d}"
        folder.mkdir(parents=True)
        states[iteration] = wild_cnn(channels)
        own = config or {
            "n_layers": len(channels) - 1,
            "n_classes": 10,
            "channels": channels,
            "residual": [-1, -1],
            "activation": ["relu", "tanh"] if name.endswith("1") else ["gelu", "gelu"],
        }
        checkpoint = {
            "model": states[iteration],
            "optimizer": {"state": {}, "param_groups": [{"lr": 0.001}]},
            "config": omegaconf(own),
            "iteration": iteration,
            "timesteps_total": None,
            "last_result": {"test/acc": 0.25 + iteration / 10, "test/loss": 2.0, "config": {}},
        }
        torch.save(checkpoint, folder / "checkpoint.pt")
    return states


def park_of(tmp_path: Path, omegaconf: Any) -> dict[str, dict[int, Any]]:
    """Write and import a park of twelve models of two architectures; its states by name."""
    states = {}
    for index in range(12):
        channels = [3, 4, 8] if index < 8 else [3, 8, 4]
        name = f"model_{index:02d}"
        states[name] = write_model(tmp_path / "park", name, channels, omegaconf)
    omegaconf.forget()
    return states


def test_park_becomes_one_mixed_zoo(tmp_path: Path, omegaconf: Any) -> None:
    states = park_of(tmp_path, omegaconf)
    report = import_zoo("wildpark", tmp_path / "park", tmp_path / "out", progress=False)
    assert "omegaconf" not in sys.modules
    (made,) = report.zoos
    assert (made.models, made.rows, made.architecture) == (12, 36, "2 architectures")
    zoo = load_zoo(tmp_path / "out")
    assert sum(map(len, zoo.values())) == 36 and set(zoo) == {"train", "val", "test"}
    for split in zoo.values():
        for index, name in enumerate(split["model_name"]):
            wanted = states[name][int(split["epoch"][index])]
            found = split.state_dict(index)
            assert list(found) == list(wanted)  # the names of the published class
            for key, value in wanted.items():
                torch.testing.assert_close(found[key], value, rtol=0, atol=0)


def test_mixed_zoo_filters_splits_and_batches_as_one(tmp_path: Path, omegaconf: Any) -> None:
    park_of(tmp_path, omegaconf)
    import_zoo("wildpark", tmp_path / "park", tmp_path / "out", progress=False)
    whole = load_zoo(tmp_path / "out", split="train+val+test")
    assert sorted(set(whole["model_id"])) == list(range(12))
    last = whole.filter("epoch == 2 and test_accuracy > 0.4")
    assert len(last) == 12 and set(last.columns["epoch"]) == {2}
    seen = []
    for name, batch in last.batches(5, seed=1):
        assert set(batch["architecture_name"]) == {name}
        assert len(batch["weights"]) <= 5
        seen += batch["model_name"]
    assert sorted(seen) == sorted(last["model_name"])
    half = load_zoo(tmp_path / "out", split="train[:50%]")
    assert 0 < len(half) < len(load_zoo(tmp_path / "out", split="train"))
    assert [len(part) for part in last.architectures.values()] == [8, 4]


def test_killed_import_of_a_park_goes_on_and_ends_the_same(
    tmp_path: Path, omegaconf: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    park_of(tmp_path, omegaconf)
    import_zoo("wildpark", tmp_path / "park", tmp_path / "whole", progress=False)
    monkeypatch.setattr(mixed_import, "BLOCK_BYTES", 4000)
    left, flatten_row = [20], partial_import.flatten

    def stops(*arguments: Any) -> None:
        left[0] -= 1
        if left[0] == 0:
            raise KeyboardInterrupt
        flatten_row(*arguments)

    monkeypatch.setattr(partial_import, "flatten", stops)
    with pytest.raises(KeyboardInterrupt):
        import_zoo("wildpark", tmp_path / "park", tmp_path / "out", progress=False)
    import_zoo("wildpark", tmp_path / "park", tmp_path / "out", progress=False)
    assert left[0] > -36  # rows of the first run were not read again
    for file in sorted((tmp_path / "whole").glob("*.f32")):
        assert file.read_bytes() == (tmp_path / "out" / file.name).read_bytes()


def test_unreadable_checkpoint_leaves_no_row_in_a_mixed_zoo(
    tmp_path: Path, omegaconf: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    states = park_of(tmp_path, omegaconf)
    flatten_row, calls = partial_import.flatten, [0]

    def fails(*arguments: Any) -> None:
        calls[0] += 1
        if calls[0] in (2, 9):
            raise ValueError("a bad tensor")
        flatten_row(*arguments)

    monkeypatch.setattr(partial_import, "flatten", fails)
    report = import_zoo("wildpark", tmp_path / "park", tmp_path / "out", progress=False)
    assert report.rows == 34 and len(report.refused) == 2
    whole = load_zoo(tmp_path / "out", split="train+val+test")
    for index, name in enumerate(whole["model_name"]):
        wanted = flatten(states[name][int(whole["epoch"][index])])
        np.testing.assert_array_equal(whole[index]["weights"], wanted)


def test_commands_say_that_a_zoo_is_mixed(tmp_path: Path, omegaconf: Any) -> None:
    park_of(tmp_path, omegaconf)
    import_zoo("wildpark", tmp_path / "park", tmp_path / "out", progress=False)
    with pytest.raises(ZooError, match="is a mixed zoo of many architectures"):
        ZooIndex.read(tmp_path / "out")


def test_mixed_zoo_is_summed_up_verified_and_not_pushed_without_a_licence(
    tmp_path: Path, omegaconf: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    park_of(tmp_path, omegaconf)
    import_zoo("wildpark", tmp_path / "park", tmp_path / "out", progress=False)
    assert main(["info", str(tmp_path / "out")]) == 0
    text = capsys.readouterr().out
    assert "2 architectures, at most" in text and "architecture_name" in text
    assert main(["verify", str(tmp_path / "out"), "--json"]) == 0
    checks = json.loads(capsys.readouterr().out)
    assert len(checks) == 5 and "24" not in str(checks[0])
    assert main(["push", str(tmp_path / "out"), "org/park"]) == 1
    assert "'out' holds networks of others and states no licence" in capsys.readouterr().err


def test_verify_finds_a_changed_value_of_a_mixed_zoo(tmp_path: Path, omegaconf: Any) -> None:
    park_of(tmp_path, omegaconf)
    import_zoo("wildpark", tmp_path / "park", tmp_path / "out", progress=False)
    path = next((tmp_path / "out").glob("train-*.f32"))
    data = bytearray(path.read_bytes())
    data[100] ^= 1
    path.write_bytes(data)
    (failed,) = verify_zoo(tmp_path / "out")
    assert not failed.passed and path.name in failed.detail


def published_forward(state: dict[str, Tensor], config: dict[str, Any], x: Tensor) -> Tensor:
    """Outputs of the published class, from its config."""
    functions = {"relu": F.relu, "tanh": torch.tanh, "gelu": F.gelu}
    saved: dict[int, Tensor] = {}
    for i in range(config["n_layers"]):
        weight = state[f"layers.{i}.weight"]
        x = F.conv2d(x, weight, state[f"layers.{i}.bias"], padding=config["kernel_size"][i] // 2)
        source = config["residual"][i]
        if source > -1:
            shared = min(config["channels"][source + 1], config["channels"][i + 1])
            x = torch.cat([x[:, :shared] + saved[source][:, :shared], x[:, shared:]], 1)
        x = saved[i] = functions[config["activation"][i]](x)
    return F.linear(x.mean((2, 3)), state["fc.weight"], state["fc.bias"])


def test_rebuilt_networks_give_the_published_outputs(tmp_path: Path, omegaconf: Any) -> None:
    configs = {}
    for index in range(8):
        channels = [3, 4, 8, 6] if index % 2 else [3, 8, 4, 8]
        name = f"model_{index}"
        config = configs[name] = {
            "n_layers": 3,
            "n_classes": 10,
            "channels": channels,
            "kernel_size": [3, 3, 3],
            "stride": [1, 1, 1],
            "padding": [1, 1, 1],
            "residual": [-1, -1, 0],
            "activation": ["relu", "tanh", "gelu"] if index < 4 else ["gelu"] * 3,
        }
        write_model(tmp_path / "park", name, channels, omegaconf, config)
    omegaconf.forget()
    import_zoo("wildpark", tmp_path / "park", tmp_path / "out", progress=False)
    zoo = load_zoo(tmp_path / "out", split="train")
    x = torch.randn(2, 3, 12, 12)
    for index in (0, len(zoo) - 1):
        wanted = published_forward(zoo.state_dict(index), configs[zoo["model_name"][index]], x)
        torch.testing.assert_close(zoo.module(index)(x), wanted)


@pytest.mark.parametrize("damage", ["cut", "gone", "segment", "outside"])
def test_damaged_mixed_zoo_is_refused(damage: str, tmp_path: Path, omegaconf: Any) -> None:
    park_of(tmp_path, omegaconf)
    import_zoo("wildpark", tmp_path / "park", tmp_path / "out", progress=False)
    index = json.loads((tmp_path / "out/zoo.json").read_text())
    values = tmp_path / "out" / index["files"][0]["weights"]
    if damage == "cut":
        values.write_bytes(values.read_bytes()[:-4])
    elif damage == "gone":
        values.unlink()
    elif damage == "segment":
        index["architectures"][0]["segments"][0]["rows"] += 1
    else:
        index["files"][0]["weights"] = "../park"
    (tmp_path / "out/zoo.json").write_text(json.dumps(index))
    with pytest.raises(ZooError):
        load_zoo(tmp_path / "out", split="train")[0]


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
        "layers.0.weight",
        "layers.1.weight",
        "fc.weight",
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


@pytest.mark.parametrize("imported", [False, True])
def test_published_split_that_cuts_a_model_is_kept_and_said(
    imported: bool, tmp_path: Path, omegaconf: Any
) -> None:
    park_of(tmp_path, omegaconf)
    files = sorted((tmp_path / "park").rglob("checkpoint.pt"))
    listed = {"train": files[:16], "val": files[16:24], "test": files[24:]}  # 16 = 5 models + 1
    file = tmp_path / "cnn_park_splits.json"
    file.write_text(json.dumps({s: {"path": [*map(str, own)]} for s, own in listed.items()}))
    out, asked = tmp_path / "out", {"protocol": "wild-park", "split_file": file}
    report = import_zoo(
        "wildpark", tmp_path / "park", out, progress=False, **(asked if imported else {})
    )
    zoo = load_zoo(out, **({} if imported else asked))
    for split, own in listed.items():
        rows = zoo[split]
        found = {*zip(rows["model_name"].tolist(), rows["epoch"].tolist(), strict=True)}
        assert len(found) == len(own) == len(rows)
        names = {path.parent.parent.name for path in own}
        assert {name for name, _ in found} == names
        for index in range(len(rows)):
            assert rows["published_file"][index].startswith(rows["model_name"][index])
            rows.state_dict(index)
    assert zoo["test"].splitting["cut_models"] == 1
    assert ("leaks: 1 models" in report.summary()) == imported
