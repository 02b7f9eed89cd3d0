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
        ({"a.csv": "colour\nred\n"}, "no column that names a file or model"),
        ({"a.jsonl": "[1]\n"}, "no JSON object"),
        ({"a.jsonl": "{"}, "cannot be used: damaged"),
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


def whole_and_shards(folder: Path, name: str, seed: int, ending: str = ".bin") -> Tensor:
    """Write a net as three shards with the index of Hugging Face; return it flat."""
    state, folder = net(seed), folder / name
    folder.mkdir(parents=True)
    names = list(state)
    files = {}
    for number, part in enumerate((names[:1], names[1:2], names[2:]), start=1):
        file = f"pytorch_model-{number:05d}-of-00003{ending}"
        torch.save({key: state[key] for key in part}, folder / file)
        files |= dict.fromkeys(part, file)
    index = {"metadata": {"total_size": 104}, "weight_map": files}
    (folder / f"pytorch_model{ending}.index.json").write_text(json.dumps(index))
    return flatten({key: state[key] for key in sorted(state)})


def test_shards_of_one_checkpoint_are_one_model(tmp_path: Path) -> None:
    wanted = {f"run{i}": whole_and_shards(tmp_path / "nets", f"run{i}", i) for i in range(4)}
    report = imported(tmp_path / "nets")
    columns, weights = columns_and_weights(tmp_path / "out")
    assert (report.models, report.rows, report.refused) == (4, 4, ())
    for name, row in zip(columns["model_name"], weights, strict=True):
        np.testing.assert_array_equal(row, wanted[name.partition("/")[0]])


def test_shards_of_a_run_are_its_epochs(tmp_path: Path) -> None:
    for epoch in (1, 2):
        whole_and_shards(tmp_path / "nets", f"run/checkpoint-{epoch}", epoch, ".pt")
    whole_and_shards(tmp_path / "nets", "other/checkpoint-1", 7, ".pt")
    report = imported(tmp_path / "nets")
    columns, _ = columns_and_weights(tmp_path / "out")
    found = sorted(zip(columns["model_name"], columns["epoch"].tolist(), strict=True))
    assert report.rows == 3 and [epoch for _, epoch in found] == [1, 1, 2]
    assert len({name for name, _ in found}) == 2


def test_checkpoint_that_lacks_a_shard_is_refused(tmp_path: Path) -> None:
    for name in ("run0", "run1"):
        whole_and_shards(tmp_path / "nets", name, 0)
    (tmp_path / "nets/run1/pytorch_model-00002-of-00003.bin").unlink()
    report = imported(tmp_path / "nets")
    assert report.models == 1
    assert [r.reason for r in report.refused] == ["lacks the shards [2] of 3"]


@pytest.mark.parametrize("ending", [".bin", ".ckpt", ".npz"])
def test_other_endings_of_weights_are_read(ending: str, tmp_path: Path) -> None:
    (tmp_path / "nets").mkdir()
    for index in range(3):
        file = tmp_path / "nets" / f"net{index}{ending}"
        if ending == ".npz":
            arrays = {name: value.numpy() for name, value in net(index).items()}
            np.savez_compressed(file, **arrays)
        elif ending == ".ckpt":  # as Lightning saves it
            torch.save({"epoch": 1, "global_step": 5, "state_dict": net(index)}, file)
        else:
            torch.save(net(index), file)
    report = imported(tmp_path / "nets")
    columns, weights = columns_and_weights(tmp_path / "out")
    assert (report.models, report.refused) == (3, ())
    for name, row in zip(columns["model_name"], weights, strict=True):
        np.testing.assert_array_equal(row, flatten(net(int(name[-1]))))


def test_weights_of_unread_kinds_are_listed(tmp_path: Path) -> None:
    write(tmp_path / "nets" / "net.pt", 0)
    for name in ("net.h5", "net.onnx", "model.gguf"):
        (tmp_path / "nets" / name).write_bytes(b"weights")
    (tmp_path / "nets" / "readme.md").write_text("")
    report = imported(tmp_path / "nets")
    assert [r.model for r in report.refused] == ["model.gguf", "net.h5", "net.onnx"]
    assert "weights in .h5 files are not read" in report.refused[1].reason


def test_npz_that_unpacks_to_much_more_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "nets" / "net.pt", 0)
    np.savez_compressed(tmp_path / "nets" / "bomb.npz", weight=np.zeros(30_000_000, np.float32))
    report = imported(tmp_path / "nets")
    assert [(r.model, "repeat" in r.reason) for r in report.refused] == [("bomb", True)]


def test_git_lfs_pointer_is_called_by_its_name(tmp_path: Path) -> None:
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12\n"
    write(tmp_path / "nets" / "net.pt", 0)
    for name in ("a.pt", "b.safetensors", "c.npz"):
        (tmp_path / "nets" / name).write_text(pointer)
    report = imported(tmp_path / "nets")
    assert [r.model for r in report.refused] == ["a", "b", "c"]
    for remark in report.refused:
        assert "is a Git LFS pointer" in remark.reason and "git lfs pull" in remark.reason


def test_eight_bit_floats_are_called_by_their_name(tmp_path: Path) -> None:
    write(tmp_path / "nets" / "net.pt", 0)
    tensor = torch.randn(4).to(torch.float8_e4m3fn)
    torch.save({"weight": tensor}, tmp_path / "nets" / "small.pt")
    report = imported(tmp_path / "nets")
    assert "float8_e4m3fn" in report.refused[0].reason and "FP8" in report.refused[0].reason


def test_table_without_a_column_of_names_says_which_it_may_have(tmp_path: Path) -> None:
    write(tmp_path / "nets" / "net.pt", 0)
    (tmp_path / "nets" / "table.csv").write_text("id,test_acc\n1,0.5\n")
    with pytest.raises(BuildError, match=r"no column that names.*'file'.*it has \['id', 'test_acc"):
        imported(tmp_path / "nets")
