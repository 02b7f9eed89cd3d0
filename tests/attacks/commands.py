"""The eight commands under attack: how each is given, what its stages are, what it must leave.

Inputs are as small as they may be: an MLP on a few hundred digits, two epochs.
"""

import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

STAGES = ("planning", "working", "finishing", "renaming")
OUT = "out"  # every command makes this, in the folder of the attempt
REPO = "org/zoo"
MOVES = r"^(rename|renamed|remove|symlink) "  # of the Hub's client, for every file
RECIPE = """
name = "attacked"
description = "a few small MLPs"
images = "digits"
seed = 0
seeds = {models}
seed_kind = "random"
epochs = 2
checkpoints = [0, 2]

[architecture]
name = "mlp-12"
input_shape = [1, 28, 28]
layers = [
  {{ kind = "flatten" }},
  {{ kind = "linear", out = 12 }},
  {{ kind = "activation" }},
  {{ kind = "linear", out = 10 }},
]

[factors]
activation = "tanh"
init = "kaiming_uniform"
optimizer = "adam"
lr = {{ choice = [1e-3, 3e-3, 1e-2] }}
weight_decay = 0.0
dropout = 0.0
train_fraction = {{ choice = [0.05, 0.1] }}
batch_size = 32

[split]
train = 0.6
val = 0.2
test = 0.2
"""

Result = Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Command:
    """A command that is killed and given again.

    Attributes:
        name: the subcommand of `weightzoo`.
        arguments: what follows it; of the folder of inputs.
        result: digests by name of what it has left in the folder of the attempt.
        planned: first event of work, a regular expression.
        worked: last event of work.
        moved: first event of renaming, after the work.
        unit: event that vouches for a piece of work, which is not done again; None if none is.
        replaces: whether it is also given with --overwrite over a zoo that is there.
    """

    name: str
    arguments: Callable[[Path], Sequence[str]]
    result: Callable[[Path], Result]
    planned: str
    worked: str
    moved: str
    unit: str | None = None
    replaces: bool = True

    def line(self, inputs: Path, overwrite: bool = False) -> list[str]:
        """The whole command line after `weightzoo`."""
        return [self.name, *self.arguments(inputs), *(["--overwrite"] if overwrite else [])]

    def stages(self, events: Sequence[str]) -> list[str]:
        """The stage of every event of an undisturbed run.

        Raises:
            ValueError: if an event that separates stages does not occur.
        """
        first = _positions(events, self.planned)[0]
        if self.moved == MOVES:
            return _stages_of_files(events, first)
        end = _positions(events, self.worked)[-1]
        moves = [place for place in _positions(events, self.moved) if place > end]
        bounds = (first, end + 1, moves[0], len(events))
        return [STAGES[sum(place >= bound for bound in bounds[:3])] for place in range(len(events))]


def _stages_of_files(events: Sequence[str], first: int) -> list[str]:
    """Stages where every file is renamed when it is whole, while others are still worked on."""
    moves = [place for place in _positions(events, MOVES) if place >= first]
    after = ["finishing" if place > moves[-1] else "working" for place in range(len(events))]
    stages = ["planning"] * first + after[first:]
    return ["renaming" if place in moves else stage for place, stage in enumerate(stages)]


def _positions(events: Sequence[str], pattern: str) -> list[int]:
    found = [place for place, event in enumerate(events) if re.search(pattern, event)]
    if not found:
        raise ValueError(f"no event matches {pattern!r}")
    return found


def zoo_result(folder: Path) -> Result:
    """Columns and weights of every file of a zoo, byte for byte, and the names of all files.

    Raises:
        AssertionError: if the index contradicts the files.
    """
    from weightzoo.zoos.index import ZooIndex, file_sha256

    out = folder / OUT
    index = ZooIndex.read(out)
    found = {name: "" for name in left_over(folder)}
    found |= {f"{OUT}/{path.relative_to(out)}": "" for path in out.rglob("*")}
    for file, shard in zip(index.open(out), index.shards, strict=True):
        assert file_sha256(file.path) == shard.sha256, f"{file.path} is not as listed"
        for name, column in file.read_columns().items():
            found[f"{shard.path}:{name}"] = _digest(repr(column.tolist()).encode())
        found[f"{shard.path}:weights"] = _digest(file.map_weights().tobytes())
    return found


def left_over(folder: Path) -> list[str]:
    """Files and folders that an attempt left besides its result."""
    return sorted(path.name for path in folder.iterdir() if path.name != OUT)


def model_result(folder: Path) -> Result:
    """Tensors of a trained encoder, and its config without times."""
    from safetensors.numpy import load_file

    out = folder / OUT
    tensors = load_file(out / "model.safetensors")
    found = {name: _digest(tensor.tobytes()) for name, tensor in tensors.items()}
    config = json.loads((out / "config.json").read_text())
    for epoch in config["training"]["history"]:
        epoch.pop("seconds")
    names = [*left_over(folder), *(f"{OUT}/{path.name}" for path in out.iterdir())]
    return found | dict.fromkeys(names, "") | {"config": json.dumps(config, sort_keys=True)}


def pulled_result(folder: Path) -> Result:
    """Files of the zoo in the client's cache."""
    from huggingface_hub import constants

    files = [*Path(constants.HF_HUB_CACHE).rglob("snapshots/*/*/*")]
    return {file.name: _digest(file.read_bytes()) for file in files if file.suffix != ".checked"}


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _zoo(name: str, arguments: Callable[[Path], Sequence[str]], **own: str | None) -> Command:
    """A command that trains a population."""
    shared: dict[str, str | None] = {
        "planned": r"^renamed plan\.json",
        "worked": r"^renamed cohort-",
        "moved": rf"^rename {OUT}",
        "unit": r"^renamed cohort-",
    }
    return Command(name=name, arguments=arguments, result=zoo_result, **(shared | own))  # type: ignore[arg-type]


ENGINE = ("--workers", "1", "--out", OUT)
COMMANDS = (
    _zoo("build", lambda inputs: [str(inputs / "recipe.toml"), *ENGINE]),
    _zoo(
        "import",
        lambda inputs: ["state-dicts", str(inputs / "checkpoints"), "--out", OUT],
        planned=r"^renamed plan\.json",
        worked=r"^fsync import\.jsonl",
        unit=r"^fsync import\.jsonl",
    ),
    _zoo(
        "sparsify",
        lambda inputs: [
            *(str(inputs / "parents"), "--method", "magnitude", "--epochs", "1", *ENGINE)
        ],
    ),
    _zoo(
        "finetune",
        lambda inputs: [
            *(str(inputs / "parents"), "--images", "glyphs-digits", "--epochs", "1", *ENGINE)
        ],
    ),
    Command(
        name="train",
        arguments=lambda inputs: [
            *("flat-mlp", str(inputs / "parents"), "--epochs", "4", "--out", OUT)
        ],
        result=model_result,
        planned=r"^write checkpoint",
        worked=r"^renamed checkpoint\.pt",
        moved=r"^rename config\.json",
        unit=r"^renamed checkpoint\.pt",
        replaces=False,
    ),
    _zoo(
        "sample",
        lambda inputs: [str(inputs / "autoencoder"), "--count", "8", "--out", OUT],
        planned=rf"^mkdir {OUT}",
        worked=r"^renamed .*\.h5",
        unit=None,
    ),
    Command(
        name="push",
        arguments=lambda inputs: [str(inputs / "parents"), REPO],
        result=dict,
        planned=r"^send POST .*/preupload/",
        worked=r"^send POST /verify",
        moved=r"^send GET .*/refs",
        unit=r"^send PUT /lfs/",
        replaces=False,
    ),
    Command(
        name="pull",
        arguments=lambda inputs: [REPO],
        result=pulled_result,
        planned=r"^send HEAD .*/resolve/.*\.h5",
        worked=r"^(receive|send)",
        moved=MOVES,
        unit=r"^send GET /lfs/",
        replaces=False,
    ),
)
