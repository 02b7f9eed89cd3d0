"""Graphs of models as MoTHer pickles them, with local snapshots of the repositories."""

import importlib
import pickle
import sys
from pathlib import Path

import numpy as np
import pytest
from make_published_zoos import zoo_rows

from weightzoo.builders.imports import import_zoo
from weightzoo.zoos.errors import BuildError
from weightzoo.zoos.lineage import NO_PARENT

safetensors = pytest.importorskip("safetensors.numpy")

CLASSES = """
class ModelGraphNodeMetadata:
    def __init__(self, component_id, depth, dataset_name, seed, model_path):
        self.component_id, self.depth, self.dataset_name = component_id, depth, dataset_name
        self.num_classes, self.dataset_short_name, self.seed = 10, dataset_name, seed
        self.uuid, self.model_path = f"{component_id}{depth}{seed}", model_path

class ModelGraphNode:
    def __init__(self, parent, metadata, is_root=False, is_leaf=False):
        self.is_root, self.is_leaf, self.metadata = is_root, is_leaf, metadata
        self.children, self.parent = [], parent

    def __eq__(self, other):
        return self.metadata.uuid == other.metadata.uuid

class ModelGraph:
    def __init__(self, roots):
        self.roots = roots
"""


@pytest.fixture
def graph(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two trees of a root, two children and a grandchild; their module is gone afterwards."""
    (tmp_path / "code").mkdir()
    (tmp_path / "code/model_graph.py").write_text(CLASSES)
    monkeypatch.syspath_prepend(tmp_path / "code")
    code = importlib.import_module("model_graph")
    folder = tmp_path / "in"
    folder.mkdir()

    def node(parent: object, name: str, tree: int, depth: int, seed: int) -> object:
        facts = code.ModelGraphNodeMetadata(tree, depth, f"set{seed}", seed, f"MoTHer-VTHR/{name}")
        found = code.ModelGraphNode(parent, facts, is_root=parent is None)
        if parent is not None:
            parent.children.append(found)  # type: ignore[attr-defined]
        rng = np.random.default_rng(100 * tree + 10 * depth + seed)
        (folder / name).mkdir()
        values = {"head.weight": rng.normal(size=(2, 3)).astype(np.float32)}
        safetensors.save_file(values, folder / name / "model.safetensors")
        return found

    roots = []
    for tree in range(2):
        roots.append(node(None, f"t{tree}-root", tree, 0, 0))
        children = [node(roots[-1], f"t{tree}-child{i}", tree, 1, i) for i in range(2)]
        node(children[1], f"t{tree}-grandchild", tree, 2, 5)
    (folder / "full_ft_model_graph.pkl").write_bytes(pickle.dumps(code.ModelGraph(roots)))
    del sys.modules["model_graph"]
    (tmp_path / "code/model_graph.py").unlink()
    return folder


def test_edges_of_the_graph_become_lineage(graph: Path, tmp_path: Path) -> None:
    report = import_zoo("mother", graph, tmp_path / "out", progress=False)
    assert (report.models, report.refused) == (8, ())
    columns, _ = zoo_rows(tmp_path / "out")
    names = [str(name).rpartition("/")[2] for name in columns["model_name"]]
    of = dict(zip(columns["model_id"].tolist(), names, strict=True))
    parents = {
        name: of.get(parent, "")
        for name, parent in zip(names, columns["parent_model_id"].tolist(), strict=True)
    }
    assert parents["t0-root"] == "" and parents["t1-child0"] == "t1-root"
    assert parents["t0-grandchild"] == "t0-child1"
    roots = columns["tree_depth"] == 0
    assert set(columns["relation"][roots]) == {"trained"}
    assert set(columns["relation"][~roots]) == {"fine-tuned"}
    assert set(columns["parent_model_id"][roots]) == {NO_PARENT}
    assert columns["seed"][names.index("t1-grandchild")] == 5
    assert set(columns["licence"]) == {"none stated"}


def test_a_tree_is_in_one_split(graph: Path, tmp_path: Path) -> None:
    import_zoo("mother", graph, tmp_path / "out", progress=False)
    columns, _ = zoo_rows(tmp_path / "out")
    for tree in (0, 1):
        assert len(set(columns["split"][columns["tree"] == tree])) == 1


def test_other_pickles_are_refused(graph: Path, tmp_path: Path) -> None:
    (graph / "full_ft_model_graph.pkl").write_bytes(pickle.dumps({"roots": []}))
    with pytest.raises(BuildError, match="is no graph of models: a dict stands where"):
        import_zoo("mother", graph, tmp_path / "out", progress=False)
    (graph / "full_ft_model_graph.pkl").unlink()
    with pytest.raises(BuildError, match=r"must hold one file of the name \*_model_graph.pkl"):
        import_zoo("mother", graph, tmp_path / "out", progress=False)
