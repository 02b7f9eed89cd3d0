"""The commands that make zoos (`build`, `finetune`, `sparsify`, `import`), and `list`."""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..zoos.errors import BuildError
from .arguments import add_command, add_name, check_device, print_result, whole, zoo_folder

MOST_BYTES, MOST_SECONDS = 10e9, 3600  # a larger build starts only with --yes

# A copy of the names in `builders.imports`, because that module imports torch.
IMPORT_FORMATS = (
    "modelzoos-raw, modelzoos-pt, smallcnn, inr-pth, wildpark, small-transformers, nino, "
    "lora, model-j, mother, state-dicts, hub"
)


def add_building_commands(commands: Any) -> None:
    """Add `list`, `build`, `finetune`, `sparsify` and `import`."""
    text = "list the shipped recipes, which `weightzoo build` can train"
    add_command(commands, "list", _list, text, "weightzoo list")
    _add_build(commands)
    _add_finetune(commands)
    _add_sparsify(commands)
    _add_import(commands)


def _add_build(commands: Any) -> None:
    build = add_command(
        commands,
        "build",
        _build,
        "train a recipe's population and write it as a zoo; a stopped build continues when the "
        "same command is given again",
        "weightzoo build digits-mlp --models 100 --out mlps",
    )
    build.add_argument(
        "recipe", help="name of a shipped recipe (see `weightzoo list`), or path of a .toml file"
    )
    build.add_argument("--out", type=Path, help="zoo folder to make (default: the recipe's name)")
    build.add_argument(
        "--images",
        metavar="NAME",
        help="image set to train on in place of the recipe's, such as idx:FOLDER, folder:PATH or "
        "arrays:FILE.npz, which need no network (default: the recipe's)",
    )
    build.add_argument("--models", type=int, help="number of models (default: the recipe's)")
    build.add_argument(
        "--precision",
        help="number type in training: float32 or bfloat16 (default: the recipe's)",
    )
    build.add_argument(
        "--dry-run",
        action="store_true",
        help="print the number of models, bytes and seconds of the build, and stop",
    )
    _add_engine(build)


def _add_finetune(commands: Any) -> None:
    finetune = add_command(
        commands,
        "finetune",
        _finetune,
        "train a zoo's models further on another image set, and write them as a new zoo",
        "weightzoo finetune mlps --images glyphs-digits --epochs 5 --out tuned",
    )
    finetune.add_argument(
        "--images",
        required=True,
        help="image set to train on, e.g. glyphs-digits; an unknown name lists the known ones",
    )
    finetune.add_argument(
        "--epochs", type=int, required=True, help="number of epochs, passes over the train images"
    )
    finetune.add_argument(
        "--checkpoints",
        type=int,
        nargs="+",
        metavar="EPOCH",
        help="epochs whose weights are stored, ascending; 0 is before training (default: all, "
        "from 0)",
    )
    _add_parents(finetune)
    _add_engine(finetune)


def _add_sparsify(commands: Any) -> None:
    sparsify = add_command(
        commands,
        "sparsify",
        _sparsify,
        "prune a zoo's models while they continue to train, and write them as a new zoo",
        "weightzoo sparsify mlps --method magnitude --sparsity 0.9 --out pruned",
    )
    sparsify.add_argument(
        "--method", required=True, help="pruning method: variational-dropout or magnitude"
    )
    sparsify.add_argument(
        "--epochs",
        type=int,
        default=25,
        help="number of epochs of pruning and training (default: 25)",
    )
    sparsify.add_argument(
        "--sparsity",
        type=float,
        help="final share of pruned weights, between 0 and 1; only with magnitude, because "
        "variational-dropout finds its own (default: 0.8)",
    )
    sparsify.add_argument("--images", help="image set to train on (default: the zoo's own)")
    sparsify.add_argument(
        "--checkpoints",
        type=int,
        nargs="+",
        metavar="EPOCH",
        help="epochs whose weights are stored, ascending; 0 is before pruning (default: all, "
        "from 1)",
    )
    _add_parents(sparsify)
    _add_engine(sparsify)


def _add_import(commands: Any) -> None:
    import_ = add_command(
        commands,
        "import",
        _import,
        "convert published networks to a zoo; networks of several architectures become a folder "
        "of zoos",
        "weightzoo import state-dicts checkpoints.zip --out imported",
    )
    import_.add_argument("format", help=f"format of the source: {IMPORT_FORMATS}")
    import_.add_argument("source", help="folder, archive (zip, tar, tar.gz, tar.xz) or file")
    import_.add_argument("--out", type=Path, required=True, help="zoo folder to make")
    import_.add_argument(
        "--split-file",
        type=Path,
        help="CSV file with columns model_name and split (train, val or test), or a published "
        "file: JSON of paths by split, or one image number per line; models missing from it are "
        "left out (default: the source's split, or one drawn with --seed: 70 %% train, "
        "15 %% val, 15 %% test)",
    )
    import_.add_argument(
        "--protocol",
        metavar="NAME",
        help="published protocol that chooses checkpoints and their splits, in place of the "
        "source's, see `weightzoo protocols`; some take their published file as --split-file "
        "(default: none)",
    )
    import_.add_argument(
        "--seed", type=whole(0), default=0, help="seed of a drawn split (default: 0)"
    )
    import_.add_argument(
        "--parents",
        type=Path,
        metavar="ZOO",
        help="folder of an imported zoo that pruned or fine-tuned models of the source descend "
        "from: they get its splits, and name its rows as their parents",
    )
    import_.add_argument(
        "--layer",
        metavar="NAME",
        help="the one layer to fetch of each network of an index; needed by model-j only",
    )
    import_.add_argument("--overwrite", action="store_true", help="replace an existing zoo")
    import_.add_argument(
        "--strict", action="store_true", help="fail if the models differ in architecture"
    )


def _add_parents(command: argparse.ArgumentParser) -> None:
    """Add the options for the parents' rows and the new zoo."""
    command.add_argument("zoo", help="zoo folder, or org/name on the Hub, to start from")
    add_name(command)
    command.add_argument("--out", type=Path, required=True, help="zoo folder to make")
    command.add_argument(
        "--where",
        metavar="CONDITION",
        help="condition on the rows to start from, such as \"split == 'train' and test_accuracy > "
        '0.5"; each model starts from its last such row (default: all rows with finite weights)',
    )
    command.add_argument(
        "--set",
        metavar="NAME=VALUE",
        action="append",
        default=[],
        help="hyper-parameter for all models in place of their own, such as lr=1e-4; may be "
        "repeated",
    )


def _add_engine(command: argparse.ArgumentParser) -> None:
    """Add the options for device, workers and engine of a training command."""
    command.add_argument(
        "--device", default="cpu", help="training device: cpu or cuda (default: cpu)"
    )
    command.add_argument(
        "--workers",
        type=whole(1),
        help="number of worker processes on the CPU (default: one per core)",
    )
    command.add_argument(
        "--shard",
        metavar="I/N",
        help="train part I of N only, on any machine; when the folders of all N shards lie beside "
        "--out, the command that ends last writes the zoo",
    )
    command.add_argument("--overwrite", action="store_true", help="replace an existing zoo")
    command.add_argument(
        "--yes",
        action="store_true",
        help="start also if the estimate is above 10 GB or one hour (default: stop with the "
        "estimate)",
    )
    command.add_argument(
        "--engine",
        default="process",
        choices=("process", "ray", "slurm"),
        help="process trains on this machine; ray trains on a Ray cluster whose nodes have the "
        "same "
        "weightzoo: nodes that see the --out folder under the same path write rows there, others "
        "send them to this machine; slurm trains as a job array whose nodes see the --out folder "
        "under the same path (default: process)",
    )
    command.add_argument(
        "--slurm",
        metavar="NAME=VALUE",
        action="append",
        default=[],
        help="option of the job array, such as slurm_partition=gpu, timeout_min=120 or mem_gb=8 "
        "(names of submitit); only with --engine slurm; may be repeated",
    )
    command.add_argument(
        "--ray-address",
        metavar="ADDRESS",
        help="address of a running Ray cluster, HOST:PORT or auto; only with --engine ray "
        "(default: "
        "start a cluster on this machine)",
    )


def _list(options: argparse.Namespace) -> None:
    from ..zoos.recipe_table import recipe_table

    rows = recipe_table()
    lines = [f"{row['name']:<30}{row['models']:>7,} models  {row['description']}" for row in rows]
    print_result(options, rows, "\n".join(lines))


def _build(options: argparse.Namespace) -> None:
    from ..zoos.recipe import load_recipe

    recipe = load_recipe(options.recipe)
    given = {"precision": options.precision, "images": options.images}
    if changes := {key: value for key, value in given.items() if value is not None}:
        from dataclasses import replace

        recipe = replace(recipe, **changes)
    if options.dry_run:
        from ..builders.estimate import plan_build, plan_text

        plan = plan_build(recipe, options.models, options.device, options.workers)
        print_result(options, plan, plan_text(plan))
        return
    check_device(options.device, here=options.engine == "process")
    out = options.out or Path(recipe.name)
    if options.shard is not None:
        from ..builders.engines.job import TrainingJob

        job = TrainingJob(recipe=recipe, models=tuple(recipe.models(options.models)))
        _train_shard(options, job, out)
        return
    from ..builders.build import build_zoo

    index = build_zoo(
        recipe,
        out,
        models=options.models,
        engine=options.engine,
        device=options.device,
        workers=options.workers,
        ray_address=options.ray_address,
        slurm=_slurm_options(options.slurm),
        overwrite=options.overwrite,
        approve=_approval(options),
    )
    _print_built(options, out, index)


def _train_shard(options: argparse.Namespace, job: Any, out: Path) -> None:
    from ..builders.build import Engine
    from ..builders.shard_build import ShardFolder, run_shard

    number, mark, count = options.shard.partition("/")
    if not (mark and number.isdecimal() and count.isdecimal()):
        raise BuildError(f"--shard takes I/N, such as 3/8, got {options.shard!r}")
    if options.engine != "process":
        raise BuildError(f"a shard trains with the engine 'process', got {options.engine!r}")
    shard = int(number), int(count)
    engine = Engine(device=options.device, workers=options.workers)
    index = run_shard(job, out, shard, engine, options.overwrite)
    if index is not None:
        _print_built(options, out, index)
        return
    folders = [ShardFolder.beside(out, one, shard[1]) for one in range(1, shard[1] + 1)]
    missing = [one for one, folder in enumerate(folders, start=1) if not folder.is_whole]
    own = folders[shard[0] - 1].path
    result = {"path": str(own), "missing_shards": missing}
    print_result(options, result, f"{own}: whole; shards that are missing: {missing or 'none'}")


def _slurm_options(given: Sequence[str]) -> dict[str, Any]:
    """Options by name; whole numbers become numbers.

    Raises:
        BuildError: if one is not NAME=VALUE.
    """
    found: dict[str, Any] = {}
    for text in given:
        name, mark, value = text.partition("=")
        if not mark or not name:
            raise BuildError(f"--slurm takes NAME=VALUE, such as timeout_min=60, got {text!r}")
        found[name] = int(value) if value.isdecimal() else value
    return found


def _approval(options: argparse.Namespace) -> Any:
    """A function that prints the plan of a build, and stops a large one without --yes."""
    from ..builders.estimate import plan_line

    def approve(plan: Mapping[str, Any]) -> None:
        print(plan_line(plan), file=sys.stderr)
        large = plan["bytes"] > MOST_BYTES or (plan["seconds"] or 0) > MOST_SECONDS
        if large and not options.yes:
            raise BuildError(
                f"not started, because the estimate is above {MOST_BYTES / 1e9:g} GB or one hour: "
                f"{plan_line(plan)}; give --yes to start it"
            )

    return approve


def _print_built(options: argparse.Namespace, out: Path, index: Any) -> None:
    result = {
        "path": str(out),
        "models": sum(shard.models for shard in index.shards),
        "rows": sum(shard.rows for shard in index.shards),
        "bytes": sum(shard.size_bytes for shard in index.shards),
    }
    print_result(
        options, result, "{path}: {models} models, {rows} rows, {bytes} bytes".format(**result)
    )


def _finetune(options: argparse.Namespace) -> None:
    from ..builders.children.fine_tuning import fine_tuning_job

    job = fine_tuning_job(
        zoo_folder(options.zoo, options.name),
        options.out.name,
        images=options.images,
        epochs=options.epochs,
        **_from_parents(options),
    )
    _train_children(options, job)


def _sparsify(options: argparse.Namespace) -> None:
    from ..builders.children.sparsification import sparsification_job

    job = sparsification_job(
        zoo_folder(options.zoo, options.name),
        options.out.name,
        method=options.method,
        epochs=options.epochs,
        sparsity=options.sparsity,
        images=options.images,
        **_from_parents(options),
    )
    _train_children(options, job)


def _from_parents(options: argparse.Namespace) -> dict[str, Any]:
    """Arguments shared by the jobs that train a zoo's models further."""
    from ..builders.children.parents import parse_overrides

    check_device(options.device, here=options.engine == "process")
    return {
        "checkpoints": options.checkpoints,
        "where": _condition(options.where),
        "overrides": parse_overrides(options.set),
    }


def _train_children(options: argparse.Namespace, job: Any) -> None:
    """Train a job, or one shard of it, and print the zoo."""
    from ..builders.build import Engine, run_job

    if options.shard is not None:
        _train_shard(options, job, options.out)
        return
    engine = Engine(
        name=options.engine,
        device=options.device,
        workers=options.workers,
        ray_address=options.ray_address,
        slurm=_slurm_options(options.slurm),
        approve=_approval(options),
    )
    index = run_job(job, options.out, engine, options.overwrite)
    _print_built(options, options.out, index)


def _condition(text: str | None) -> Any:
    """A condition as a function of columns, because builders cannot parse the text."""
    from ..loaders.dataset.conditions import rows_where

    return None if text is None else lambda columns: rows_where(text, columns)


def _import(options: argparse.Namespace) -> None:
    from ..builders.imports import import_zoo

    report = import_zoo(
        options.format,
        options.source,
        options.out,
        split_file=options.split_file,
        protocol=options.protocol,
        seed=options.seed,
        overwrite=options.overwrite,
        strict=options.strict,
        parents=options.parents,
        layer=options.layer,
    )
    print_result(options, report.to_json(), report.summary())
