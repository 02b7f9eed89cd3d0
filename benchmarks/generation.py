"""Benchmark of generated networks: all methods and baselines on one zoo, over several seeds.

Source: the table of arXiv 2209.14733. B_T trains from scratch, B_F fine-tunes zoo models, B_KDE30
draws each weight separately by kernel density estimation (KDE) from the best 30 % of the zoo, and
the S_ methods sample latent vectors of an autoencoder. Added are the controls of arXiv 2506.07998:
noised zoo models, distance to and agreement with the nearest training model, and the diversity of
each set.

Shape letters: M models, D length of the flat weight vector, K epochs.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor
from tqdm import tqdm

from ..tasks.autoencoding.hyper_representation import ZooAutoencoder, train_hyper_representation
from ..tasks.autoencoding.settings import AutoencoderSettings
from ..tasks.generation.measures import noised
from ..tasks.generation.sampling import (
    GenerativeAdversarial,
    KernelDensity,
    Sampler,
    best_of,
    bootstrap,
    make_sampler,
)
from ..tasks.processes import listening, threads, worker_pool
from .benchmark import BenchmarkOptions, BenchmarkOutcome, requested_zoo
from .generation_context import GenerationContext
from .generation_outcome import (
    PUBLISHED_KDE,
    GenerationSettings,
    Job,
    MethodRow,
    Outcome,
    generation_settings,
)
from .generation_report import DATA, TABLE, write_generation_report

RECIPE = "digits-cnn-seed"
TRANSFER = "glyphs-digits"  # as large as digits, with as many classes
ROWS_PER_LATENT = 4  # least number of train rows per value of the latent vector
DRAWS_PER_MODEL = 5  # as in the paper, which draws 50 models to keep 10
LATENT_METHODS = {  # method: (sampler, whether it is fitted to the best 30 % only)
    "S_KDE": ("kde", False),
    "S_Neigh30": ("neighbours", True),
    "S_GAN30": ("gan", True),
    "S_U30": ("uniform", True),
    "S_Gauss30": ("gaussian", True),
}


def _weights_job(context: GenerationContext) -> Outcome:
    """Measure every baseline that needs no autoencoder."""
    settings, count = context.settings, context.settings.models
    start = time.perf_counter()
    plain, aligned = context.train.weights()[context.top], context.weights[context.top]
    kde = KernelDensity().fit(plain).sample(count, context.generator)
    published = {"B_T": context.fresh(), "B_F": context.zoo_models(), "B_KDE30": kde}
    rows = [context.row(name, made, settings.epochs) for name, made in published.items()]
    others = {
        "B_KDE30 aligned": KernelDensity().fit(aligned).sample(count, context.generator),
        "B_Neigh30 aligned": make_sampler("neighbours")
        .fit(aligned)
        .sample(count, context.generator),
    }
    for sigma in (0.02, 0.04):
        models = context.zoo_models()
        others[f"B_F + noise {sigma}"] = noised(models, context.canonical, sigma, context.generator)
    rows += [context.row(name, made, settings.few_epochs) for name, made in others.items()]
    rows += context.transfer_rows({name: published[name] for name in ("B_T", "B_F")})
    rows += context.moved_rows(published)
    return Outcome(rows, {}, time.perf_counter() - start)


def _structure_job(context: GenerationContext) -> Outcome:
    """Measure samples of an autoencoder of weights alone, with layer-wise normalisation."""
    published = {PUBLISHED_KDE: ("kde-published", True)}
    return _autoencoder_job(context, context.settings.structure, "", published)


def _plain_loss_job(context: GenerationContext) -> Outcome:
    """Measure the ablation of `_structure_job` without layer-wise normalisation."""
    settings = replace(context.settings.structure, normalised=False)
    return _autoencoder_job(context, settings, ", plain loss")


def _behaviour_job(context: GenerationContext) -> Outcome:
    """Measure samples of an autoencoder of weights and logits, with every sampler."""
    settings = context.settings.behaviour
    return _autoencoder_job(context, settings, " + behaviour", LATENT_METHODS, chosen=True)


JOBS: dict[str, Callable[[GenerationContext], Outcome]] = {
    "behaviour": _behaviour_job,
    "structure": _structure_job,
    "plain loss": _plain_loss_job,
    "weights": _weights_job,
}


def generation_benchmark(options: BenchmarkOptions) -> BenchmarkOutcome:
    """Compare generated networks with every baseline on one zoo."""
    folder = requested_zoo(options, RECIPE)
    settings = generation_settings(options.small, options.seeds, TRANSFER)
    outcomes = run_generation(folder, settings, options.workers, options.progress)
    text = write_generation_report(options.out, folder.name, settings, outcomes, options.command)
    return BenchmarkOutcome({"path": str(options.out / DATA)}, text, options.out / TABLE)


def run_generation(
    folder: Path, settings: GenerationSettings, workers: int = 1, progress: bool = True
) -> dict[Job, Outcome]:
    """Run all jobs of all seeds.

    Args:
        folder: zoo folder.
        settings: settings of the benchmark.
        workers: number of worker processes, each with one thread.
        progress: whether to show a progress bar on stderr.
    """
    jobs = [Job(name, seed) for name in JOBS for seed in settings.seeds]
    outcomes = {}
    with (
        tqdm(total=len(jobs), unit="job", desc="generation", disable=not progress) as bar,
        listening(bar.set_postfix_str),
    ):
        for job, outcome in _mapped(folder, settings, jobs, workers):
            outcomes[job] = outcome
            bar.update()
    return outcomes


def _autoencoder_job(
    context: GenerationContext,
    settings: AutoencoderSettings,
    suffix: str,
    others: Mapping[str, tuple[str, bool]] | None = None,
    chosen: bool = False,
) -> Outcome:
    """Train an autoencoder and measure the models drawn from it.

    Args:
        context: zoo, images and reference models.
        settings: settings of the autoencoder.
        suffix: suffix of the method names in the table.
        others: further methods in the form of `LATENT_METHODS`.
        chosen: whether to measure SUB, BOOT, the transfer and the change of architecture too.
    """
    start = time.perf_counter()
    settings = replace(
        settings,
        shape=settings.shape | {"latent": _latent_size(context, settings)},
        epochs=round(settings.epochs * max(1, context.settings.least_rows / len(context.train))),
    )
    autoencoder = train_hyper_representation(context.train, context.val, settings, context.seed)
    latent = autoencoder.encode(context.weights)
    models, generator = context.settings.models, context.generator
    kde = autoencoder.decode(KernelDensity().fit(latent[context.top]).sample(models, generator))
    rows = [
        context.row(f"S_KDE30{suffix}", kde, context.settings.epochs),
        context.row(
            f"reconstructed{suffix}",
            autoencoder.decode(autoencoder.encode(context.zoo_models())),
            (0,),
        ),
    ]
    for name, (sampler, of_top) in (others or {}).items():
        points = latent[context.top] if of_top else latent
        drawn = _seeded(sampler, context.seed).fit(points).sample(models, generator)
        of_published_table = name == PUBLISHED_KDE
        epochs = context.settings.epochs if of_published_table else context.settings.few_epochs
        rows.append(context.row(name + suffix, autoencoder.decode(drawn), epochs))
    if chosen:
        rows += _chosen(context, autoencoder, latent[context.top], suffix)
        rows += context.transfer_rows({f"S_KDE30{suffix}": kde})
        rows += context.moved_rows({f"S_KDE30{suffix}": kde})
    found = {
        "train": autoencoder.r2(context.weights),
        "val": autoencoder.r2(autoencoder.canonical.weights(context.val)),
    }
    return Outcome(
        rows,
        {f"autoencoder{suffix}": found},
        time.perf_counter() - start,
        _latent(context, latent) if context.seed == context.settings.seeds[0] else None,
    )


def _chosen(
    context: GenerationContext, autoencoder: ZooAutoencoder, points: Tensor, suffix: str
) -> list[MethodRow]:
    """SUB and BOOT, which keep the draws with the best accuracy on a few val images."""
    models, generator = context.settings.models, context.generator

    def score(latent: Tensor) -> Tensor:
        return context.few_accuracy(autoencoder.decode(latent))

    sampler = KernelDensity().fit(points)
    draws = DRAWS_PER_MODEL * models
    best = best_of(lambda count: sampler.sample(count, generator), score, models, draws)
    boot = bootstrap(KernelDensity(), points, score, models, draws, generator)
    sets = {"SUB30": best, "BOOT30": boot}
    return [
        context.row(name + suffix, autoencoder.decode(latent), context.settings.few_epochs)
        for name, latent in sets.items()
    ]


def _latent_size(context: GenerationContext, settings: AutoencoderSettings) -> int:
    """Latent size of the settings, reduced if the zoo has few rows."""
    return min(settings.shape["latent"], max(1, len(context.train) // ROWS_PER_LATENT))


def _seeded(name: str, seed: int) -> Sampler:
    return GenerativeAdversarial(seed=seed) if name == "gan" else make_sampler(name)


def _latent(context: GenerationContext, latent: Tensor) -> dict[str, Any]:
    columns = context.train.columns
    return {
        "latent": latent.numpy(),
        "test_accuracy": columns["test_accuracy"].copy(),
        "epoch": columns["epoch"].copy(),
    }


def _mapped(folder: Path, settings: GenerationSettings, jobs: Sequence[Job], workers: int) -> Any:
    """Pairs (job, outcome), computed in this process or in worker processes."""
    if workers == 1:
        yield from ((job, run_job(folder, settings, job)) for job in jobs)
        return
    with worker_pool(workers) as pool:
        yield from zip(jobs, pool.map(partial(run_job, folder, settings), jobs), strict=True)


def run_job(folder: Path, settings: GenerationSettings, job: Job) -> Outcome:
    """Run one job with one thread.

    Args:
        folder: zoo folder.
        settings: settings of the benchmark.
        job: job to run.
    """
    with threads(1):
        context = GenerationContext(folder, settings, job.seed)
        return replace(JOBS[job.name](context), learned=context.learned())


BENCHMARKS = {"generation": generation_benchmark}
"""Benchmarks of this module by name."""
