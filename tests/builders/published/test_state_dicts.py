import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from make_published_zoos import flatten
from torch import Tensor, nn

from weightzoo.builders.imports import import_zoo
from weightzoo.zoos.errors import BuildError
from weightzoo.zoos.index import ZooIndex


def net(seed: int) -> dict[str, Tensor]:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)).state_dict()


def write(path: Path, seed: int) -> Tensor:
    """Write a net in the format of its ending; return it flat."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".safetensors":
        pytest.importorskip("safetensors")
        from safetensors.torch import save_file

        save_file(net(seed), path)
        return flatten({name: net(seed)[name] for name in sorted(net(seed))})
    torch.save(net(seed), path)
    return flatten(net(seed))


def imported(folder: Path, **options: Any) -> Any:
    return import_zoo("state-dicts", folder, folder.with_name("out"), progress=False, **options)


def columns_and_weights(out: Path) -> tuple[dict[str, np.ndarray], np.ndarray]:
    files = ZooIndex.read(out).open(out)
    parts = [file.read_columns() for file in files]
    columns = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    return columns, np.concatenate([np.array(file.map_weights()) for file in files])


@pytest.mark.parametrize("ending", [".pt", ".pth", ".safetensors"])
def test_folder_with_csv_comes_in(ending: str, tmp_path: Path) -> None:
    wanted = {f"net{i}": write(tmp_path / "nets" / f"net{i}{ending}", i) for i in range(5)}
    lines = [f"net{i}{ending},{i / 10},{1e-3 * (i + 1)},adam,red,{i}" for i in range(5)]
    table = "\n".join(["file,test_acc,learning_rate,optimizer,colour,seed", *lines])
    (tmp_path / "nets" / "properties.csv").write_text(table)
    report = imported(tmp_path / "nets")
    columns, weights = columns_and_weights(tmp_path / "out")
    assert report.models == 5 and report.refused == ()
    for index, name in enumerate(columns["model_name"]):
        np.testing.assert_array_equal(weights[index], wanted[name])
        seed = int(columns["seed"][index])
        assert columns["test_accuracy"][index] == pytest.approx(seed / 10)
        assert columns["lr"][index] == pytest.approx(1e-3 * (seed + 1))
    assert set(columns["colour"]) == {"red"} and set(columns["optimizer"]) == {"adam"}


def test_jsonl_with_epochs_per_model(tmp_path: Path) -> None:
    lines = []
    for model in range(3):
        for epoch in (1, 10):
            write(tmp_path / "nets" / f"m{model}" / f"epoch_{epoch}.pt", 10 * model + epoch)
            lines.append({"model_name": f"m{model}", "epoch": epoch, "test_acc": epoch / 20})
    (tmp_path / "nets" / "table.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n\n")
    report = imported(tmp_path / "nets")
    columns, _ = columns_and_weights(tmp_path / "out")
    assert (report.models, report.rows, report.refused) == (3, 6, ())
    np.testing.assert_allclose(columns["test_accuracy"], columns["epoch"] / 20)


def test_one_line_may_speak_for_all_epochs_of_a_folder(tmp_path: Path) -> None:
    for epoch in (1, 2):
        write(tmp_path / "nets" / "m0" / f"epoch_{epoch}.pt", epoch)
    (tmp_path / "nets" / "table.csv").write_text("name,lr\nm0,0.5\n")
    report = imported(tmp_path / "nets")
    assert (report.rows, report.refused) == (2, ())
    assert set(columns_and_weights(tmp_path / "out")[0]["lr"]) == {0.5}


def test_lines_without_weights_and_the_reverse_are_reported(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        write(tmp_path / "nets" / f"{name}.pt", ord(name))
    (tmp_path / "nets" / "table.csv").write_text("name,lr\na,1\nb,2\nghost,3\n")
    report = imported(tmp_path / "nets")
    assert report.models == 2
    assert {(r.model, r.reason) for r in report.refused} == {
        ("c.pt", "weights without a line in the table"),
        ("ghost", "a line in the table without weights"),
    }


def test_split_of_the_table_is_kept(tmp_path: Path) -> None:
    for index in range(4):
        write(tmp_path / "nets" / f"net{index}.pt", index)
    rows = "\n".join(f"net{i},{s}" for i, s in enumerate(["train", "test", "val", "train"]))
    (tmp_path / "nets" / "table.csv").write_text("name,split\n" + rows)
    report = imported(tmp_path / "nets")
    assert report.zoos[0].splits == {"train": 2, "val": 1, "test": 1}


def test_no_table_is_a_note(tmp_path: Path) -> None:
    write(tmp_path / "nets" / "a.pt", 0)
    report = imported(tmp_path / "nets")
    assert report.models == 1 and "no table" in report.notes[0]


def test_properties_keep_their_types(tmp_path: Path) -> None:
    for index in range(3):
        write(tmp_path / "nets" / f"n{index}.pt", index)
    lines = ["n0,1,0.5,,a,1,2", "n1,2,1,3,7,1,2", "n2,3,2,4,,1,2"]
    table = "\n".join(["name,count,share,gap,text,test/extra,weights", *lines])
    (tmp_path / "nets" / "table.csv").write_text(table)
    imported(tmp_path / "nets")
    columns, _ = columns_and_weights(tmp_path / "out")
    order = np.argsort(columns["model_name"])
    found = {name: column[order].tolist() for name, column in columns.items()}
    assert found["count"] == [1, 2, 3] and found["share"] == [0.5, 1.0, 2.0]
    assert np.isnan(found["gap"][0]) and found["gap"][1:] == [3.0, 4.0]
    assert found["text"] == ["a", "7", ""]
    assert found["test_extra"] == [1, 1, 1] and found["weights_"] == [2, 2, 2]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"a.csv": "name\nn", "b.jsonl": "{}"}, "several tables"),
        ({"a.csv": "colour\nred\n"}, "a line has none of"),
        ({"a.jsonl": "[1]\n"}, "no JSON object"),
        ({"a.jsonl": "{"}, "is damaged"),
    ],
)
def test_bad_table_is_an_error(files: dict[str, str], message: str, tmp_path: Path) -> None:
    write(tmp_path / "nets" / "n.pt", 0)
    for name, text in files.items():
        (tmp_path / "nets" / name).write_text(text)
    with pytest.raises(BuildError, match=message):
        imported(tmp_path / "nets")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("names", "table"),
    [
        (["run{m}/epoch_{k}.pt"], ""),
        (["run{m}_epoch{k}.pt"], ""),
        (["nets/run{m}-checkpoint-{k}.pt"], ""),
        (["run{m}_{k:04d}.pt"], "file,epoch\n"),
        (["run{m}/{k}.pt"], "file,epoch\n"),
    ],
    ids=["folder", "name", "dashes", "table", "table and folder"],
)
def test_checkpoints_of_one_run_are_one_model(names: list[str], table: str, tmp_path: Path) -> None:
    lines = []
    for model in range(4):
        for epoch in (3, 10, 20):
            file = names[0].format(m=model, k=epoch)
            write(tmp_path / "nets" / file, 100 * model + epoch)
            lines.append(f"{file},{epoch}")
    if table:
        (tmp_path / "nets" / "table.csv").write_text(table + "\n".join(lines))
    report = imported(tmp_path / "nets")
    columns, _ = columns_and_weights(tmp_path / "out")
    assert (report.models, report.rows, report.refused) == (4, 12, ())
    for model in range(4):
        own = columns["model_id"] == model
        assert columns["epoch"][own].tolist() == [3, 10, 20]
        assert len(set(columns["split"][own])) == 1
        assert columns["model_name"][own][0].endswith(f"run{model}")


def test_names_that_form_no_series_are_models(tmp_path: Path) -> None:
    for name in ("deep3", "deep4", "a_epoch5", "b_epoch5", "net_1", "net_2"):
        write(tmp_path / "nets" / f"{name}.pt", len(name))
    imported(tmp_path / "nets")
    columns, _ = columns_and_weights(tmp_path / "out")
    found = dict(zip(columns["model_name"], columns["epoch"].tolist(), strict=True))
    assert found == {
        "deep3": -1,
        "deep4": -1,
        "a_epoch5": 5,
        "b_epoch5": 5,
        "net_1": -1,
        "net_2": -1,
    }


def test_validation_is_a_split_and_an_unknown_split_is_said(tmp_path: Path) -> None:
    for index in range(4):
        write(tmp_path / "nets" / f"net{index}.pt", index)
    splits = ["training", "Validation", "test", "train"]
    rows = "\n".join(f"net{i},{s}" for i, s in enumerate(splits))
    (tmp_path / "nets" / "table.csv").write_text("name,split\n" + rows)
    assert imported(tmp_path / "nets").zoos[0].splits == {"train": 2, "val": 1, "test": 1}
    (tmp_path / "nets" / "table.csv").write_text("name,split\n" + rows.replace("test", "holdout"))
    report = imported(tmp_path / "nets", overwrite=True)
    assert [r.model for r in report.remarks] == ["net2"] and "'holdout'" in report.remarks[0].reason
    assert "only 3 of 4 models have a published split" in report.notes[0]


def test_names_of_digits_stay_text(tmp_path: Path) -> None:
    names = ["0001", "0002", "1e5", "12"]
    for index, name in enumerate(names):
        write(tmp_path / "nets" / f"{name}.pt", index)
    lines = [f"{name},{index},00{index}" for index, name in enumerate(names)]
    (tmp_path / "nets" / "table.csv").write_text("\n".join(["name,test_acc,code", *lines]))
    report = imported(tmp_path / "nets")
    columns, _ = columns_and_weights(tmp_path / "out")
    assert report.refused == () and sorted(columns["model_name"]) == sorted(names)
    found = dict(zip(columns["model_name"], columns["code"], strict=True))
    assert found == {name: f"00{index}" for index, name in enumerate(names)}


def test_numbers_that_equal_an_epoch_by_chance_form_no_run(tmp_path: Path) -> None:
    epochs = {"net_1": 1, "net_2": 2, "net_3": 7}
    for name, epoch in epochs.items():
        write(tmp_path / "nets" / f"{name}.pt", epoch)
    lines = [f"{name}.pt,{epoch}" for name, epoch in epochs.items()]
    (tmp_path / "nets" / "table.csv").write_text("\n".join(["file,epoch", *lines]))
    assert imported(tmp_path / "nets").models == 3


def test_a_checkpoint_twice_leaves_its_run_whole(tmp_path: Path) -> None:
    for name in ("run/epoch_1.pt", "run/epoch_1.pth", "run/epoch_2.pt", "b.pt"):
        write(tmp_path / "nets" / name, len(name))
    report = imported(tmp_path / "nets")
    assert (report.models, report.rows) == (2, 3)
    assert [r.model for r in report.refused] == ["run"]
