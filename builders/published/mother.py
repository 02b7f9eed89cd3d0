"""Model graphs of MoTHer (Horwitz et al. 2024, arXiv 2405.18432): repositories with their parents.

The published sets have a pickle `<split>_model_graph.pkl`: trees of nodes with `component_id` (the
tree), `depth`, the image set, the seed, the rank of a LoRA that was merged, and `model_path`, a
repository on the Hugging Face Hub. The classes of the pickle are read as stubs; none is imported.
A folder beside the pickle with the last part of a repository's name is taken in place of it.

The edges become the columns of lineage: a child is fine-tuned from its parent, and gets its split.
No licence of the data is stated in the published repository; the column `licence` holds what each
model's card says, or "none stated".
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ...zoos.errors import BuildError
from ..checkpoints.archives import Source
from ..checkpoints.unpickling import Stub
from ..checkpoints.unreadable import UnreadableFileError, shown
from ..importing.models import UNKNOWN_SEED, Parent, Scan, whole
from .hub import HubReader

ENDING = "_model_graph.pkl"
MOST_NODES = 100_000
_COLUMNS = {  # attribute of a node: column
    "component_id": "tree",
    "depth": "tree_depth",
    "dataset_name": "images",
    "num_classes": "classes",
    "lora_rank": "lora_rank",
}


class MotherReader(HubReader):
    """Reads the repositories that a model graph names."""

    stubs = ("model_graph", "model_graph_lora")

    def __init__(self, source: Source) -> None:
        """Read from `source`."""
        super().__init__(source)
        self._nodes: dict[str, tuple[dict[str, Any], str]] = {}

    def scan(self) -> Scan:
        """Read the graph, fetch missing repositories, and set the parents."""
        self._nodes = self._graph()
        scan = super().scan()
        for model in scan.models:
            facts, parent = self._nodes[model.name]
            model.properties |= {c: facts[name] for name, c in _COLUMNS.items() if name in facts}
            model.seed = whole(facts.get("seed"), UNKNOWN_SEED)
            if parent:
                model.parent = Parent("fine-tuned", parent)
                model.properties["parent_model_name"] = parent
            else:
                model.properties["parent_model_name"] = ""
        return scan

    def _entries(self) -> Iterator[tuple[str, str, Path | None]]:
        folder = self.source.path if self.source.path.is_dir() else self.source.path.parent
        for name in self._nodes:
            local = folder / name.rpartition("/")[2]
            yield name, name, local if local.is_dir() else None

    def _graph(self) -> dict[str, tuple[dict[str, Any], str]]:
        """Facts and name of the parent ("" for roots) of every model, by its repository.

        Raises:
            BuildError: if there is no pickle of a graph, or it is damaged.
        """
        files = [name for name in self.source.names if name.endswith(ENDING)]
        if len(files) != 1:
            raise BuildError(
                f"{self.source.path} must hold one file of the name *{ENDING}, it has {files}"
            )
        try:
            roots = _state(self.open_file(files[0]).root).get("roots")
            found = dict(_walk(roots))
        except UnreadableFileError as error:
            where = f"{self.source.path}: {files[0]}"
            raise BuildError(f"{where} is no graph of models: {error}") from error
        if not found:
            raise BuildError(f"{self.source.path}: {files[0]} has no models")
        return found


def _walk(roots: Any) -> Iterator[tuple[str, tuple[dict[str, Any], str]]]:
    """(repository, (facts, parent)) of all nodes, from the roots down."""
    waiting = [(node, "") for node in reversed(roots if isinstance(roots, list) else [])]
    seen: set[str] = set()
    while waiting:
        node, parent = waiting.pop()
        state = _state(node)
        facts = _state(state.get("metadata"))
        name = facts.get("model_path")
        if not isinstance(name, str) or not name:
            raise UnreadableFileError(f"a node has no model_path, but {shown(sorted(facts))}")
        if name in seen or len(seen) >= MOST_NODES:
            raise UnreadableFileError(f"{shown(name)} is in the graph twice, or it is too large")
        seen.add(name)
        yield name, ({k: v for k, v in facts.items() if isinstance(v, str | int | float)}, parent)
        waiting += [(child, name) for child in reversed(state.get("children") or [])]


def _state(stub: Any) -> Mapping[str, Any]:
    """Attributes of an object of a pickle."""
    state = stub.state if isinstance(stub, Stub) else None
    if not isinstance(state, Mapping):
        raise UnreadableFileError(f"a {type(stub).__name__} stands where a node should")
    return state
