"""The example of an own zoo runs, and what it publishes is read by stock `datasets`."""

from pathlib import Path

from hub_client import HubClient
from hub_server import HubServer

from weightzoo import load_zoo
from weightzoo.tasks.inspection.verification import verify_zoo

SCRIPT = Path(__file__).parents[1] / "examples" / "own_zoo.py"
RUN = """
import runpy
scope = runpy.run_path(path)
rows = scope["load_dataset"]("me/edited", split="train")
result = [len(rows), rows["owner"][0], scope["predictor"].predict(scope["edited"]["test"]).tolist()]
"""


PLAIN = """
import warnings
from torch import nn
from weightzoo import load_zoo, write_zoo
from weightzoo.loaders.hub.publishing import push_to_hub
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    states = [nn.Linear(3, 2).state_dict() for _ in range(4)]
    write_zoo("plain", states, {"owner": list("abab")}, name="plain", licence="mit")
push_to_hub("plain", "me/plain")
pulled = load_zoo("me/plain", split="train")
result = [str(caught[0].message), pulled["owner"], list(pulled.state_dict(0))]
"""


def code_lines(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.strip() and not line.startswith('"""')]


def test_example_has_at_most_25_lines() -> None:
    assert 15 < len(code_lines(SCRIPT.read_text())) <= 25


def test_guide_shows_the_example() -> None:
    guide = (SCRIPT.parents[1] / "docs" / "training_loop.md").read_text()
    shown = guide.split("```py\n")[1].split("```")[0]
    assert shown == SCRIPT.read_text().split('"""\n\n')[1]


def test_example_runs_from_training_to_the_published_dataset(tmp_path: Path) -> None:
    with HubServer() as hub, HubClient(hub.endpoint, tmp_path) as client:
        rows, owner, predicted = client.run(RUN, path=SCRIPT)
        note, owners, tensors = client.run(PLAIN)
    assert "state dicts only" in note and tensors == ["weight", "bias"]
    assert set(owners) <= {"a", "b"} and len(owners) == 3
    mine, edited = load_zoo(tmp_path / "mine"), load_zoo(tmp_path / "edited")
    assert sum(len(part) for part in mine.values()) == 20
    assert (rows, owner, len(predicted)) == (len(edited["train"]), "me", len(edited["test"]))
    assert edited["train"].module(0) is not None
    assert all(check.passed is not False for check in verify_zoo(tmp_path / "edited"))
