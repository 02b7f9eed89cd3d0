"""The benchmark of generated networks: ours and every baseline on one zoo, over several seeds.

Source: arXiv 2209.14733, whose table it follows: B_T trains from scratch, B_F fine-tunes zoo
models, B_KDE30 draws every weight by itself from the best 30 % of the zoo, S_... sample latent
vectors of an autoencoder. Added are what arXiv 2506.07998 asks for: noised zoo models, distance to
and agreement with the nearest training model, and the diversity of each set.

Shape letters: M models, D length of the flat weight vector, K epochs.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from ..loaders import load_zoo
from ..tasks.autoencoding.autoencoder_training import AutoencoderSettings
from ..tasks.autoencoding.behaviour import accuracies
from ..tasks.autoencoding.canonical import Canonical, last_rows
from ..tasks.autoencoding.hyper_representation import ZooAutoencoder, train_hyper_representation
from ..tasks.autoencoding.learnable_rows import (
    best_hyper_parameters,
    homogeneous_splits,
    late_epoch,
    top_rows,
)
from ..tasks.generation.generated_zoo import few_images, zoo_images
from ..tasks.generation.measures import TrainingModels, measure, moved, noised, scratch
from ..tasks.generation.related_architectures import related_architectures
from ..tasks.generation.sampling import (
    GenerativeAdversarial,
    KernelDensity,
    Sampler,
    best_of,
    bootstrap,
    make_sampler,
)
from ..tasks.processes import threads, worker_pool
from ..zoos.images.catalog import ImageSet, load_images
from ..zoos.networks.architectures import Architecture
from .generation_outcome import PUBLISHED_KDE, GenerationSettings, Job, Outcome, Row

ROWS_PER_LATENT = 4  # at least so many train rows for a value of the latent vector
DRAWS_PER_MODEL = 5  # as the paper, which draws 50 for 10
LATENT_METHODS = {  # method: (sampler, whether of the best 30 % only)
    "S_KDE": ("kde", False),
    "S_Neigh30": ("neighbours", True),
    "S_GAN30": ("gan", True),
    "S_U30": ("uniform", True),
    "S_Gauss30": ("gaussian", True),
}


class Bench:
    """The zoo and what every job needs of it."""

    def __init__(self, folder: Path, settings: GenerationSettings, seed: int) -> None:
        """Read the rows to learn from."""
        zoo = load_zoo(folder)
        assert isinstance(zoo, dict)
        least = settings.least_epoch
        least = late_epoch(zoo["train"]) if least is None else least
        self.settings, self.seed = settings, seed
        self.train, self.val = homogeneous_splits(zoo, least)
        self.images: ImageSet = zoo_images(self.train)
        self.canonical = Canonical.fit(self.train)
        self.architecture = self.canonical.architecture
        self.weights = self.canonical.weights(self.train)
        self.last = torch.from_numpy(last_rows(self.train))
        self.top = top_rows(torch.tensor(self.train.columns["val_accuracy"]))
        self.hyper_parameters = best_hyper_parameters(self.train)
        self.activation = self.hyper_parameters.activation
        names = [self.activation] * len(self.last)
        self.training = TrainingModels.of(
            self.canonical, self.weights[self.last], names, self.images.test
        )
        self.generator = torch.Generator().manual_seed(seed)

    def learned(self) -> dict[str, Any]:
        """What was learned from, and how all is fine-tuned."""
        return {
            "rows": len(self.train),
            "models": len(self.last),
            "epochs": sorted(set(self.train.columns["epoch"].tolist())),
            "hyper_parameters": asdict(self.hyper_parameters),
        }

    def row(
        self,
        method: str,
        weights: Tensor,
        epochs: Sequence[int],
        images: ImageSet | None = None,
        other: Architecture | None = None,
    ) -> Row:
        """Measure and fine-tune a set of models."""
        images = images or self.images
        seed = 1000 * self.seed
        found = measure(weights, self.training, self.hyper_parameters, images, epochs, seed, other)
        return Row(
            method=method,
            seed=self.seed,
            images=images.name,
            architecture=(other or self.architecture).name,
            found=found,
        )

    def zoo_models(self) -> Tensor:
        """Random train models, their last checkpoint."""
        chosen = torch.randperm(len(self.last), generator=self.generator)[: self.settings.models]
        return self.weights[self.last[chosen]]

    def fresh(self) -> Tensor:
        """Initial weights to train from scratch."""
        seed = 1_000_000 + 1000 * self.seed
        return scratch(self.architecture, self.hyper_parameters, self.settings.models, seed)

    def few_accuracy(self, weights: Tensor) -> Tensor:
        """Accuracy on few val images, (M,)."""
        images = few_images(self.images)
        return accuracies(self.architecture, weights, [self.activation] * len(weights), images)[1]

    def transfer_rows(self, sets: Mapping[str, Tensor]) -> list[Row]:
        """The same on another image set, if one was asked for."""
        if self.settings.transfer is None:
            return []
        images = load_images(self.settings.transfer)
        return [self.row(name, made, self.settings.epochs, images) for name, made in sets.items()]

    def moved_rows(self, sets: Mapping[str, Tensor]) -> list[Row]:
        """The same in related architectures; what these add is drawn as for training from scratch.

        Initial weights stay initial weights: by the laws of `init`, a tensor's shape decides.
        """
        seed = 2_000_000 + 1000 * self.seed
        rows = []
        for target in related_architectures(self.architecture):
            for name, made in sets.items():
                weights = moved(made, self.architecture, target, self.hyper_parameters, seed)
                rows.append(self.row(name, weights, self.settings.epochs, other=target))
        return rows


def weights_job(bench: Bench) -> Outcome:
    """Every baseline that needs no autoencoder."""
    settings, count = bench.settings, bench.settings.models
    start = time.perf_counter()
    plain, aligned = bench.train.weights()[bench.top], bench.weights[bench.top]
    kde = KernelDensity().fit(plain).sample(count, bench.generator)
    published = {"B_T": bench.fresh(), "B_F": bench.zoo_models(), "B_KDE30": kde}
    rows = [bench.row(name, made, settings.epochs) for name, made in published.items()]
    others = {
        "B_KDE30 aligned": KernelDensity().fit(aligned).sample(count, bench.generator),
        "B_Neigh30 aligned": make_sampler("neighbours").fit(aligned).sample(count, bench.generator),
    }
    for sigma in (0.02, 0.04):
        models = bench.zoo_models()
        others[f"B_F + noise {sigma}"] = noised(models, bench.canonical, sigma, bench.generator)
    rows += [bench.row(name, made, settings.few_epochs) for name, made in others.items()]
    rows += bench.transfer_rows({name: published[name] for name in ("B_T", "B_F")})
    rows += bench.moved_rows(published)
    return Outcome(rows, {}, time.perf_counter() - start)


def structure_job(bench: Bench) -> Outcome:
    """An autoencoder of weights alone, with layer-wise normalisation."""
    published = {PUBLISHED_KDE: ("kde-published", True)}
    return _autoencoder_job(bench, bench.settings.structure, "", published)


def plain_loss_job(bench: Bench) -> Outcome:
    """The ablation: the same without layer-wise normalisation."""
    settings = replace(bench.settings.structure, normalised=False)
    return _autoencoder_job(bench, settings, ", plain loss")


def behaviour_job(bench: Bench) -> Outcome:
    """An autoencoder of weights and logits, with every sampler."""
    settings = bench.settings.behaviour
    return _autoencoder_job(bench, settings, " + behaviour", LATENT_METHODS, chosen=True)


JOBS: dict[str, Callable[[Bench], Outcome]] = {
    "behaviour": behaviour_job,
    "structure": structure_job,
    "plain loss": plain_loss_job,
    "weights": weights_job,
}


def run_generation(
    folder: Path, settings: GenerationSettings, workers: int = 1, progress: bool = True
) -> dict[Job, Outcome]:
    """Run all jobs of all seeds.

    Args:
        folder: a zoo.
        settings: what to run.
        workers: processes, one thread each.
        progress: show a bar on stderr.
    """
    jobs = [Job(name, seed) for name in JOBS for seed in settings.seeds]
    outcomes = {}
    with tqdm(total=len(jobs), unit="job", desc="generation", disable=not progress) as bar:
        for job, outcome in _mapped(folder, settings, jobs, workers):
            outcomes[job] = outcome
            bar.update()
    return outcomes


def _autoencoder_job(
    bench: Bench,
    settings: AutoencoderSettings,
    suffix: str,
    others: Mapping[str, tuple[str, bool]] | None = None,
    chosen: bool = False,
) -> Outcome:
    """Train an autoencoder and measure what is drawn from it.

    Args:
        bench: the zoo.
        settings: of the autoencoder.
        suffix: of the names in the table.
        others: further methods, as `LATENT_METHODS`.
        chosen: whether SUB, BOOT, the transfer and the change of architecture follow.
    """
    start = time.perf_counter()
    settings = replace(
        settings,
        shape=settings.shape | {"latent": _latent_size(bench, settings)},
        epochs=round(settings.epochs * max(1, bench.settings.least_rows / len(bench.train))),
    )
    autoencoder = train_hyper_representation(bench.train, bench.val, settings, bench.seed)
    latent = autoencoder.encode(bench.weights)
    models, generator = bench.settings.models, bench.generator
    kde = autoencoder.decode(KernelDensity().fit(latent[bench.top]).sample(models, generator))
    rows = [
        bench.row(f"S_KDE30{suffix}", kde, bench.settings.epochs),
        bench.row(
            f"reconstructed{suffix}",
            autoencoder.decode(autoencoder.encode(bench.zoo_models())),
            (0,),
        ),
    ]
    for name, (sampler, of_top) in (others or {}).items():
        points = latent[bench.top] if of_top else latent
        drawn = _seeded(sampler, bench.seed).fit(points).sample(models, generator)
        of_published_table = name == PUBLISHED_KDE
        epochs = bench.settings.epochs if of_published_table else bench.settings.few_epochs
        rows.append(bench.row(name + suffix, autoencoder.decode(drawn), epochs))
    if chosen:
        rows += _chosen(bench, autoencoder, latent[bench.top], suffix)
        rows += bench.transfer_rows({f"S_KDE30{suffix}": kde})
        rows += bench.moved_rows({f"S_KDE30{suffix}": kde})
    found = {
        "train": autoencoder.r2(bench.weights),
        "val": autoencoder.r2(autoencoder.canonical.weights(bench.val)),
    }
    return Outcome(
        rows,
        {f"autoencoder{suffix}": found},
        time.perf_counter() - start,
        _latent(bench, latent) if bench.seed == bench.settings.seeds[0] else None,
    )


def _chosen(bench: Bench, autoencoder: ZooAutoencoder, points: Tensor, suffix: str) -> list[Row]:
    """SUB and BOOT: of many draws those that do best on few val images."""
    models, generator = bench.settings.models, bench.generator

    def score(latent: Tensor) -> Tensor:
        return bench.few_accuracy(autoencoder.decode(latent))

    sampler = KernelDensity().fit(points)
    draws = DRAWS_PER_MODEL * models
    best = best_of(lambda count: sampler.sample(count, generator), score, models, draws)
    boot = bootstrap(KernelDensity(), points, score, models, draws, generator)
    sets = {"SUB30": best, "BOOT30": boot}
    return [
        bench.row(name + suffix, autoencoder.decode(latent), bench.settings.few_epochs)
        for name, latent in sets.items()
    ]


def _latent_size(bench: Bench, settings: AutoencoderSettings) -> int:
    """The wanted size, or less for few rows."""
    return min(settings.shape["latent"], max(1, len(bench.train) // ROWS_PER_LATENT))


def _seeded(name: str, seed: int) -> Sampler:
    return GenerativeAdversarial(seed=seed) if name == "gan" else make_sampler(name)


def _latent(bench: Bench, latent: Tensor) -> dict[str, Any]:
    columns = bench.train.columns
    return {
        "latent": latent.numpy(),
        "test_accuracy": columns["test_accuracy"].copy(),
        "epoch": columns["epoch"].copy(),
    }


def _mapped(folder: Path, settings: GenerationSettings, jobs: Sequence[Job], workers: int) -> Any:
    """(job, outcome), here or in worker processes."""
    if workers == 1:
        yield from ((job, run_job(folder, settings, job)) for job in jobs)
        return
    with worker_pool(workers) as pool:
        yield from zip(jobs, pool.map(partial(run_job, folder, settings), jobs), strict=True)


def run_job(folder: Path, settings: GenerationSettings, job: Job) -> Outcome:
    """Run one job with one thread."""
    with threads(1):
        bench = Bench(folder, settings, job.seed)
        return replace(JOBS[job.name](bench), learned=bench.learned())
