"""Claim: scores are faster than their formulas written down, and so is extraction than a loop.

    python benchmarks/speed/ranking.py [--images 10000] [--width 2048] [--classes 100]
        [--rounds 3] [--minutes 13] [--scores NAME ...] [--peer FOLDER]

Every score gets the same random features in float64 on both sides: the package's, and the formula
of its paper as `score_formulas` has it. The sides must agree to 1e-6 before a time is shown. Rows
take turns: one round runs both sides of every row, and the next round begins anew. The first round
is always whole; later on, a row is left out when its last time no longer fits into the minutes.
The table gives medians of seconds of the processor and by the clock. 10,000 images of 2,048
features take less than 4 GB.

ZooD is one row of both its terms, with two domains. N-LEEP runs on 1,000 images and has no second
side, since its mixture is that of scikit-learn either way. `--peer` takes a folder of `pip install
--no-deps --target FOLDER transformer-ranker` and adds LogME and the H-score of that package, which
must agree to 1e-2. Extraction compares a zoo of CNN-s run as one population, 32 models at a time,
with a loop over torch modules, on 1,000 images of 28x28.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from threadpoolctl import threadpool_limits
from timing import machine

from weightzoo.builders.population.population import Population
from weightzoo.builders.training.initialization import initial_weights
from weightzoo.tasks.ranking.backbones import with_features
from weightzoo.tasks.ranking.extraction import BATCH, MODELS_AT_ONCE, population_outputs
from weightzoo.tasks.transferability import class_scores, zood
from weightzoo.tasks.transferability.scores import SCORES, score_parts
from weightzoo.tasks.transferability.task_features import TaskFeatures
from weightzoo.zoos.networks.presets import cnn_s
from weightzoo.zoos.recipe import HyperParameters, Model

sys.path.append(str(Path(__file__).resolve().parents[1] / "peers"))
import score_formulas

TOLERANCE = 1e-6
PEER_TOLERANCE = 1e-2  # the peer's fixed point stops early, and it shrinks by its own formula
IMAGES_OF_EXTRACTION = IMAGES_OF_MIXTURE = 1_000
HEAD_CLASSES, DOMAINS = 100, 2
ZOOD = "zood, both terms"
FORMULAS = {
    "reg-h-score": "regularised_h_score",
    "ncc": "nearest_centroid",
    "knn": "nearest_neighbour",
}
"""Functions of `score_formulas` that are not called as the score."""
WARM_UP = (240, 16, 4)  # images, features and classes of a run that imports what is imported late

Side = Callable[[], object]


@dataclass
class Row:
    """One comparison.

    Attributes:
        name: name in the table.
        own: the package's side.
        other: the other side; None for none.
        tolerance: largest relative difference of the results; None compares nothing.
        processor: seconds of the processor of each side, by round.
        clock: seconds by the clock.
    """

    name: str
    own: Side
    other: Side | None
    tolerance: float | None = TOLERANCE
    processor: list[list[float]] = field(default_factory=list)
    clock: list[list[float]] = field(default_factory=list)

    def run(self) -> None:
        """Time both sides once.

        Raises:
            SystemExit: if they differ.
        """
        results, clock, processor = [], [], []
        for side in (self.own, self.other):
            if side is not None:
                started, used = time.perf_counter(), time.process_time()
                results.append(side())
                clock.append(time.perf_counter() - started)
                processor.append(time.process_time() - used)
        if self.tolerance is not None and len(results) == 2:
            _check(self.name, *results, self.tolerance)
        self.clock.append(clock)
        self.processor.append(processor)

    @property
    def last(self) -> float:
        """Seconds by the clock of the last round."""
        return sum(self.clock[-1])

    def text(self) -> str:
        """The row of the table."""
        cells = [self.name]
        for seconds in (self.processor, self.clock):
            medians = [statistics.median(side) for side in zip(*seconds, strict=True)]
            both = len(medians) == 2
            cells += [f"{medians[0]:.3g}", f"{medians[1]:.3g}" if both else "–"]
            cells.append(f"{medians[1] / medians[0]:.2g}" if both else "–")
        return f"| {' | '.join([*cells, str(len(self.clock))])} |"


def main() -> None:
    """Run the rounds and print the table.

    Raises:
        SystemExit: if two sides give different scores.
    """
    options = _options()
    torch.set_num_threads(1)
    threadpool_limits(1)
    _take_turns(score_rows(_made_task(*WARM_UP), options.scores), 1, 0)
    rows = score_rows(
        _made_task(options.images, options.width, options.classes), options.scores, options.peer
    )
    rows.append(Row(f"extraction, {MODELS_AT_ONCE} models", *extraction_sides(), tolerance=None))
    _take_turns(rows, options.rounds, 60 * options.minutes, sys.stderr.write)
    print(f"N = {options.images}, D = {options.width}, C = {options.classes}, one thread")
    print(machine())
    print("| score | processor s | formula | ratio | clock s | formula | ratio | rounds |")
    print("|---|---:|---:|---:|---:|---:|---:|---:|")
    print("\n".join(row.text() for row in rows))


def _take_turns(
    rows: Sequence[Row], rounds: int, seconds: float, say: Callable[[str], object] | None = None
) -> None:
    """Run all rows once, and again in turn as long as there is time."""
    started = time.perf_counter()
    for round_ in range(rounds):
        for row in rows:
            if round_ and time.perf_counter() - started + row.last > seconds:
                continue
            row.run()
            if say:
                say(f"{time.perf_counter() - started:5.0f} s, round {round_ + 1}: {row.text()}\n")


def _made_task(images: int, width: int, classes: int) -> TaskFeatures:
    """Random features with class means, logits of a head of other classes, and domains."""
    rng = np.random.default_rng(0)
    labels = np.arange(images) % classes
    means = rng.normal(size=(classes, width)) * 0.3
    features = means[labels] + rng.normal(size=(images, width))
    head = rng.normal(size=(width, HEAD_CLASSES)) / np.sqrt(width)
    return TaskFeatures(features, labels, features @ head, np.arange(images) // classes % DOMAINS)


def score_rows(task: TaskFeatures, names: Sequence[str], peer: str | None = None) -> list[Row]:
    """A row of every score.

    Args:
        task: features and labels of both sides.
        names: names of the scores; ZooD's are one row.
        peer: folder of the peer, or None.
    """
    rows = [_score_row(name, task) for name in names if not SCORES[name].domains]
    if any(SCORES[name].domains for name in names):
        rows.append(
            Row(ZOOD, lambda: sum(zood.term_parts(task)[:2]), lambda: score_formulas.zood(task))
        )
    return [*rows, *(_peer_rows(task, peer) if peer else [])]


def _score_row(name: str, task: TaskFeatures) -> Row:
    """The row of one score; of a transductive one, its parts are added."""
    if name == "n-leep":
        few = task.rows(np.arange(min(IMAGES_OF_MIXTURE, len(task.features))))
        return Row(
            f"{name}, {len(few.features)} images", lambda: score_parts(name, few).sum(), None
        )
    formula = getattr(score_formulas, FORMULAS.get(name, name.replace("-", "_")))
    return Row(name, lambda: score_parts(name, task).sum(), lambda: formula(task))


def _peer_rows(task: TaskFeatures, folder: str) -> list[Row]:
    """LogME and H-score of transformer-ranker, installed without dependencies into a folder."""
    sys.path.insert(0, f"{folder}/transformer_ranker")  # past its __init__, which needs more
    from estimators import HScore, LogME

    features, labels = torch.from_numpy(task.features), torch.from_numpy(task.classes)
    return [
        Row(
            "logme, transformer-ranker",
            lambda: class_scores.logme(task),
            lambda: float(LogME().fit(features, labels)),
            PEER_TOLERANCE,
        ),
        Row(
            "reg-h-score, transformer-ranker",
            lambda: class_scores.regularised_h_score(task),
            lambda: float(HScore().fit(features, labels)),
            PEER_TOLERANCE,
        ),
    ]


def extraction_sides() -> tuple[Side, Side]:
    """Features of CNN-s models as a population, and module by module."""
    architecture = cnn_s(1)
    values = HyperParameters()
    models = [
        Model(model_id=i, seed=i, split="train", hyper_parameters=values)
        for i in range(MODELS_AT_ONCE)
    ]
    flat = initial_weights(architecture, models)
    table = architecture.layer_table()
    pixels = torch.randn(IMAGES_OF_EXTRACTION, 1, 28, 28)

    def together() -> object:
        population = Population(architecture, flat, ["relu"] * len(flat))
        return [
            population_outputs(population, architecture.layers, part)
            for part in pixels.split(BATCH)
        ]

    def one_by_one() -> object:
        outputs = []
        for row in flat:
            module = architecture.module("relu").eval()
            module.load_state_dict(table.state_dict(row))
            run = with_features(module)
            with torch.no_grad():
                outputs.append([run(part) for part in pixels.split(BATCH)])
        return outputs

    return together, one_by_one


def _check(name: str, own: object, other: object, tolerance: float) -> None:
    first, second = float(own), float(other)  # type: ignore[arg-type]
    if not abs(first - second) <= tolerance * max(1.0, abs(second)):
        raise SystemExit(f"{name}: {first} and {second} differ: no time is compared")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=10_000, help="N (default: 10000)")
    parser.add_argument("--width", type=int, default=2_048, help="D (default: 2048)")
    parser.add_argument("--classes", type=int, default=100, help="C (default: 100)")
    parser.add_argument("--rounds", type=int, default=3, help="most rounds (default: 3)")
    parser.add_argument(
        "--minutes", type=float, default=13, help="no row begins that would end later (default: 13)"
    )
    parser.add_argument(
        "--scores", nargs="+", choices=list(SCORES), default=list(SCORES), metavar="NAME"
    )
    parser.add_argument("--peer", help="folder of `pip install --no-deps --target` of the peer")
    return parser.parse_args()


if __name__ == "__main__":
    main()
