"""Builds on image sets in own files, by both engines: run by test_ray_engine.py.

    python ray_own_images.py FOLDER

writes the zoos FOLDER/process-KIND and FOLDER/ray-KIND, on images in the working folder FOLDER. The
cluster is started in another folder, as a cluster that runs already is.
"""

import gzip
import logging
import os
import struct
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import ray
from PIL import Image
from torch import nn

from weightzoo.builders.build import Engine, build_zoo
from weightzoo.builders.children.fine_tuning import fine_tune_zoo
from weightzoo.zoos.images.image_set import ImageSet
from weightzoo.zoos.recipe import Recipe, load_recipe

IMAGES = {"arrays": "arrays:own.npz", "idx": "idx:files", "folder": "folder:photos"}


def write_images(labels: np.ndarray, pixels: np.ndarray) -> None:
    """The same images as a file of arrays, as the files of MNIST, and as a folder."""
    ImageSet.from_arrays("own", train=(pixels, labels)).save("own.npz")
    Path("files").mkdir()
    for split, part in (("train", slice(0, 90)), ("t10k", slice(90, 120))):
        for kind, array in (("images-idx3", pixels[part]), ("labels-idx1", labels[part])):
            head = bytes((0, 0, 8, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape)
            with gzip.open(f"files/{split}-{kind}-ubyte.gz", "wb") as file:
                file.write(head + array.astype(np.uint8).tobytes())
    for index, (label, image) in enumerate(zip(labels, pixels, strict=True)):
        path = Path(f"photos/train/{label}/{index}.png")
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)


def perceptron() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 6), nn.Tanh(), nn.Linear(6, 3))


def own_recipe(images: str) -> Recipe:
    recipe = replace(load_recipe("digits-mlp"), name="own", images=images, factors={"lr": 0.01})
    return replace(recipe, seeds=8, epochs=2, checkpoints=(0, 2))


def main(folder: Path) -> None:
    elsewhere = folder / "elsewhere"
    elsewhere.mkdir()
    os.chdir(elsewhere)
    ray.init(num_cpus=2, include_dashboard=False, logging_level=logging.ERROR)
    os.chdir(folder)
    rng, labels = np.random.default_rng(0), np.arange(120) % 3
    pixels = rng.integers(0, 120, size=(120, 8, 8)) + 60 * labels[:, None, None]
    write_images(labels, pixels.astype(np.uint8))
    for kind, images in IMAGES.items():
        for engine in ("process", "ray"):
            build_zoo(
                own_recipe(images),
                f"{engine}-{kind}",
                engine=engine,
                workers=2,
                cohort_size=4,
                progress=False,
                module=perceptron,
            )
    for engine in ("process", "ray"):  # a parent zoo under a relative path
        where = Engine(name=engine, workers=2, cohort_size=4, progress=False)
        out = Path(f"{engine}-child")
        fine_tune_zoo(Path("process-idx"), out, images="arrays:own.npz", epochs=1, engine=where)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
