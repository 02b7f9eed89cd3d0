"""The command `weightzoo`: build, look at, check, publish and predict from zoos.

Results go to stdout, progress and errors to stderr. Exit status: 0 done, 1 failed, 2 wrong usage.
"""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
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
    if options.precision is not None:
        recipe = replace(recipe, precision=options.precision)
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

    index = fine_tune_zoo(
        options.zoo,
        options.out,
        images=options.images,
        epochs=options.epochs,
        **_from_parents(options),
    )
    _print_built(options, options.out, index)


def _sparsify(options: argparse.Namespace) -> None:
    from .builders.sparsification import sparsify_zoo

    index = sparsify_zoo(
        options.zoo,
        options.out,
        method=options.method,
        epochs=options.epochs,
        sparsity=options.sparsity,
        images=options.images,
        **_from_parents(options),
    )
    _print_built(options, options.out, index)


def _from_parents(options: argparse.Namespace) -> dict[str, Any]:
    """What the commands have in common that train a zoo's models on."""
    from .builders.build import Engine
    from .builders.parents import parse_overrides

    engine = Engine(
        name=options.engine,
        device=options.device,
        workers=options.workers,
        ray_address=options.ray_address,
    )
    return {
        "checkpoints": options.checkpoints,
        "where": _condition(options.where),
        "overrides": parse_overrides(options.set),
        "engine": engine,
        "overwrite": options.overwrite,
    }


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
    from .tasks.benchmark_zoos import build_once
    from .tasks.property_prediction import predict_property
    from .tasks.report import write_report
    from .zoos.recipe import load_recipe

    folder = build_once(
        load_recipe(QUICKSTART_RECIPE), options.out / QUICKSTART_RECIPE, options.models
    )
    zoo = load_zoo(folder)
    report = predict_property(zoo, seeds=range(options.seeds), workers=os.cpu_count() or 1)
    command = f"weightzoo quickstart --models {options.models} --seeds {options.seeds}"
    path = write_report(options.out, zoo, report, command)
    _print(options, report.to_json(), report.to_markdown())
    print(f"report with plots: {path}", file=sys.stderr)


def _train(options: argparse.Namespace) -> None:
    from .tasks import generation_commands  # noqa: F401  # adds its kinds
    from .tasks.training_commands import TRAIN_KINDS, TrainOptions, plain_lines

    if options.encoder not in TRAIN_KINDS:
        raise ValueError(f"encoder must be one of {sorted(TRAIN_KINDS)}, got {options.encoder!r}")
    names = ("epochs", "batch_size", "lr", "invariance", "scaling", "loss", "device")
    given = {name: getattr(options, name) for name in names}
    result = TRAIN_KINDS[options.encoder](
        TrainOptions(
            zoos=options.zoo,
            out=options.out,
            target=options.target,
            rows=options.rows,
            seed=options.seed,
            resume=options.resume,
            config=_pairs(options.set),
            settings={name: value for name, value in given.items() if value is not None},
        )
    )
    _print(options, result, "\n".join(plain_lines(result)))


def _pairs(texts: Sequence[str]) -> dict[str, Any]:
    """KEY=VALUE, the value as JSON or else as text."""
    pairs = {}
    for text in texts:
        key, mark, value = text.partition("=")
        if not mark or not key:
            raise ValueError(f"--set takes KEY=VALUE, got {text!r}")
        try:
            pairs[key] = json.loads(value)
        except ValueError:
            pairs[key] = value
    return pairs


def _sample(options: argparse.Namespace) -> None:
    from dataclasses import fields

    from .tasks.generation_commands import SampleOptions, sample_zoo

    given = {field.name: getattr(options, field.name) for field in fields(SampleOptions)}
    made = sample_zoo(SampleOptions(**given))
    result: dict[str, Any] = {
        "path": str(options.out),
        "models": made.models,
        "diverged": made.diverged,
        "test_accuracy": made.test_accuracy,
    }
    text = "{path}: {models} models, {diverged} diverged, mean test accuracy {test_accuracy:.3f}"
    _print(options, result, text.format(**result))


def _predict(options: argparse.Namespace) -> None:
    from .tasks.training_commands import plain_lines, predict_rows, write_rows

    rows, scores = predict_rows(options.model, options.zoo, options.split, options.device)
    if options.json:
        print(json.dumps({"rows": rows, "scores": scores}, indent=1))
        return
    write_rows(rows, sys.stdout)
    if scores is not None:
        print("\n".join(plain_lines(scores)), file=sys.stderr)


def _embed(options: argparse.Namespace) -> None:
    from .tasks.training_commands import embed_zoo

    result = embed_zoo(options.model, options.zoo, options.out, options.split, options.device)
    _print(options, result, "{path}: {rows} embeddings of width {width}".format(**result))


def _benchmark(options: argparse.Namespace) -> None:
    from .tasks import generation_commands  # noqa: F401  # adds its benchmarks
    from .tasks.benchmark_definitions import BENCHMARKS
    from .tasks.benchmarks import BenchmarkOptions

    if options.name not in BENCHMARKS:
        raise ValueError(f"benchmark must be one of {sorted(BENCHMARKS)}, got {options.name!r}")
    zoos = dict(_named_zoo(text) for text in options.zoo)
    command = f"weightzoo benchmark {options.name}" + " --small" * options.small
    command += "".join(f" --zoo {text}" for text in options.zoo)
    outcome = BENCHMARKS[options.name](
        BenchmarkOptions(
            out=options.out or Path(f"weightzoo-{options.name}"),
            small=options.small,
            seeds=tuple(range(options.seeds)),
            zoos=zoos,
            workers=options.workers or os.cpu_count() or 1,
            command=f"{command} --seeds {options.seeds}",
        )
    )
    _print(options, outcome.data, outcome.text)
    print(f"report with plot: {outcome.path}", file=sys.stderr)


def _named_zoo(text: str) -> tuple[str, Path]:
    """NAME=PATH, or a path, whose last part is the name."""
    name, mark, path = text.partition("=")
    return (name, Path(path)) if mark else (Path(text).name, Path(text))


def _leaderboard(options: argparse.Namespace) -> None:
    from .tasks.leaderboard import write_leaderboard

    path = write_leaderboard(options.results, options.out)
    _print(options, {"path": str(path)}, str(path))


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
    build.add_argument(
        "--precision", help="of training: float32 or bfloat16 (default: the recipe's)"
    )
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
    train = _add(commands, "train", _train, "train an encoder to predict a column from weights")
    train.add_argument("encoder", help="e.g. sne; a wrong one lists those there are")
    train.add_argument("zoo", nargs="+", help="zoo, or several of any architectures, or org/name")
    train.add_argument("--target", default="test_accuracy", help="column (default: test_accuracy)")
    train.add_argument("--out", type=Path, required=True, help="folder for checkpoint and model")
    train.add_argument("--seed", type=int, default=0, help="of the training (default: 0)")
    train.add_argument(
        "--rows", default="all", help="'all' checkpoints or the 'last' of each model (default: all)"
    )
    train.add_argument(
        "--resume",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="go on from the checkpoint in --out",
    )
    train.add_argument("--epochs", type=int, help="passes over the train rows (default: 10)")
    train.add_argument("--batch-size", type=int, help="rows per step (default: 16)")
    train.add_argument("--lr", type=float, help="peak learning rate (default: by encoder)")
    train.add_argument("--invariance", type=float, help="weight of the regulariser (default: 0)")
    train.add_argument("--scaling", help="of weights: tensor, fan_in or none (default: by zoos)")
    train.add_argument("--loss", help="auto, bce, mse or cross_entropy (default: auto)")
    train.add_argument("--device", help="cpu or cuda (default: cpu)")
    train.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="argument of the encoder"
    )
    sample = _add(commands, "sample", _sample, "draw new models and write them as a zoo")
    sample.add_argument("model", type=Path, help="folder of a trained hyper-representation or sane")
    sample.add_argument("--count", type=int, default=100, help="models to draw (default: 100)")
    sample.add_argument("--out", type=Path, required=True, help="zoo folder to make")
    sample.add_argument("--zoo", type=Path, help="zoo to fit to (default: the one trained on)")
    sample.add_argument("--sampler", default="kde", help="a wrong one lists those there are")
    sample.add_argument("--top", type=float, default=0.3, help="share of rows, best (default: 0.3)")
    sample.add_argument("--draws", type=int, default=1, help="drawn for each kept (default: 1)")
    sample.add_argument("--seed", type=int, default=0, help="of the draws (default: 0)")
    sample.add_argument("--overwrite", action="store_true", help="replace a zoo that is there")
    predict = _add(commands, "predict", _predict, "predict a column of a zoo, a CSV line per row")
    embed = _add(commands, "embed", _embed, "write the embedding of every row of a zoo")
    embed.add_argument("--out", type=Path, required=True, help=".npz or .safetensors file")
    for command in (predict, embed):
        command.add_argument("model", help="folder of a trained encoder, or org/name")
        command.add_argument("zoo", help="zoo file or folder, or org/name")
        command.add_argument("--split", help="train, val or test (default: all)")
        command.add_argument("--device", default="cpu", help="cpu or cuda (default: cpu)")
    benchmark = _add(commands, "benchmark", _benchmark, "compare predictors, from nothing")
    benchmark.add_argument("name", help="e.g. cross-dataset; a wrong one lists those there are")
    benchmark.add_argument("--out", type=Path, help="folder (default: weightzoo-NAME)")
    benchmark.add_argument("--small", action="store_true", help="ten minutes on two cores")
    benchmark.add_argument("--seeds", type=int, default=3, help="fits per predictor (default: 3)")
    benchmark.add_argument("--workers", type=int, help="processes (default: one per core)")
    benchmark.add_argument(
        "--zoo", action="append", default=[], metavar="NAME=PATH", help="own zoo, in place of built"
    )
    leaderboard = _add(commands, "leaderboard", _leaderboard, "tables of all results of a folder")
    leaderboard.add_argument("results", type=Path, help="folder of benchmark folders")
    leaderboard.add_argument(
        "--out", type=Path, default=Path("LEADERBOARD.md"), help="default: LEADERBOARD.md"
    )
    return parser


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
