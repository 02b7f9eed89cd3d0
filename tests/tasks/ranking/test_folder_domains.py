"""Tasks of unseen domains from folders."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from weightzoo.tasks.ranking.fine_tuning_matrix import Protocol, finetune_matrix
from weightzoo.tasks.ranking.samples import image_samples
from weightzoo.tasks.ranking.targets import make_target
from weightzoo.zoos.errors import RecipeError, UnsuitableError

DOMAINS, CLASSES, IMAGES = ("art", "photo", "sketch"), ("cat", "dog"), 6


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Three domains of two classes; domains differ in brightness."""
    rng = np.random.default_rng(0)
    for place, domain in enumerate(DOMAINS):
        for label, name in enumerate(CLASSES):
            folder = tmp_path / "root" / domain / name
            folder.mkdir(parents=True)
            for index in range(IMAGES):
                pixels = rng.integers(0, 60, (28, 28)) + 60 * place
                pixels[: 14 * (label + 1)] += 40
                Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{index}.png")
    return tmp_path / "root"


def test_unseen_domain_of_a_folder_is_the_test_split(root: Path) -> None:
    target = make_target(f"domains:{root}/photo", shots=4)
    images = target.images
    assert images.classes == 2 and images.shape == (1, 28, 28) and target.domains is not None
    assert (len(images.train), len(images.val), len(images.test)) == (16, 8, 12)
    assert np.bincount(target.domains).tolist() == [8, 0, 8]  # art, photo, sketch
    assert target.family == f"domains:{root}"
    bright = images.brightness(images.test.pixels).mean(dim=(1, 2, 3))
    assert 0.3 < bright.min() and bright.max() < 0.6  # photo alone
    seen = np.concatenate([image_samples(images, part) for part in (images.train, images.val)])
    assert not np.isin(image_samples(images, images.test), seen).any()


def test_images_of_folders_are_scaled_to_a_side(root: Path) -> None:
    Image.new("L", (40, 30)).save(root / "art" / "cat" / "other.png")
    with pytest.raises(RecipeError, match="images must have one size"):
        make_target(f"domains:{root}/photo", shots=4)
    assert make_target(f"domains:{root}@16/photo", shots=4).images.shape == (1, 16, 16)


def test_an_image_in_two_domains_is_refused(root: Path) -> None:
    copied = (root / "art" / "cat" / "0.png").read_bytes()
    (root / "photo" / "cat" / "again.png").write_bytes(copied)
    with pytest.raises(UnsuitableError, match="1 of 13 images of the unseen domain 'photo'"):
        make_target(f"domains:{root}/photo", shots=4)


def test_bad_folders_of_domains_are_named(root: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="must be one of .'art', 'photo', 'sketch'.*phto"):
        make_target(f"domains:{root}/phto", shots=4)
    with pytest.raises(RecipeError, match="'cat' of domain 'art' has 6 images.*got 6"):
        make_target(f"domains:{root}/photo", shots=6)
    with pytest.raises(RecipeError, match="at least 2 domains"):
        make_target(f"domains:{tmp_path / 'none'}/photo", shots=6)
    (root / "sketch" / "fox").mkdir()
    with pytest.raises(RecipeError, match="'art' and 'sketch' .* differ in .'fox'."):
        make_target(f"domains:{root}@28/photo", shots=4)


def test_models_are_fine_tuned_on_folders_of_domains(
    trained_zoo: Path, root: Path, tmp_path: Path
) -> None:
    targets = [f"domains:{root}/{domain}" for domain in DOMAINS[:2]]
    protocol = Protocol(epochs=2, rates=(1e-2,), shots=4, seeds=1)
    matrix = finetune_matrix([trained_zoo], targets, tmp_path / "m.h5", protocol, progress=False)
    assert matrix.test.shape == (24, 2, 1) and np.isfinite(matrix.test).all()
    assert set(matrix.families) == {f"domains:{root}"}
