"""Where attacks take place: a folder, a Hub of its own, inputs, and commands in forked children."""

import importlib
import multiprocessing
import os
import pkgutil
import shutil
import sys
import tempfile
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

TESTS = Path(__file__).parents[1]
sys.path[:0] = [str(TESTS / "loaders"), str(TESTS / "data")]

from commands import OUT, RECIPE, REPO, Command, Result  # noqa: E402
from hub_server import TOKEN, HubServer  # noqa: E402
from processes import Ended, run_forked  # noqa: E402
from tracing import Stop, Trace, read_events  # noqa: E402

MODELS = 16
SLOW_IMPORTS = {  # by the command that needs them
    "train": ("torch._dynamo", "safetensors.torch", "scipy.stats"),
    "push": ("huggingface_hub", "matplotlib.figure", "matplotlib.backends.backend_agg"),
    "pull": ("huggingface_hub", "datasets"),
}


class Arena:
    """Runs commands of weightzoo, each attempt in a folder of its own.

    Attributes:
        folder: holds all.
        inputs: what the commands read; do not change.
    """

    def __init__(self, folder: Path, hub: Connection) -> None:
        """An arena without inputs.

        Args:
            folder: an empty folder.
            hub: to the process that serves the Hub.
        """
        self.folder, self.inputs, self._hub = folder, folder / "inputs", hub
        self.inputs.mkdir()

    def make_inputs(self, names: Collection[str]) -> None:
        """Make what the commands of these names read, with the commands themselves."""
        _import_libraries(names)
        (self.inputs / "recipe.toml").write_text(RECIPE.format(models=MODELS))
        self._make("build", "recipe.toml", "--workers", "1", "--out", "parents")
        if "sample" in names:
            small = ("--epochs", "1", "--set", "width=16", "--set", "blocks=1")
            line = ("train", "hyper-representation", "parents", "--out", "autoencoder")
            self._make(*line, *small, "--set", "latent=4")
        if "import" in names:
            self.fork(partial(_write_checkpoints, self.inputs), "checkpoints")

    def run(
        self, line: Sequence[str], attempt: Path, stop: Stop | float | None = None
    ) -> tuple[Ended, list[str]]:
        """Give a command in the folder of an attempt.

        Args:
            line: what follows `weightzoo`.
            attempt: the folder.
            stop: event before which something happens to the command, or seconds after which it
                is killed; None leaves it alone.

        Returns:
            How it ended, and its events.
        """
        log = self.folder / "events"
        log.unlink(missing_ok=True)
        seconds = stop if isinstance(stop, float) else None
        event = stop if isinstance(stop, Stop) else None

        def traced() -> int:
            trace = Trace(log, self.folder, event)
            trace.install()
            return _weightzoo(line, attempt, trace.note)

        ended = run_forked(traced, self.folder / "output", seconds)
        return ended, read_events(log)

    def fresh(self, command: Command, replace: Path | None = None) -> Path:
        """The folder of a new attempt; the Hub as the command needs it.

        Args:
            command: what will be given there.
            replace: zoo folder to put where the command makes its own.
        """
        attempt = self.folder / "attempt"
        shutil.rmtree(attempt, ignore_errors=True)
        shutil.rmtree(self.folder / "home" / "hub", ignore_errors=True)
        attempt.mkdir()
        if replace is not None:
            shutil.copytree(replace, attempt / OUT)
        self.hub("serve" if command.name == "pull" else "clear", str(self.inputs / "parents"))
        return attempt

    def result(self, command: Command, attempt: Path) -> Result:
        """What a command left."""
        return self.hub("tree") if command.name == "push" else command.result(attempt)

    def hub(self, *request: str) -> Any:
        """Ask the process of the Hub, see `_serve`."""
        self._hub.send(request)
        return self._hub.recv()

    def _make(self, *line: str) -> None:
        self.fork(partial(_weightzoo, line, self.inputs), " ".join(line))

    def fork(self, function: Callable[[], int], what: str) -> None:
        """Make an input in a child."""
        ended = run_forked(function, self.folder / "output")
        if ended.status != 0:
            raise RuntimeError(f"cannot make the input {what}: {ended.output}")


@contextmanager
def arena() -> Iterator[Arena]:
    """An arena in a temporary folder; before torch and the Hub's client are imported."""
    with tempfile.TemporaryDirectory(prefix="weightzoo-attacks-") as text:
        folder = Path(text).resolve()
        ours, theirs = multiprocessing.Pipe()
        server = multiprocessing.get_context("fork").Process(target=_serve, args=(theirs,))
        server.start()
        theirs.close()
        environment = {"HF_ENDPOINT": ours.recv(), "HF_HOME": str(folder / "home")}
        environment |= {"HF_TOKEN": TOKEN, "HF_HUB_DISABLE_XET": "1", "OMP_NUM_THREADS": "1"}
        environment |= {"HF_HUB_DISABLE_TELEMETRY": "1", "WEIGHTZOO_COMPILE": "0"}
        os.environ.update(environment)
        try:
            yield Arena(folder, ours)
        finally:
            ours.send(("stop",))
            server.join()


def _serve(pipe: Connection) -> None:
    """Serve a Hub: first its address goes through the pipe, then an answer to every request.

    Requests: "clear", "serve FOLDER" (as the one repository), "tree" (its files by digest, and
    its tags), "held" (uploads that arrived), "requests" (since the last clear), "stop".
    """
    with HubServer() as hub:
        hub._server.handle_error = lambda *_: None  # type: ignore[method-assign]  # killed clients
        pipe.send(hub.endpoint)
        while (request := pipe.recv())[0] != "stop":
            if request[0] in ("clear", "serve"):
                hub.forget()
                hub.repos.clear()
            if request[0] == "serve":
                hub.add_repo(REPO, Path(request[1]), "attacked/")
            answers: dict[str, Callable[[], Any]] = {
                "tree": lambda: _tree(hub),
                "held": lambda: sorted(hub.lfs),
                "requests": lambda: list(hub.requests),
            }
            pipe.send(answers.get(request[0], lambda: None)())


def _tree(hub: HubServer) -> Result:
    if (repo := hub.repos.get(REPO)) is None:
        return {}
    tags = {f"tag {tag}": str(sha == repo.main) for tag, sha in repo.tags.items()}
    return {path: blob.etag for path, blob in repo.files.items()} | tags


def _import_libraries(names: Collection[str]) -> None:
    """All that the commands import; nothing is computed, which would start threads."""
    import torch

    import weightzoo
    from weightzoo.zoos.images.catalog import load_images

    for module in (module for name in names for module in SLOW_IMPORTS.get(name, ())):
        importlib.import_module(module)
    for found in pkgutil.walk_packages(weightzoo.__path__, "weightzoo."):
        if found.name.split(".")[1] not in ("tests", "benchmarks"):
            importlib.import_module(found.name)
    torch.set_num_threads(1)
    for images in ("digits", "glyphs-digits"):
        load_images(images)


def _weightzoo(line: Sequence[str], folder: Path, note: Callable[[str], None] = print) -> int:
    """The command, as from a shell in a folder."""
    from weightzoo.cli.main import main

    os.chdir(folder)
    status = main(list(line))
    note("end")
    return status


def _write_checkpoints(inputs: Path) -> int:
    """Every model of the parents as a state dict, and a table of their properties."""
    import torch

    from weightzoo.loaders import load_zoo

    folder = inputs / "checkpoints"
    folder.mkdir()
    lines = ["file,model_name,epoch,test_accuracy,lr"]
    for dataset in load_zoo(str(inputs / "parents")).values():
        for row in range(len(dataset)):
            column = {name: values[row] for name, values in dataset.columns.items()}
            file = f"model{column['model_id']:03d}_epoch{column['epoch']}.pt"
            torch.save(dataset.module(row).state_dict(), folder / file)
            keys = (column["model_id"], column["epoch"], column["test_accuracy"], column["lr"])
            lines.append(",".join([file, "model{:03d},{},{},{}".format(*keys)]))
    (folder / "table.csv").write_text("\n".join(lines) + "\n")
    return 0
