"""The commands `weightzoo encode` and `weightzoo decode`: latent vectors in files, and back.

Shape letters: N rows, Z values of a latent vector.
"""

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..prediction.trained import check_vector_file, datasets_of, write_vectors
from ..pretrained import load_trained_autoencoder
from .generated_zoo import write_generated_zoo
from .sample import train_rows

LATENT = "latent"  # name of the array in a file


def encode_zoo(
    model: str | Path,
    zoo: str | Path,
    out: Path,
    split: str | None = None,
    device: str = "cpu",
) -> dict[str, Any]:
    """Write the latent vector (N, Z) of every row of a zoo, with model, epoch and split.

    Args:
        model: folder or Hub repository of an autoencoder.
        zoo: zoo to encode.
        out: file to write, .npz or .safetensors.
        split: split of the rows; None takes all rows.
        device: device of the autoencoder.

    Returns:
        Path, number of rows and width of the latent vectors, to print.

    Raises:
        ModelFormatError: if the model is no autoencoder.
        ValueError: if the file has another suffix, or the autoencoder cannot take the zoo.
    """
    check_vector_file(out)
    autoencoder = load_trained_autoencoder(model, device)
    rows, width = write_vectors(out, LATENT, autoencoder.encode, datasets_of(zoo, split))
    return {"path": str(out), "rows": rows, "width": width}


def decode_file(
    model: str | Path,
    latent: Path,
    out: Path,
    zoo: str | Path | None = None,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Write the networks of latent vectors as a zoo, measured on the images of the train zoo.

    Args:
        model: folder or Hub repository of an autoencoder.
        latent: file with the array "latent", (N, Z), .npz or .safetensors.
        out: zoo folder to create.
        zoo: zoo whose image set and hyper-parameters the networks get; None takes the
            autoencoder's train zoo.
        overwrite: whether to replace an existing zoo.

    Returns:
        Results to print.

    Raises:
        ModelFormatError: if the model is no autoencoder.
        ValueError: if the file has no such array, or one of another width.
        BuildError: if the folder exists already.
    """
    vectors = read_latent(latent)
    autoencoder = load_trained_autoencoder(model)
    train = train_rows(autoencoder, model, zoo)
    width = autoencoder.encode(train.select(range(1))).shape[1]
    if vectors.shape[1] != width:
        raise ValueError(
            f"{latent} has vectors of {vectors.shape[1]} values, the autoencoder {model} takes "
            f"{width}: give a file that `weightzoo encode {model} ZOO` wrote"
        )
    about = {"name": out.name, "generator": str(model), "latent": latent.name}
    made = write_generated_zoo(out, autoencoder.decode(vectors), train, about, overwrite=overwrite)
    found = {name: getattr(made, name) for name in ("models", "diverged", "test_accuracy")}
    return {"path": str(out)} | found


def read_latent(path: Path) -> Tensor:
    """The latent vectors of a file, (N, Z), float32.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file cannot be read, or its array "latent" is missing or no matrix.
    """
    if not path.is_file():
        raise FileNotFoundError(
            f"no file {str(path)!r}: write one with `weightzoo encode MODEL ZOO --out {path.name}`"
        )
    try:
        arrays = _arrays(path)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} cannot be read as .npz or .safetensors: {error}") from error
    if LATENT not in arrays:
        raise ValueError(f"{path} has no array {LATENT!r}, it has {sorted(arrays)}")
    vectors = torch.from_numpy(np.asarray(arrays[LATENT], np.float32))
    if vectors.ndim != 2 or not len(vectors):
        raise ValueError(
            f"array {LATENT!r} of {path} must be (N, Z) with N of at least 1, got "
            f"{tuple(vectors.shape)}"
        )
    return vectors


def _arrays(path: Path) -> dict[str, np.ndarray]:
    if path.suffix == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        try:
            return dict(load_file(path))
        except SafetensorError as error:
            raise ValueError(str(error)) from error
    file = np.load(path, allow_pickle=False)
    if isinstance(file, np.ndarray):  # a file of `np.save`
        return {LATENT: file}
    with file:
        wanted = [LATENT] if LATENT in file else file
        return {name: file[name] for name in wanted}
