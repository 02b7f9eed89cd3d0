"""The command `weightzoo`: build, look at, check, publish and predict from zoos.

Results go to stdout, progress and errors to stderr. Exit status: 0 done, 1 failed, 2 wrong usage.
"""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .zoos.errors import ZooError

QUICKSTART_RECIPE = "digits-cnn"
SMALL_ZOO = 160  # models of the probes' zoo in the small variant


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return its exit status."""
    options = _parser().parse_args(arguments)
    try:
        return int(options.run(options) or 0)
    except (ZooError, ValueError, OSError) as error:
        print(f"weightzoo: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("weightzoo: stopped; a build goes on when started again", file=sys.stderr)
        return 1


def _list(options: argparse.Namespace) -> None:
    from .zoos.recipe import load_recipe, recipe_names

    rows = []
    for name in recipe_names():
        recipe = load_recipe(name)
        rows.append(
            {
                "name": name,
                "models": recipe.size,
                "parameters": recipe.architecture.layer_table().parameters,
                "checkpoints": len(recipe.checkpoints),
                "description": recipe.description,
            }
        )
    lines = [f"{row['name']:<30}{row['models']:>7,} models  {row['description']}" for row in rows]
    _print(options, rows, "\n".join(lines))


def _build(options: argparse.Namespace) -> None:
    from .zoos.recipe import load_recipe

    recipe = load_recipe(options.recipe)
    if options.dry_run:
        plan = _plan(recipe, options)
        _print(options, plan, _plan_text(plan))
        return
    from .builders.build import build_zoo

    out = options.out or Path(recipe.name)
    index = build_zoo(
        recipe,
        out,
        models=options.models,
        engine=options.engine,
        device=options.device,
        workers=options.workers,
        ray_address=options.ray_address,
        overwrite=options.overwrite,
    )
    _print_built(options, out, index)


def _print_built(options: argparse.Namespace, out: Path, index: Any) -> None:
    result = {
        "path": str(out),
        "models": sum(shard.models for shard in index.shards),
        "rows": sum(shard.rows for shard in index.shards),
        "bytes": sum(shard.size_bytes for shard in index.shards),
    }
    _print(options, result, "{path}: {models} models, {rows} rows, {bytes} bytes".format(**result))


def _finetune(options: argparse.Namespace) -> None:
    from .builders.fine_tuning import fine_tune_zoo
    from .builders.parents import parse_overrides

    index = fine_tune_zoo(
        options.zoo,
        options.out,
        images=options.images,
        epochs=options.epochs,
        checkpoints=options.checkpoints,
        where=_condition(options.where),
        overrides=parse_overrides(options.set),
        engine=_engine(options),
        overwrite=options.overwrite,
    )
    _print_built(options, options.out, index)


def _sparsify(options: argparse.Namespace) -> None:
    from .builders.parents import parse_overrides
    from .builders.sparsification import sparsify_zoo

    index = sparsify_zoo(
        options.zoo,
        options.out,
        method=options.method,
        epochs=options.epochs,
        sparsity=options.sparsity,
        images=options.images,
        checkpoints=options.checkpoints,
        where=_condition(options.where),
        overrides=parse_overrides(options.set),
        engine=_engine(options),
        overwrite=options.overwrite,
    )
    _print_built(options, options.out, index)


def _engine(options: argparse.Namespace) -> Any:
    from .builders.build import Engine

    return Engine(
        name=options.engine,
        device=options.device,
        workers=options.workers,
        ray_address=options.ray_address,
    )


def _condition(text: str | None) -> Any:
    """A condition as builders take it: they know nothing of how loaders write one."""
    from .loaders.conditions import rows_where

    return None if text is None else lambda columns: rows_where(text, columns)


def _plan(recipe: Any, options: argparse.Namespace) -> dict[str, Any]:
    from .builders.build_time import estimate_build

    population = recipe.models(options.models)
    estimate = estimate_build(recipe, population, options.device, options.workers)
    table = recipe.architecture.layer_table()
    rows = len(population) * len(recipe.checkpoints)
    splits = [model.split for model in population]
    return {
        "recipe": recipe.name,
        "architecture": recipe.architecture.name,
        "parameters": table.parameters,
        "models": len(population),
        "splits": {split: splits.count(split) for split in recipe.split},
        "epochs": recipe.epochs,
        "rows": rows,
        "bytes": rows * table.width * 4,
        "seconds": None if estimate.seconds is None else float(f"{estimate.seconds:.3g}"),
        "estimate": estimate.basis,
    }


def _plan_text(plan: dict[str, Any]) -> str:
    lines = {key: f"{value:,}" if type(value) is int else value for key, value in plan.items()}
    lines["seconds"] = "unknown" if plan["seconds"] is None else _duration(plan["seconds"])
    return "\n".join(f"{key:<14}{value}" for key, value in lines.items())


def _duration(seconds: float) -> str:
    """Seconds, and what a person takes them for."""
    for unit, length in {"days": 86_400, "hours": 3_600, "minutes": 60}.items():
        if seconds >= 2 * length:
            return f"{seconds:,.0f} ({seconds / length:.1f} {unit})"
    return f"{seconds:,.1f}"


def _import(options: argparse.Namespace) -> None:
    from .builders.imports import import_zoo

    report = import_zoo(
        options.format,
        options.source,
        options.out,
        split_file=options.split_file,
        seed=options.seed,
        overwrite=options.overwrite,
        strict=options.strict,
    )
    _print(options, report.to_json(), report.summary())


def _info(options: argparse.Namespace) -> None:
    from .tasks.summary import summarise_zoo, summary_text

    summary = summarise_zoo(_load(options))
    _print(options, summary, summary_text(summary))


def _verify(options: argparse.Namespace) -> int:
    from dataclasses import asdict

    from .tasks.verification import verify_zoo

    checks = verify_zoo(options.zoo, options.models, options.seed)
    marks = {True: "ok", False: "FAILED", None: "skipped"}
    lines = [f"{marks[check.passed]:<9}{check.name}: {check.detail}" for check in checks]
    _print(options, [asdict(check) for check in checks], "\n".join(lines))
    return int(any(check.passed is False for check in checks))


def _plot(options: argparse.Namespace) -> None:
    from .tasks.plots import plot_zoo

    out = options.out or Path(f"{options.zoo.name}.png")
    plot_zoo(_load(options), out)
    print(out)


def _pull(options: argparse.Namespace) -> None:
    from .loaders.hub import fetch_zoo

    folder = fetch_zoo(options.repo, options.name, options.split, revision=options.revision)
    _print(options, {"path": str(folder)}, str(folder))


def _push(options: argparse.Namespace) -> None:
    import tempfile

    from .loaders.dataset import load_zoo
    from .loaders.publishing import push_to_hub
    from .tasks.plots import plot_zoo

    with tempfile.TemporaryDirectory() as scratch:
        plot = None
        if (options.zoo / "zoo.json").is_file():
            plot_zoo(load_zoo(options.zoo), plot := Path(scratch) / "plot.png")
        commit = push_to_hub(
            options.zoo,
            options.repo,
            private=options.private,
            plot=plot,
            overwrite=options.overwrite,
        )
    _print(options, {"repo": options.repo, "commit": commit}, f"{options.repo} at {commit}")


def _card(options: argparse.Namespace) -> None:
    from .zoos.card import CARD_NAME, write_card
    from .zoos.index import ZooIndex

    index = ZooIndex.read(options.zoo)
    write_card(options.zoo, index, index.open(options.zoo)[0].header)
    path = options.zoo / CARD_NAME
    _print(options, {"path": str(path)}, str(path))


def _quickstart(options: argparse.Namespace) -> None:
    from .loaders.dataset import load_zoo
    from .tasks.property_prediction import predict_property
    from .tasks.report import write_report

    folder = options.out / QUICKSTART_RECIPE
    _build_once(folder, options.models)
    zoo = load_zoo(folder)
    report = predict_property(zoo, seeds=range(options.seeds), workers=os.cpu_count() or 1)
    command = f"weightzoo quickstart --models {options.models} --seeds {options.seeds}"
    path = write_report(options.out, zoo, report, command)
    _print(options, report.to_json(), report.to_markdown())
    print(f"report with plots: {path}", file=sys.stderr)


def _train(options: argparse.Namespace) -> None:
    _print(options, *TRAINERS[options.encoder](options))


def _train_hyper_representation(options: argparse.Namespace) -> tuple[dict[str, Any], str]:
    from .tasks.autoencoder_training import AutoencoderSettings
    from .tasks.autoencoding import train_hyper_representation
    from .tasks.learnable_rows import homogeneous_splits
    from .tasks.saved_autoencoders import Origin, save_autoencoder

    train, val = homogeneous_splits(_load(options), options.least_epoch)
    settings = AutoencoderSettings(
        shape={"latent": options.latent, "width": options.width},
        epochs=options.epochs,
        structure=1 - options.behaviour,
        device=options.device,
    )
    autoencoder = train_hyper_representation(train, val, settings, options.seed)
    out = options.out or Path(f"{train.name}-hyper-representation.pt")
    origin = Origin(zoo=str(options.zoo.resolve()), least_epoch=options.least_epoch)
    save_autoencoder(autoencoder, out, origin)
    result: dict[str, Any] = {"path": str(out), "rows": len(train)} | autoencoder.history[-1]
    return result, "{path}: {rows} rows, loss {loss:.3f}, val R2 {val_r2:.3f}".format(**result)


def _sample(options: argparse.Namespace) -> None:
    from .loaders.dataset import load_zoo
    from .tasks.generated_zoo import generate, write_generated_zoo
    from .tasks.learnable_rows import homogeneous
    from .tasks.saved_autoencoders import load_autoencoder

    autoencoder, origin = load_autoencoder(options.model)
    if origin is None and options.zoo is None:
        raise ValueError(f"{options.model} does not say what zoo it was trained on: pass --zoo")
    zoo = options.zoo or Path(origin.zoo)  # type: ignore[union-attr]
    least_epoch = 0 if origin is None else origin.least_epoch
    train = homogeneous(load_zoo(zoo, split="train"), least_epoch)
    drawn = {key: getattr(options, key) for key in ("sampler", "top", "draws", "seed")}
    weights = generate(autoencoder, train, options.count, **drawn)
    made = write_generated_zoo(
        options.out,
        weights,
        train,
        {"name": options.out.name, "generator": str(options.model)} | drawn,
        seed=options.seed,
        overwrite=options.overwrite,
    )
    result: dict[str, Any] = {
        "path": str(options.out),
        "models": made.models,
        "diverged": made.diverged,
        "test_accuracy": made.test_accuracy,
    }
    text = "{path}: {models} models, {diverged} diverged, mean test accuracy {test_accuracy:.3f}"
    _print(options, result, text.format(**result))


def _benchmark(options: argparse.Namespace) -> None:
    _print(options, *BENCHMARKS[options.benchmark](options))


def _benchmark_generation(options: argparse.Namespace) -> tuple[dict[str, Any], str]:
    from .tasks.generation_benchmark import run_generation
    from .tasks.generation_outcome import generation_settings
    from .tasks.generation_report import write_generation_report

    folder = _zoo_of(options, "digits-cnn-seed", None)
    settings = generation_settings(options.small, options.seeds, options.transfer)
    outcomes = run_generation(folder, settings, _workers(options))
    out = options.out / "generation"
    text = write_generation_report(out, folder.name, settings, outcomes, _command(options))
    return {"path": str(out)}, text


def _benchmark_probes(options: argparse.Namespace) -> tuple[dict[str, Any], str]:
    from .loaders.dataset import load_zoo
    from .tasks.probes import probe_representations, probe_settings, write_probe_report

    folder = _zoo_of(options, QUICKSTART_RECIPE, SMALL_ZOO if options.small else None)
    settings = probe_settings(options.small)
    results = probe_representations(load_zoo(folder), settings, range(options.seeds))
    out = options.out / "hyper-representation-probes"
    text = write_probe_report(out, folder.name, results, _command(options))
    return {"path": str(out)}, text


def _zoo_of(options: argparse.Namespace, default: str, models: int | None) -> Path:
    """The zoo folder that was named, or that of a recipe, built unless it is there."""
    from .builders.build import build_zoo
    from .zoos.recipe import load_recipe

    named = Path(options.zoo or default)
    if (named / "zoo.json").is_file():
        return named
    folder: Path = options.out / (named.stem if models is None else f"{named.stem}-{models}")
    if not folder.exists():
        options.out.mkdir(parents=True, exist_ok=True)
        build_zoo(load_recipe(str(named)), folder, models=models, workers=options.workers)
    return folder


def _workers(options: argparse.Namespace) -> int:
    return options.workers or os.cpu_count() or 1


def _command(options: argparse.Namespace) -> str:
    words = ["weightzoo benchmark", options.benchmark]
    words += [f"--zoo {options.zoo}"] if options.zoo else []
    words += ["--small"] if options.small else []
    words += [f"--transfer {options.transfer}"] if options.transfer else []
    return " ".join([*words, f"--seeds {options.seeds}"])


TRAINERS = {"hyper-representation": _train_hyper_representation}
BENCHMARKS = {
    "generation": _benchmark_generation,
    "hyper-representation-probes": _benchmark_probes,
}


def _build_once(folder: Path, models: int) -> None:
    """Build the quickstart's zoo, unless a run before this one left the same."""
    from .builders.build import build_zoo
    from .loaders.dataset import load_zoo
    from .tasks.summary import summarise_zoo
    from .zoos.recipe import load_recipe

    recipe = load_recipe(QUICKSTART_RECIPE)
    if not folder.exists():
        build_zoo(recipe, folder, models=models)
        return
    zoo = load_zoo(folder)
    held = sum(split["models"] for split in summarise_zoo(zoo)["splits"].values())
    if held != models or next(iter(zoo.values())).header.recipe != recipe.to_json():
        raise ZooError(f"{folder} holds another zoo ({held} models): choose another --out")
    print(f"weightzoo: using the zoo in {folder}", file=sys.stderr)


def _load(options: argparse.Namespace) -> Any:
    from .loaders.dataset import load_zoo

    return load_zoo(options.zoo, options.name)


def _print(options: argparse.Namespace, data: Any, text: str) -> None:
    """Data for machines or text for people, on stdout."""
    print(json.dumps(data, indent=1) if options.json else text)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="weightzoo", description="Populations of trained networks as datasets."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add(commands, "list", _list, "list the shipped recipes")
    build = _add(commands, "build", _build, "train a recipe's population and write it as a zoo")
    build.add_argument("recipe", help="name of a shipped recipe, or a .toml file")
    build.add_argument("--out", type=Path, help="zoo folder to make (default: the recipe's name)")
    build.add_argument("--models", type=int, help="number of models (default: the recipe's)")
    build.add_argument("--dry-run", action="store_true", help="say what would be built, and stop")
    _add_engine(build)
    finetune = _add(
        commands, "finetune", _finetune, "train a zoo's models on with another image set"
    )
    finetune.add_argument("--images", required=True, help="image set to train on")
    finetune.add_argument("--epochs", type=int, required=True, help="passes over its images")
    finetune.add_argument(
        "--checkpoints", type=int, nargs="+", help="epochs to store (default: all, from 0)"
    )
    _add_parents(finetune)
    sparsify = _add(commands, "sparsify", _sparsify, "prune a zoo's models while they train on")
    sparsify.add_argument("--method", required=True, help="variational-dropout or magnitude")
    sparsify.add_argument("--epochs", type=int, default=25, help="of pruning (default: 25)")
    sparsify.add_argument(
        "--sparsity", type=float, help="share of weights that magnitude prunes (default: 0.8)"
    )
    sparsify.add_argument("--images", help="image set (default: what the zoo was trained on)")
    sparsify.add_argument(
        "--checkpoints", type=int, nargs="+", help="epochs to store (default: all, from 1)"
    )
    _add_parents(sparsify)
    _add_engine(sparsify)
    _add_engine(finetune)
    import_ = _add(commands, "import", _import, "turn a zoo that others published into ours")
    import_.add_argument("format", help="published format; a wrong one lists those there are")
    import_.add_argument("source", help="folder, archive or file")
    import_.add_argument("--out", type=Path, required=True, help="zoo folder to make")
    import_.add_argument("--split-file", type=Path, help="CSV with columns model_name, split")
    import_.add_argument("--seed", type=int, default=0, help="of the split (default: 0)")
    import_.add_argument("--overwrite", action="store_true", help="replace a zoo that is there")
    import_.add_argument("--strict", action="store_true", help="refuse mixed architectures")
    info = _add(commands, "info", _info, "say what a zoo holds")
    verify = _add(commands, "verify", _verify, "prove that a zoo is whole and its models work")
    verify.add_argument("--models", type=int, default=8, help="rows to rebuild (default: 8)")
    verify.add_argument("--seed", type=int, default=0, help="of the choice of rows (default: 0)")
    plot = _add(commands, "plot", _plot, "draw accuracy distribution and trajectories of a zoo")
    plot.add_argument("--out", type=Path, help="PNG file (default: the zoo's name)")
    pull = _add(commands, "pull", _pull, "download a zoo from the Hub, checked; print its folder")
    pull.add_argument("repo", help="org/name")
    pull.add_argument("--split", help="only this split: train, val or test")
    pull.add_argument("--revision", help="tag, branch or commit (default: of the format version)")
    push = _add(commands, "push", _push, "publish a zoo folder, or a folder of them, on the Hub")
    push.add_argument("--private", action="store_true", help="make a new repo private")
    push.add_argument("--overwrite", action="store_true", help="replace a zoo of the same name")
    card = _add(commands, "card", _card, "write the dataset card of a zoo folder again")
    for command in (info, verify, plot, push, card):
        command.add_argument("zoo", type=Path, help="zoo file or folder")
    push.add_argument("repo", help="org/name to publish under")
    for command in (info, plot, pull):
        command.add_argument("--name", help="which zoo of a folder of zoos")
    quickstart = _add(
        commands, "quickstart", _quickstart, "build a zoo and predict accuracy from its weights"
    )
    quickstart.add_argument(
        "--out",
        type=Path,
        default=Path("weightzoo-quickstart"),
        help="folder for zoo, report and plots (default: weightzoo-quickstart)",
    )
    quickstart.add_argument("--models", type=int, default=200, help="CNNs to train (default: 200)")
    quickstart.add_argument("--seeds", type=int, default=3, help="seeds per predictor (default: 3)")
    _add_generation(commands)
    return parser


def _add_generation(commands: Any) -> None:
    """The commands around generated networks."""
    train = _add(commands, "train", _train, "train an encoder on a zoo and save it")
    train.add_argument("encoder", choices=TRAINERS, help="what to train")
    train.add_argument("zoo", type=Path, help="zoo file or folder")
    train.add_argument("--name", help="which zoo of a folder of zoos")
    train.add_argument("--out", type=Path, help="file to write (default: ZOO-ENCODER.pt)")
    train.add_argument("--epochs", type=int, default=50, help="passes over the rows (default: 50)")
    train.add_argument("--latent", type=int, default=64, help="latent size (default: 64)")
    train.add_argument("--width", type=int, default=64, help="of the transformer (default: 64)")
    train.add_argument("--least-epoch", type=int, default=0, help="of the rows (default: 0)")
    train.add_argument(
        "--behaviour", type=float, default=0.0, help="share of the loss on logits (default: 0)"
    )
    train.add_argument("--device", default="cpu", help="cpu or cuda (default: cpu)")
    train.add_argument("--seed", type=int, default=0, help="(default: 0)")
    sample = _add(commands, "sample", _sample, "draw new models and write them as a zoo")
    sample.add_argument("model", type=Path, help="file that `train` wrote")
    sample.add_argument("--count", type=int, default=100, help="models to draw (default: 100)")
    sample.add_argument("--out", type=Path, required=True, help="zoo folder to make")
    sample.add_argument("--zoo", type=Path, help="zoo to fit to (default: the one trained on)")
    sample.add_argument("--sampler", default="kde", help="a wrong one lists those there are")
    sample.add_argument("--top", type=float, default=0.3, help="share of rows, best (default: 0.3)")
    sample.add_argument("--draws", type=int, default=1, help="drawn for each kept (default: 1)")
    sample.add_argument("--seed", type=int, default=0, help="of the draws (default: 0)")
    sample.add_argument("--overwrite", action="store_true", help="replace a zoo that is there")
    benchmark = _add(commands, "benchmark", _benchmark, "run a benchmark; table, data and plots")
    benchmark.add_argument("benchmark", choices=BENCHMARKS, help="which")
    benchmark.add_argument("--zoo", help="recipe or zoo folder (default: one that suits)")
    benchmark.add_argument(
        "--out", type=Path, default=Path("weightzoo-benchmark"), help="folder for all results"
    )
    benchmark.add_argument("--small", action="store_true", help="some minutes on two cores")
    benchmark.add_argument("--seeds", type=int, default=3, help="(default: 3)")
    benchmark.add_argument("--workers", type=int, help="processes (default: one per core)")
    benchmark.add_argument("--transfer", help="another image set, to fine-tune on as well")


def _add_parents(command: argparse.ArgumentParser) -> None:
    """From which rows of a zoo a command starts, and as what zoo it writes their children."""
    command.add_argument("zoo", type=Path, help="zoo folder to start from")
    command.add_argument("--out", type=Path, required=True, help="zoo folder to make")
    command.add_argument(
        "--where",
        metavar="CONDITION",
        help="rows to start from, such as \"split == 'train' and test_accuracy > 0.5\"; of each "
        "model the last one is taken (default: all finite rows)",
    )
    command.add_argument(
        "--set",
        metavar="NAME=VALUE",
        action="append",
        default=[],
        help="a hyper-parameter for all models instead of their own, such as lr=1e-4",
    )


def _add_engine(command: argparse.ArgumentParser) -> None:
    """Where a command trains, alike for all that train a population."""
    command.add_argument("--device", default="cpu", help="cpu or cuda (default: cpu)")
    command.add_argument("--workers", type=int, help="processes on CPU (default: one per core)")
    command.add_argument("--overwrite", action="store_true", help="replace a zoo that is there")
    command.add_argument(
        "--engine",
        default="process",
        choices=("process", "ray"),
        help="train on this machine, or as tasks on a Ray cluster whose nodes have the same "
        "weightzoo; they write rows themselves where they see the --out folder under the same "
        "path, else send them to this machine (default: process)",
    )
    command.add_argument(
        "--ray-address", help="HOST:PORT or auto: a running cluster (default: start one here)"
    )


def _add(commands: Any, name: str, run: Any, text: str) -> argparse.ArgumentParser:
    command: argparse.ArgumentParser = commands.add_parser(name, help=text, description=text)
    command.add_argument("--json", action="store_true", help="print JSON on stdout")
    command.set_defaults(run=run)
    return command


if __name__ == "__main__":
    sys.exit(main())
