"""The table of all commands, from which `weightzoo --help` is printed.

A module is imported when one of its commands is named, or when a shell or a page of the docs needs
all of them.
"""

import os
from importlib import import_module

from .parsers import CommandGroup

TYPE_CHECKING = False  # read by type checkers as true; importing `typing` would cost 3 ms
if TYPE_CHECKING:
    from typing import Any

COMMANDS = {
    "building.add_building_commands": {
        "list": "list the shipped recipes, which `weightzoo build` can train",
        "build": "train a recipe's population and write it as a zoo",
        "finetune": "train a zoo's models further on another image set, and write them as a new "
        "zoo",
        "sparsify": "prune a zoo's models while they continue to train, and write them as a new "
        "zoo",
        "import": "convert published networks to a zoo",
    },
    "release.add_release_command": {
        "release": "build, verify and describe weightzoo's own collection of zoos, and publish it",
    },
    "catalogue.add_catalogue_commands": {
        "catalogue": "list the zoos that others published",
        "protocols": "list the splits on which published figures compare",
        "fetch": "download a published zoo",
    },
    "zoos.add_zoo_commands": {
        "info": "print the contents of a zoo: architecture, models, rows, splits, columns",
        "verify": "check that a zoo is complete and its models work",
        "plot": "plot the accuracy distribution and training trajectories of a zoo, or columns of "
        "your choice",
        "pull": "download a zoo from the Hugging Face Hub, check it, and print its folder in the "
        "cache",
        "push": "publish a zoo folder, a folder of zoo folders or a trained model on the Hugging "
        "Face Hub",
        "card": "write the dataset card (README.md) of a zoo folder again",
    },
    "editing.add_editing_commands": {
        "edit": "write a zoo with some rows or other columns",
        "concat": "write several zoos of one architecture as one",
        "attach": "give a zoo of state dicts the architecture of its models",
    },
    "models.add_model_commands": {
        "quickstart": "build a small zoo of CNNs (convolutional networks) and predict their "
        "accuracy from weights",
        "train": "train an encoder to predict a column from weights, or an autoencoder or flow of "
        "weights",
        "sample": "draw new models from a trained autoencoder or flow and write them as a zoo",
        "predict": "predict a column of a zoo with a trained encoder, or with a linear probe of an "
        "autoencoder",
        "embed": "write a trained encoder's embedding of every row of a zoo",
        "encode": "write an autoencoder's latent vector of every row of a zoo, which `decode` "
        "takes",
        "decode": "write the networks of latent vectors as a zoo, measured on the train zoo's "
        "images",
    },
    "referees.add_referee_commands": {
        "evaluate": "score a trained model on a zoo that it never saw, beside constants",
        "memorisation": "say whether generated networks are copies of training networks",
    },
    "merging.add_merge_command": {
        "merge": "merge models into one",
    },
    "gluing.add_gluing_commands": {
        "families": "say which models can be merged with each other",
        "glue": "find the families of a pool, merge inside each, and mix the merges",
    },
    "ranking.add_ranking_commands": {
        "features": "run models over the images of a task and keep their features",
        "finetune-matrix": "fine-tune every model of some zoos on every target",
        "rank": "rank models for a task, with the fixed order beside",
        "ensemble": "train a head on the features of the models that are ranked first, and test it",
    },
    "dynamics.add_dynamics_commands": {
        "analyse": "measure paths, curvature, spectra and barriers of every checkpoint of a zoo",
    },
    "benchmarks.add_benchmark_commands": {
        "benchmark": "build zoos, fit predictors to them, and compare the predictors in tables",
        "leaderboard": "write the main table of every benchmark result in a folder to one Markdown "
        "file",
    },
    "completion.add_completion_command": {
        "completion": "print the code that completes commands, options and names in a shell",
    },
}
"""By the function that adds a group of commands: the name of each, and its line in the help.

A new command needs both: the call of `add_command` in that function, and its line here.
"""


def add_all_commands(commands: "Any") -> None:
    """List every command; a group is built when one of its commands is used.

    Args:
        commands: result of `ArgumentParser.add_subparsers` with `CommandParser`.
    """
    for path, texts in COMMANDS.items():
        group = CommandGroup(lambda group, path=path: _build(group, path))  # type: ignore[misc]
        for name, text in texts.items():
            group.add_line(commands, name, text)


def _build(group: CommandGroup, path: str) -> None:
    """Call the function of a group, and name its words if a shell asks for completions."""
    module, _, function = path.rpartition(".")
    getattr(import_module(f".{module}", __package__), function)(group)
    if "_ARGCOMPLETE" in os.environ:
        from .completion import set_words

        set_words(group.choices)
