"""Trained models through a local Hub and the real client: pushed by one process, pulled again."""

import json
from pathlib import Path

import numpy as np
import pytest
from hub_client import HubClient, RemoteError
from hub_server import HubServer

from weightzoo.cli.main import main
from weightzoo.loaders import load_zoo
from weightzoo.tasks import from_pretrained

PUSH = """
from weightzoo.tasks import from_pretrained, push_to_hub
result = push_to_hub(from_pretrained(folder), repo, private=private)
"""
PULL = """
from weightzoo.loaders import load_zoo
from weightzoo.tasks import from_pretrained
model, test = from_pretrained(repo, revision=revision), load_zoo(zoo, split="test")
outputs = {"embed": model.embed(test).tolist(), "predict": model.predict(test).tolist()}
if hasattr(model, "encode"):
    outputs["decode"] = model.decode(model.encode(test)).tolist()
result = outputs
"""
LINE = """
import io
from contextlib import redirect_stdout, redirect_stderr
from weightzoo.cli.main import main
text = io.StringIO()
with redirect_stdout(text), redirect_stderr(text):
    status = main(line)
result = [status, text.getvalue()]
"""
TRAININGS = {
    "predictor": ["sne", "--set", "width=8"],
    "autoencoder": ["hyper-representation", "--set", "latent=4", "--set", "width=8"],
}


@pytest.fixture(scope="module", params=TRAININGS)
def model(
    request: pytest.FixtureRequest, trained_zoo: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    out = tmp_path_factory.mktemp("models") / request.param
    encoder, *options = TRAININGS[request.param]
    line = ["train", encoder, str(trained_zoo), "--epochs", "1", "--out", str(out), *options]
    assert main([*line, "--behaviour", "0"] if encoder != "sne" else line) == 0
    return out


def test_pushed_model_is_pulled_whole(
    model: Path, hub: HubServer, client: HubClient, trained_zoo: Path
) -> None:
    repo, test = f"org/{model.name}", load_zoo(trained_zoo, split="test")
    commit = client.run(PUSH, folder=model, repo=repo, private=False)
    assert hub.models[repo].main == commit and repo not in hub.repos
    assert {"README.md", "config.json", "model.safetensors"} <= set(hub.models[repo].files)
    assert hub.models[repo].files["model.safetensors"].lfs
    pulled = client.run(PULL, repo=repo, revision=None, zoo=trained_zoo)
    own = from_pretrained(model)
    assert np.allclose(pulled["embed"], own.embed(test), atol=1e-6)
    assert np.allclose(pulled["predict"], own.predict(test), atol=1e-6)
    if "decode" in pulled:
        decoded = own.decode(own.encode(test))  # type: ignore[union-attr]
        assert np.allclose(pulled["decode"], decoded, atol=1e-6)


def test_published_files_name_no_path_of_this_machine(
    model: Path, hub: HubServer, client: HubClient, trained_zoo: Path
) -> None:
    repo = f"org/{model.name}-paths"
    client.run(PUSH, folder=model, repo=repo, private=False)
    for path in ("config.json", "README.md"):
        assert str(trained_zoo.parent) not in hub.models[repo].files[path].data.decode()


def test_older_revision_of_a_pushed_model_is_pulled(
    model: Path, hub: HubServer, client: HubClient, trained_zoo: Path
) -> None:
    repo = f"org/{model.name}-twice"
    first = client.run(PUSH, folder=model, repo=repo, private=False)
    before = client.run(PULL, repo=repo, revision=None, zoo=trained_zoo)
    hub.models[repo].commit({"config.json": None})
    with pytest.raises(RemoteError, match=r"has no config.json"):
        client.run(PULL, repo=repo, revision=None, zoo=trained_zoo)
    assert client.run(PULL, repo=repo, revision=first, zoo=trained_zoo) == before


def test_commands_push_a_private_model_and_predict_with_it(
    model: Path, hub: HubServer, client: HubClient, trained_zoo: Path
) -> None:
    repo = f"me/{model.name}"
    status, text = client.run(LINE, line=["push", str(model), repo, "--private"])
    assert (status, text) == (0, f"{repo} at {hub.models[repo].main}\n")
    assert hub.models[repo].private
    status, text = client.run(LINE, line=["predict", repo, str(trained_zoo), "--json"])
    assert status == 0
    assert json.loads(text[text.index("{") :])["scores"]["test"]["rows"] > 0


def test_missing_model_repository_is_named(client: HubClient, trained_zoo: Path) -> None:
    with pytest.raises(RemoteError, match="ZooNotFoundError: .*org/nothing"):
        client.run(PULL, repo="org/nothing", revision=None, zoo=trained_zoo)
