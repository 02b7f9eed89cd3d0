"""The commands that learn from zoos.

They are `quickstart`, `train`, `sample`, `predict`, `embed`, `encode` and `decode`.
"""

import argparse
import json
import math
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..zoos.strict_json import json_text
from .arguments import (
    add_command,
    add_name,
    check_device,
    check_file,
    check_folder,
    named_zoo,
    named_zoos,
    print_result,
    whole,
)

QUICKSTART_RECIPE = "digits-cnn"
# A copy of the names in `sampling`, because that module imports torch.
SAMPLERS = "kde, kde-published, neighbours, gan, uniform, gaussian"


def add_model_commands(commands: Any) -> None:
    """Add `quickstart`, `train`, `sample`, `predict`, `embed`, `encode` and `decode`."""
    _add_quickstart(commands)
    _add_train(commands)
    _add_sample(commands)
    predict = add_command(
        commands,
        "predict",
        _predict,
        "predict a column of a zoo with a trained encoder, or with a linear probe of an "
        "autoencoder; prints one CSV line per row on stdout, and scores on stderr",
        "weightzoo predict model mlps --split test > predicted.csv",
    )
    add_model_and_zoo(predict)
    add_own_class(predict)
    predict.add_argument(
        "--target",
        metavar="COLUMN",
        help="column to predict; of an autoencoder a probe of another column is fitted to the "
        "train rows of the zoo (default: the column it was trained for)",
    )
    embed = add_command(
        commands,
        "embed",
        _embed,
        "write a trained encoder's embedding of every row of a zoo",
        "weightzoo embed model mlps --out embeddings.npz",
    )
    _add_vector_file(embed)
    add_model_and_zoo(embed)
    add_own_class(embed)
    encode = add_command(
        commands,
        "encode",
        _encode,
        "write an autoencoder's latent vector of every row of a zoo, which `decode` takes",
        "weightzoo encode ae mlps --split test --out latent.npz",
    )
    _add_vector_file(encode)
    add_model_and_zoo(encode)
    _add_decode(commands)


def _add_decode(commands: Any) -> None:
    decode = add_command(
        commands,
        "decode",
        _decode,
        "write the networks of latent vectors as a zoo, measured on the train zoo's images",
        "weightzoo decode ae latent.npz --out decoded",
    )
    decode.add_argument(
        "model",
        help="folder of an autoencoder trained by `weightzoo train`, or org/name on the Hub",
    )
    decode.add_argument(
        "latent", type=Path, help="file with the array latent (N, Z), .npz or .safetensors"
    )
    decode.add_argument("--out", type=Path, required=True, help="zoo folder to make")
    decode.add_argument(
        "--zoo",
        help="zoo whose images the networks are measured on (default: the autoencoder's own zoo)",
    )
    add_name(decode)
    decode.add_argument("--overwrite", action="store_true", help="replace an existing zoo")


def _add_vector_file(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--out", type=Path, required=True, help="file to write, ending in .npz or .safetensors"
    )


def _add_quickstart(commands: Any) -> None:
    quickstart = add_command(
        commands,
        "quickstart",
        _quickstart,
        "build a small zoo of CNNs (convolutional networks) and predict their accuracy from "
        "weights",
        "weightzoo quickstart --models 100",
    )
    quickstart.add_argument(
        "--out",
        type=Path,
        default=Path("weightzoo-quickstart"),
        help="folder for zoo, report and plots (default: weightzoo-quickstart)",
    )
    quickstart.add_argument("--models", type=int, default=200, help="number of CNNs (default: 200)")
    quickstart.add_argument(
        "--seeds",
        type=whole(1),
        default=3,
        help="number of fits of each predictor, with seeds from 0 (default: 3)",
    )


def _add_train(commands: Any) -> None:
    train = add_command(
        commands,
        "train",
        _train,
        "train an encoder to predict a column from weights, or an autoencoder or flow of weights",
        "weightzoo train sne mlps --target test_accuracy --epochs 20 --out model",
    )
    train.add_argument(
        "encoder",
        help="encoder to train, e.g. sne, nfn-np or flat-mlp, a class of yours as "
        "package.module:Class, one of the autoencoders hyper-representation and sane, or "
        "flow-matching, a generator of weights; an unknown name lists the known ones",
    )
    train.add_argument(
        "zoo",
        nargs="+",
        help="zoo file or folder, or org/name on the Hub; several zoos only if the encoder accepts "
        "several architectures",
    )
    add_name(train, "train on")
    train.add_argument(
        "--target",
        default="test_accuracy",
        metavar="COLUMN",
        help="column to predict (see `weightzoo info ZOO`), by autoencoders with a linear probe of "
        "their embedding (default: test_accuracy)",
    )
    train.add_argument(
        "--out", type=Path, required=True, help="folder to make for checkpoint and trained model"
    )
    train.add_argument("--seed", type=whole(0), default=0, help="seed of the training (default: 0)")
    train.add_argument(
        "--rows",
        default="all",
        help="rows to learn from: all, or last (the last checkpoint of each model); not for "
        "autoencoders (default: all)",
    )
    train.add_argument(
        "--resume",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="continue from the checkpoint in --out, if it exists (default: --resume)",
    )
    _add_settings(train)


def _add_settings(train: argparse.ArgumentParser) -> None:
    """Add the training settings, whose defaults depend on the encoder."""
    train.add_argument(
        "--epochs",
        type=int,
        help="largest number of passes over the train rows (default: 10; sne 30, autoencoders "
        "50, flow-matching 200)",
    )
    train.add_argument(
        "--batch-size",
        type=int,
        help="rows per step, at least 2 (default: 16; sne, autoencoders and flow-matching 32)",
    )
    train.add_argument(
        "--lr",
        type=float,
        help="peak learning rate (default: 0.001; sne 0.004, autoencoders 0.002)",
    )
    train.add_argument(
        "--invariance",
        type=float,
        help="weight of the penalty on outputs that change when hidden units are reordered; not "
        "for "
        "autoencoders (default: 0)",
    )
    train.add_argument(
        "--augment",
        action=argparse.BooleanOptionalAction,
        help="reorder the hidden units of every model at random in every step, which keeps its "
        "function; not for autoencoders (default: --augment for sne, else --no-augment)",
    )
    train.add_argument(
        "--scaling",
        help="scaling of the weights: tensor, fan_in or none; not for autoencoders (default: "
        "tensor "
        "for one architecture, fan_in for several)",
    )
    train.add_argument(
        "--loss",
        help="loss: auto, bce, mse or cross_entropy; auto chooses by the target; not for "
        "autoencoders (default: auto)",
    )
    train.add_argument(
        "--behaviour",
        type=float,
        metavar="SHARE",
        help="share of the loss on the networks' outputs on images, from 0 to 1, for autoencoders; "
        "0 trains on weights alone (default: 0.3 for hyper-representation if the zoo names its "
        "images, else 0)",
    )
    train.add_argument("--device", help="training device: cpu or cuda (default: cpu)")
    train.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="argument of the encoder, with the value as JSON or text, such as widths=[64,64]; may "
        "be repeated; an unknown key lists the known ones",
    )


def _add_sample(commands: Any) -> None:
    sample = add_command(
        commands,
        "sample",
        _sample,
        "draw new models from a trained autoencoder or flow and write them as a zoo",
        "weightzoo sample ae --count 50 --out drawn",
    )
    sample.add_argument(
        "model",
        help="folder of a generator trained by `weightzoo train hyper-representation`, `sane` or "
        "`flow-matching`, or org/name on the Hub",
    )
    sample.add_argument(
        "--count", type=whole(1), default=100, help="number of models to keep (default: 100)"
    )
    sample.add_argument("--out", type=Path, required=True, help="zoo folder to make")
    sample.add_argument(
        "--zoo",
        help="zoo whose train rows the sampler is fitted to (default: the model's own zoo)",
    )
    add_name(sample)
    sample.add_argument(
        "--sampler",
        help=f"sampler of latent vectors: {SAMPLERS}; kde (kernel density estimation) draws every "
        "dimension separately, as the papers say; kde-published takes all dimensions from one "
        "model with one noise, as their code does; not for flow-matching (default: kde)",
    )
    sample.add_argument(
        "--bandwidth",
        type=float,
        help="deviation of the noise of kde and kde-published, at least 0; published values are "
        "0.002 for hyper-representations and 0.2 for SANE (sequential autoencoder for neural "
        "embeddings), both absolute (default: 0.002)",
    )
    sample.add_argument(
        "--bandwidth-unit",
        help="unit of the bandwidth: relative to each dimension's deviation, or absolute, in the "
        "units of the latent vectors (default: relative for kde, absolute for kde-published)",
    )
    sample.add_argument(
        "--top",
        type=float,
        help="share of the rows with the best val accuracy that the sampler is fitted to, above 0, "
        "at most 1; not for flow-matching (default: 0.3)",
    )
    sample.add_argument(
        "--draws",
        type=whole(1),
        default=1,
        help="number of draws per kept model, which is the best on a few val images (default: 1)",
    )
    sample.add_argument("--seed", type=whole(0), default=0, help="seed of the draws (default: 0)")
    sample.add_argument("--overwrite", action="store_true", help="replace an existing zoo")


def add_model_and_zoo(command: argparse.ArgumentParser) -> None:
    """Add the arguments of a command that runs a trained model on a zoo."""
    command.add_argument(
        "model", help="folder of an encoder trained by `weightzoo train`, or org/name on the Hub"
    )
    command.add_argument("zoo", help="zoo file or folder, or org/name on the Hub")
    add_name(command)
    command.add_argument(
        "--split",
        help="split to read: train, val or test, or a part such as train[:50%%] (default: all)",
    )
    command.add_argument("--device", default="cpu", help="device: cpu or cuda (default: cpu)")


def add_own_class(command: argparse.ArgumentParser) -> None:
    """Add `--encoder`, the class of an encoder of the user."""
    command.add_argument(
        "--encoder",
        metavar="MODULE:CLASS",
        help="class of the encoder, if it is not one of weightzoo's; its module is imported, also "
        "from the working folder",
    )


def _quickstart(options: argparse.Namespace) -> None:
    from ..benchmarks.zoos import build_once
    from ..loaders.load import load_zoo
    from ..tasks.prediction.property_prediction import predict_property
    from ..tasks.prediction.quickstart_report import write_report
    from ..zoos.recipe import load_recipe

    check_folder(options.out)
    folder = build_once(
        load_recipe(QUICKSTART_RECIPE), options.out / QUICKSTART_RECIPE, options.models
    )
    zoo = load_zoo(folder)
    report = predict_property(zoo, seeds=range(options.seeds), workers=os.cpu_count() or 1)
    command = f"weightzoo quickstart --models {options.models} --seeds {options.seeds}"
    path = write_report(options.out, zoo, report, command)
    print_result(options, report.to_json(), report.to_markdown())
    print(f"report with plots: {path}", file=sys.stderr)


def _train(options: argparse.Namespace) -> None:
    from ..tasks.prediction.trained import plain_lines
    from ..tasks.training.settings import TrainOptions
    from ..tasks.trainings import train_kind

    train = train_kind(options.encoder)
    check_folder(options.out)
    check_device(options.device)
    names = ("epochs", "batch_size", "lr", "invariance", "augment", "scaling", "loss", "device")
    given = {name: getattr(options, name) for name in names}
    result = train(
        TrainOptions(
            zoos=named_zoos(options.zoo, options.name),
            out=options.out,
            target=options.target,
            rows=options.rows,
            seed=options.seed,
            resume=options.resume,
            config=_pairs(options.set),
            behaviour=options.behaviour,
            settings={name: value for name, value in given.items() if value is not None},
        )
    )
    print_result(options, result, "\n".join(plain_lines(result)))


def _pairs(texts: Sequence[str]) -> dict[str, Any]:
    """Keys and values from KEY=VALUE, the value parsed as JSON or kept as text."""
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

    from ..tasks.generation.sample import SampleOptions, sample_zoo

    names = [field.name for field in fields(SampleOptions) if field.name != "progress"]
    given = {name: getattr(options, name) for name in names}
    given["zoo"] = _optional_zoo(options)
    result = sample_zoo(SampleOptions(**given, progress=True))
    mean = result["test_accuracy"]
    shown = f"{mean:.3f}" if math.isfinite(mean) else "none, as all diverged"
    text = "{path}: {models} models, {diverged} diverged, mean test accuracy {shown}; {sampler}"
    if "bandwidth" in result:
        text += ", bandwidth {bandwidth:g} ({bandwidth_unit})"
    print_result(options, result, text.format(**result, shown=shown))


def _optional_zoo(options: argparse.Namespace) -> str | Path | None:
    """The zoo of `--zoo` and `--name`; None without."""
    if options.zoo is not None:
        return named_zoo(options.zoo, options.name)
    if options.name is not None:
        raise ValueError("--name is of the zoo that --zoo gives: give --zoo too")
    return None


def _predict(options: argparse.Namespace) -> None:
    from ..tasks.prediction.trained import plain_lines, predict_rows, write_rows

    check_device(options.device)
    rows, scores = predict_rows(
        options.model,
        named_zoo(options.zoo, options.name),
        options.split,
        options.device,
        options.encoder,
        options.target,
        progress=True,
    )
    if options.json:
        print(json_text({"rows": rows, "scores": scores}, indent=1))
        return
    write_rows(rows, sys.stdout)
    if scores is not None:
        print("\n".join(plain_lines(scores)), file=sys.stderr)


def _embed(options: argparse.Namespace) -> None:
    from ..tasks.prediction.trained import embed_zoo

    check_file(options.out)
    check_device(options.device)
    result = embed_zoo(
        options.model,
        named_zoo(options.zoo, options.name),
        options.out,
        options.split,
        options.device,
        options.encoder,
        progress=True,
    )
    print_result(options, result, "{path}: {rows} embeddings of width {width}".format(**result))


def _encode(options: argparse.Namespace) -> None:
    from ..tasks.generation.latent_files import encode_zoo

    check_file(options.out)
    check_device(options.device)
    zoo = named_zoo(options.zoo, options.name)
    result = encode_zoo(options.model, zoo, options.out, options.split, options.device)
    print_result(options, result, "{path}: {rows} latent vectors of width {width}".format(**result))


def _decode(options: argparse.Namespace) -> None:
    from ..tasks.generation.latent_files import decode_file

    check_folder(options.out)
    zoo = _optional_zoo(options)
    result = decode_file(options.model, options.latent, options.out, zoo, options.overwrite)
    mean = result["test_accuracy"]
    shown = f"{mean:.3f}" if math.isfinite(mean) else "none, as all diverged"
    text = "{path}: {models} models, {diverged} diverged, mean test accuracy {shown}"
    print_result(options, result, text.format(**result, shown=shown))
