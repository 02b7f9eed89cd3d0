import gzip
import io
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from make_small_cnn_zoo import SHAPES, STEPS, layout, write_zoo
from torch import nn

from weightzoo.builders.checkpoints.unpickling import UnreadableFileError
from weightzoo.builders.imports import import_zoo
from weightzoo.builders.published.smallcnn import read_layout
from weightzoo.loaders import load_zoo
from weightzoo.zoos.errors import BuildError
from weightzoo.zoos.index import ZooIndex


def imported(source: Path, out: Path, **options: Any) -> Any:
    return import_zoo("smallcnn", source, out, progress=False, **options)


def read(out: Path) -> tuple[Any, dict[str, np.ndarray], np.ndarray]:
    files = ZooIndex.read(out).open(out)
    columns = [file.read_columns() for file in files]
    joined = {name: np.concatenate([part[name] for part in columns]) for name in columns[0]}
    weights = np.concatenate([np.array(file.map_weights()) for file in files])
    return files[0].header.layer_table, joined, weights


def keras_forward(row: np.ndarray, images: np.ndarray) -> np.ndarray:
    """The published net in numpy, channels last, straight from its flat row."""
    parts, at = {}, 0
    for name, shape in SHAPES:
        size = int(np.prod(shape))
        parts[name.split("/", 1)[1]] = row[at : at + size].reshape(shape)
        at += size
    values = images  # (B, H, W, C)
    for layer in ("conv2d", "conv2d_1", "conv2d_2"):
        kernel, bias = parts[f"{layer}/kernel:0"], parts[f"{layer}/bias:0"]
        windows = np.lib.stride_tricks.sliding_window_view(values, (3, 3), axis=(1, 2))
        windows = windows[:, ::2, ::2]  # (B, H, W, C, kh, kw)
        values = np.maximum(np.einsum("bhwcij,ijco->bhwo", windows, kernel) + bias, 0)
    return values.mean((1, 2)) @ parts["dense/kernel:0"] + parts["dense/bias:0"]


def torch_net() -> nn.Module:
    layers: dict[str, nn.Module] = {"conv1": nn.Conv2d(1, 16, 3, 2)}
    layers |= {"conv2": nn.Conv2d(16, 16, 3, 2), "conv3": nn.Conv2d(16, 16, 3, 2)}
    net = nn.Module()
    for name, layer in (layers | {"linear1": nn.Linear(16, 10)}).items():
        net.add_module(name, layer)
    return net


def test_tensorflow_rows_compute_the_same_in_torch(tmp_path: Path) -> None:
    weights = write_zoo(tmp_path / "svhn", models=3) * 0.3
    np.save(tmp_path / "svhn" / "weights.npy", weights.astype(np.float32))
    imported(tmp_path / "svhn", tmp_path / "out")
    table, columns, rows = read(tmp_path / "out")
    images = np.random.default_rng(1).normal(size=(4, 28, 28, 1)).astype(np.float32)
    place = columns["model_name"].tolist().index("2")  # its first row is step 0
    net = torch_net()
    net.load_state_dict(table.state_dict(torch.tensor(rows[place])))
    values = torch.tensor(images).permute(0, 3, 1, 2)
    for name in ("conv1", "conv2", "conv3"):
        values = getattr(net, name)(values).relu()
    found = net.linear1(values.mean((2, 3)))  # type: ignore[operator]
    wanted = keras_forward(weights[0], images)  # models were written in reverse: row 0 is model 2
    np.testing.assert_allclose(found.detach().numpy(), wanted, rtol=1e-4, atol=1e-5)


def test_layer_table_is_in_our_order(tmp_path: Path) -> None:
    write_zoo(tmp_path / "svhn")
    report = imported(tmp_path / "svhn", tmp_path / "out")
    table, _, _ = read(tmp_path / "out")
    assert [(tensor.name, tensor.shape) for tensor in table][:4] == [
        ("conv1.weight", (16, 1, 3, 3)),
        ("conv1.bias", (16,)),
        ("conv2.weight", (16, 16, 3, 3)),
        ("conv2.bias", (16,)),
    ]
    assert [(tensor.name, tensor.kind, tensor.depth) for tensor in table][-2:] == [
        ("linear1.weight", "linear", 3),
        ("linear1.bias", "linear", 3),
    ]
    assert report.zoos[0].parameters == 4970


@pytest.mark.parametrize("kind", ["folder", "tar.xz", "zip"])
def test_every_container_gives_the_same_rows(kind: str, tmp_path: Path) -> None:
    weights = write_zoo(tmp_path / "svhn")
    source = tmp_path / "svhn"
    if kind == "tar.xz":
        source = tmp_path / "svhn.tar.xz"
        with tarfile.open(source, "w:xz", preset=0) as packed:
            packed.add(tmp_path / "svhn", "svhn_cropped")
    elif kind == "zip":
        import shutil

        source = Path(shutil.make_archive(str(tmp_path / "packed"), "zip", tmp_path / "svhn"))
    imported(source, tmp_path / "out")
    _, columns, rows = read(tmp_path / "out")
    for index in range(len(rows)):
        step, model = int(columns["epoch"][index]), int(columns["model_name"][index])
        wanted = weights[STEPS.index(step) * 6 + 5 - model]
        np.testing.assert_array_equal(rows[index][144:160], wanted[:16])  # bias after kernel
        np.testing.assert_array_equal(np.sort(rows[index]), np.sort(wanted))


def test_columns_have_our_names(tmp_path: Path) -> None:
    write_zoo(tmp_path / "svhn")
    imported(tmp_path / "svhn", tmp_path / "out")
    _, columns, _ = read(tmp_path / "out")
    one = {name: column[columns["model_name"] == "3"][2] for name, column in columns.items()}
    assert (one["epoch"], one["seed"], one["activation"]) == (86, 42, "relu")
    assert (one["init"], one["optimizer"], one["bias_init"]) == ("he_normal", "rmsprop", 0.0)
    assert (one["lr"], one["l2reg"], one["train_fraction"]) == (0.01, 1e-5, 0.5)
    assert one["generalization_gap"] == pytest.approx(0.1)
    (file, *_) = ZooIndex.read(tmp_path / "out").open(tmp_path / "out")
    assert file.header.recipe["constants"] == {"dataset": "svhn_cropped", "epochs": 86}


def test_a_loss_that_is_no_number_is_flagged(tmp_path: Path) -> None:
    write_zoo(tmp_path / "svhn")
    report = imported(tmp_path / "svhn", tmp_path / "out")
    _, columns, _ = read(tmp_path / "out")
    diverged = columns["status"] == "diverged"
    assert columns["model_name"][diverged].tolist() == ["1"]
    assert columns["epoch"][diverged].tolist() == [86] and report.zoos[0].diverged_rows == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda folder: (folder / "layout.csv").unlink(), "holds no layout.csv"),
        (lambda folder: (folder / "metrics.csv.gz").unlink(), "holds no metrics.csv.gz"),
        (lambda folder: cut(folder / "weights.npy", 1000), "truncated"),
        (lambda folder: cut(folder / "metrics.csv.gz", 30), "is damaged"),
        (lambda folder: np.save(folder / "weights.npy", np.zeros((3, 4970))), "18 rows of metrics"),
        (lambda folder: np.save(folder / "weights.npy", np.zeros((18, 9))), "weights have 9"),
        (lambda folder: (folder / "weights.npy").write_bytes(b"text"), "no .npy file"),
    ],
)
def test_contradicting_files_are_an_error(change: Any, message: str, tmp_path: Path) -> None:
    write_zoo(tmp_path / "svhn")
    change(tmp_path / "svhn")
    with pytest.raises(BuildError, match=message):
        imported(tmp_path / "svhn", tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["svhn"]


def cut(path: Path, size: int) -> None:
    path.write_bytes(path.read_bytes()[:-size])


def test_pickled_npy_is_refused(tmp_path: Path) -> None:
    write_zoo(tmp_path / "svhn")
    file = io.BytesIO()
    np.save(file, np.array([[{}]]), allow_pickle=True)
    (tmp_path / "svhn" / "weights.npy").write_bytes(file.getvalue())
    with pytest.raises(BuildError, match="not rows of numbers"):
        imported(tmp_path / "svhn", tmp_path / "out")


@pytest.mark.parametrize(
    ("old", "new"),
    [("16,160", "17,160"), ("kernel:0", "gamma:0"), ('"(16,)"', '"(15,)"'), ("16,160", "16,x")],
)
def test_layout_must_cover_the_row(old: str, new: str) -> None:
    with pytest.raises(UnreadableFileError, match=r"layout\.csv"):
        read_layout(layout().replace(old, new, 1), 4970)


def test_rebuilt_network_computes_what_keras_did(tmp_path: Path) -> None:
    rows = write_zoo(tmp_path / "zoo")
    report = imported(tmp_path / "zoo", tmp_path / "out")
    assert report.zoos[0].architecture == "small-cnn" and report.zoos[0].parameters == 4970
    train = load_zoo(tmp_path / "out", split="train")
    relu = int(np.flatnonzero(train.columns["activation"] == "relu")[0])
    model = int(train.columns["model_name"][relu].rpartition("/")[2])
    row = rows[STEPS.index(int(train.columns["epoch"][relu])) * 6 + (5 - model)]
    images = np.random.default_rng(1).normal(size=(2, 32, 32, 1)).astype(np.float32)
    with torch.no_grad():
        ours = train.module(relu)(torch.from_numpy(images).permute(0, 3, 1, 2))
    np.testing.assert_allclose(ours.numpy(), keras_forward(row, images), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("bracket", ["(", "[", "-", "{1:"])
def test_npy_header_of_brackets_is_an_error_in_words(bracket: str, tmp_path: Path) -> None:
    write_zoo(tmp_path / "zoo")
    header = (bracket * (9000 // len(bracket))).encode()
    start = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little")
    (tmp_path / "zoo" / "weights.npy").write_bytes(start + header)
    with pytest.raises(BuildError, match="weights.npy is no .npy file|damaged"):
        imported(tmp_path / "zoo", tmp_path / "out")


@pytest.mark.parametrize(("extra", "rows"), [(",", 18), (",7", 17)])
def test_metrics_line_with_a_cell_too_many_costs_one_row(
    extra: str, rows: int, tmp_path: Path
) -> None:
    weights = write_zoo(tmp_path / "zoo")
    path = tmp_path / "zoo" / "metrics.csv.gz"
    lines = gzip.decompress(path.read_bytes()).decode().splitlines()
    lines[3] += extra
    path.write_bytes(gzip.compress("\n".join(lines).encode()))
    report = imported(tmp_path / "zoo", tmp_path / "out")
    assert report.rows == rows and len(report.refused) == 18 - rows
    _, _, found = read(tmp_path / "out")
    kept = {row.tobytes() for row in np.sort(found, axis=1)}
    own = np.sort(weights, axis=1)[2].tobytes() in kept  # the same values in another order
    assert own == (rows == 18) and len(kept) == rows
