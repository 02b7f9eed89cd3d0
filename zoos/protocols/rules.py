"""Rules of the published protocols: the split of every row from its columns and a split file.

Sources: the published code of NFN (Zhou et al. 2023, arXiv 2302.14040), Neural Graphs (Kofinas et
al. 2024, arXiv 2403.12143), DWSNets (Navon et al. 2023, arXiv 2301.12780), Transformer-NFN (Tran et
al. 2025, arXiv 2410.04209), SANE (Schürholt et al. 2024, arXiv 2406.09997).

Shape letters: N rows, n rows of a protocol.
"""

import random
from collections.abc import Sequence

import numpy as np

from .protocol import LEFT_OUT, ProtocolColumns, Rule
from .split_files import SplitFile, splits_by_path

FINAL_STEP = 86  # last epoch of the small CNN zoo
PUBLISHED_SEED = 0  # of Python's generator, in the code of NFN
TRANSFORMER_EPOCH = 75
ZHOU_VAL, ZHOU_TEST = 45_000, 50_000  # first images of val and test
ORIGINAL = -1  # value of `augmentation` of an INR that is no augmented copy


def small_cnn_rule(activation: str | None) -> Rule:
    """NFN's split of the last checkpoints of the small CNN zoo.

    The file is a shuffle of all rows. Of the rows of epoch 86, in that order, the second half is
    test. The first half is shuffled by Python's generator with seed 0; four fifths of it are train.

    The published file starts with a header "0", which the published code takes for row 0. That row
    is thus listed twice. The positions are counted with it, as published; the row itself keeps its
    first split.

    Args:
        activation: activation of the networks that are kept after the split; None keeps all.
    """

    def split_of_rows(columns: ProtocolColumns, file: SplitFile | None) -> np.ndarray:
        place = _places(columns["published_row"], _numbers(file))
        is_final = columns["epoch"] == FINAL_STEP
        final = place[is_final[place]]
        half = int(0.5 * len(final))
        order = list(range(half))
        random.Random(PUBLISHED_SEED).shuffle(order)
        cut = int(0.8 * half)
        split = _nothing(len(is_final))
        # Assigned from the last position to the first, so that a repeated row keeps its first one.
        by_position = np.full(len(final), "test", object)
        by_position[order[:cut]], by_position[order[cut:]] = "train", "val"
        split[final[::-1]] = by_position[::-1]
        if activation is not None:
            split[columns["activation"] != activation] = LEFT_OUT
        return split

    return split_of_rows


def path_rule(columns: ProtocolColumns, file: SplitFile | None) -> np.ndarray:
    """The split of each row in a published JSON file of paths; rows it does not list are left out.

    Args:
        columns: columns with `published_file` where a model has several rows, else `model_name`.
        file: file of paths.

    Raises:
        ValueError: if the file holds no paths.
    """
    if file is None or file.paths is None:
        raise ValueError(f"the split file must be JSON of paths by split, got {_kind(file)}")
    paths = columns["published_file" if "published_file" in columns else "model_name"]
    found, _ = splits_by_path(paths.tolist(), file)
    return np.array([split or LEFT_OUT for split in found], object)


def zhou_rule(augmented: bool) -> Rule:
    """Zhou's split by image number: 45,000 train, 5,000 val, the rest test.

    Args:
        augmented: whether augmented copies of train images are kept.
    """

    def split_of_rows(columns: ProtocolColumns, file: SplitFile | None) -> np.ndarray:
        image = columns["image_id"]
        split = _nothing(len(image))
        split[image < ZHOU_VAL] = "train"
        split[(image >= ZHOU_VAL) & (image < ZHOU_TEST)] = "val"
        split[image >= ZHOU_TEST] = "test"
        is_copy = columns["augmentation"] != ORIGINAL
        split[is_copy & ((split != "train") | (not augmented))] = LEFT_OUT
        return split

    return split_of_rows


def epoch_rule(first: int, last: int) -> Rule:
    """The stored splits, of the rows from the first to the last epoch.

    Args:
        first: first epoch.
        last: last epoch.
    """

    def split_of_rows(columns: ProtocolColumns, file: SplitFile | None) -> np.ndarray:
        epoch = columns["epoch"]
        return np.where((epoch >= first) & (epoch <= last), columns["split"], LEFT_OUT)

    return split_of_rows


def transformer_rule(least_accuracy: float) -> Rule:
    """A seeded split of 70, 15 and 15 % of the rows of epoch 75 with at least an accuracy.

    As in the published code, rows are chosen before they are shuffled, train and val sizes are
    rounded down, and test takes the rest. The published shuffle depends on the state of a
    generator that other libraries use too, and its splits were not published. Here the rows are
    sorted by model name and shuffled by Python's generator with seed 0, each task by itself.

    Args:
        least_accuracy: least test accuracy, a fraction; 0 keeps all rows.
    """

    def split_of_rows(columns: ProtocolColumns, file: SplitFile | None) -> np.ndarray:
        names = columns["model_name"]
        is_kept = columns["epoch"] == TRANSFORMER_EPOCH
        if least_accuracy > 0:
            is_kept &= columns["test_accuracy"] >= np.float32(least_accuracy)
        tasks = np.array([name.split("/")[0] for name in names.tolist()], object)
        split = _nothing(len(names))
        for task in sorted({*tasks.tolist()}):
            rows = np.flatnonzero(is_kept & (tasks == task)).tolist()
            rows.sort(key=lambda row: str(names[row]))
            random.Random(PUBLISHED_SEED).shuffle(rows)
            train, val = int(len(rows) * 0.7), int(len(rows) * 0.15)
            split[rows[:train]], split[rows[train : train + val]] = "train", "val"
            split[rows[train + val :]] = "test"
        return split

    return split_of_rows


def _nothing(count: int) -> np.ndarray:
    return np.full(count, LEFT_OUT, object)


def _kind(file: SplitFile | None) -> str:
    return "no file" if file is None else f"{file.name} ({file.kind})"


def _numbers(file: SplitFile | None) -> Sequence[int]:
    if file is None or file.numbers is None:
        raise ValueError(f"the split file must hold one row number per line, got {_kind(file)}")
    return file.numbers


def _places(published_row: np.ndarray, numbers: Sequence[int]) -> np.ndarray:
    """Row of the zoo for each number of a file; both must have the same numbers.

    A missing row would shift all positions behind it, so that the split is another one.
    """
    place = {int(number): row for row, number in enumerate(published_row.tolist())}
    lacking, unlisted = {*numbers} - {*place}, {*place} - {*numbers}
    if lacking or unlisted:
        raise ValueError(
            f"the split file lists {len({*numbers})} rows and the zoo has {len(place)}: "
            f"{len(lacking)} rows of the file are not in the zoo, {len(unlisted)} of the zoo not "
            "in the file; give the file of this image set, and a zoo imported without a protocol"
        )
    return np.array([place[number] for number in numbers], np.int64)
