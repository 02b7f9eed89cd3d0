"""The commands that judge what was trained: `evaluate` and `memorisation`."""

import argparse
from pathlib import Path
from typing import Any

from .arguments import (
    add_command,
    add_name,
    check_device,
    check_folder,
    named_zoo,
    print_result,
    whole,
)
from .models import add_model_and_zoo, add_own_class


def add_referee_commands(commands: Any) -> None:
    """Add `evaluate` and `memorisation`."""
    evaluate = add_command(
        commands,
        "evaluate",
        _evaluate,
        "score a trained model on a zoo that it never saw, beside constants; warns if models of "
        "its training are in the zoo",
        "weightzoo evaluate model other-mlps --rows last",
    )
    add_model_and_zoo(evaluate)
    add_own_class(evaluate)
    evaluate.add_argument(
        "--rows",
        default="all",
        choices=("all", "last"),
        help="rows to score: all, or last (the last checkpoint of each model) (default: all)",
    )
    _add_memorisation(commands)


def _add_memorisation(commands: Any) -> None:
    memorisation = add_command(
        commands,
        "memorisation",
        _memorisation,
        "say whether generated networks are copies of training networks; compares them in weights "
        "and behaviour with networks that no generator saw, noised copies and averages",
        "weightzoo memorisation mlps drawn --out judged",
    )
    memorisation.add_argument(
        "zoo", help="zoo that the generator was trained on: folder, or org/name on the Hub"
    )
    memorisation.add_argument(
        "generated", help="zoo of generated networks, of any generator (see `weightzoo sample`)"
    )
    add_name(memorisation)
    memorisation.add_argument(
        "--out", type=Path, required=True, help="folder for report, data and plot"
    )
    memorisation.add_argument(
        "--models",
        type=whole(3),
        default=100,
        help="largest number of networks in every set (default: 100)",
    )
    memorisation.add_argument(
        "--seed", type=whole(0), default=0, help="seed of all draws (default: 0)"
    )


def _evaluate(options: argparse.Namespace) -> None:
    from ..tasks.prediction.evaluation import evaluate_model

    check_device(options.device)
    found = evaluate_model(
        options.model,
        named_zoo(options.zoo, options.name),
        options.split,
        options.rows,
        options.device,
        options.encoder,
        progress=True,
    )
    print_result(options, found.to_json(), found.to_text())


def _memorisation(options: argparse.Namespace) -> None:
    from ..tasks.generation.memorisation_report import write_memorisation

    check_folder(options.out)
    data, text = write_memorisation(
        named_zoo(options.zoo, options.name),
        options.generated,
        options.out,
        models=options.models,
        seed=options.seed,
    )
    print_result(options, data, text)
