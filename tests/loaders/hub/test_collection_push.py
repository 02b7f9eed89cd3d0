"""Publish a whole collection on a Hub on the loopback: its files, its card, and who may write."""

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hub_client import HubClient, RemoteError
from hub_server import HubServer, blob
from make_tiny_zoo import make_tiny_zoo

from weightzoo.loaders.hub.sums import SUMS_NAME, write_sums
from weightzoo.zoos.cards.card import collection_card
from weightzoo.zoos.cards.metadata import CARD_NAME

PUSH = (
    "import weightzoo.zoos.hub.requests as r; r.FIRST_WAIT_SECONDS = 0.01\n"
    "from weightzoo.loaders.hub.publishing import push_collection\n"
    "result = push_collection(**options)"
)
CONFIG = {"config_name": "tiny", "data_files": [{"split": "train", "path": "tiny/train-*.h5"}]}


@pytest.fixture
def collection(tmp_path: Path) -> Path:
    """A collection of one zoo, with a table, a licence and a card."""
    folder = tmp_path / "zoos"
    make_tiny_zoo(folder / "tiny")
    (folder / "table").mkdir()
    (folder / "table" / "table.h5").write_bytes(b"rows")
    (folder / "LICENSE").write_text("CC BY 4.0\n")
    list_files(folder)
    (folder / CARD_NAME).write_text(
        collection_card("zoos", "cc-by-4.0", [CONFIG], 12, "\n# Zoos\n")
    )
    return folder


def list_files(folder: Path) -> None:
    held = [path for path in folder.rglob("*") if path.is_file()]
    held = [path for path in held if path.name not in (SUMS_NAME, CARD_NAME)]
    sums = {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in held}
    write_sums(folder, sums)


@pytest.fixture
def repo(hub: HubServer, request: pytest.FixtureRequest) -> str:
    """The name of a repo that does not exist yet."""
    hub.forget()
    return f"org/{hashlib.sha1(request.node.name.encode()).hexdigest()[:12]}"


@pytest.fixture
def push(client: HubClient, repo: str, collection: Path) -> Callable[..., str]:
    def run(**options: Any) -> str:
        return client.run(PUSH, options={"folder": str(collection), "repo_id": repo} | options)

    return run


def test_push_publishes_listed_files_and_the_card_as_it_is_and_tags_last(
    hub: HubServer, push: Any, repo: str, collection: Path
) -> None:
    (collection / "notes.txt").write_text("not listed")
    commit = push()
    files = hub.repos[repo].files
    assert set(files) == {
        *(".gitattributes", CARD_NAME, SUMS_NAME, "LICENSE", "table/table.h5", "tiny/zoo.json"),
        *(f"tiny/{split}-00000-of-00001.h5" for split in ("train", "validation", "test")),
    }
    assert files[CARD_NAME].data == (collection / CARD_NAME).read_bytes()
    assert hub.repos[repo].tags == {"v1.1": commit}
    posts = [line for line in hub.requests if line.startswith("POST")]
    assert "/tag/" in posts[-1]


def test_push_again_sends_nothing(hub: HubServer, push: Any) -> None:
    commit = push()
    hub.requests.clear()
    assert push() == commit
    assert hub.count("PUT|/commit/|/tag/") == 0


def test_token_without_write_access_is_refused_before_any_upload(
    hub: HubServer, push: Any, repo: str
) -> None:
    for exists in (False, True):
        if exists:
            push()
            hub.lfs.clear()
            hub.repos[repo].commit({"tiny/test-00000-of-00001.h5": None})
        hub.requests.clear()
        with pytest.raises(RemoteError, match="^HubError: the Hub does not let you write to") as e:
            push(token="hf_wrong")
        assert "hf auth login" in str(e.value) and repo in str(e.value)
        assert hub.count("PUT") == 0 and hub.count("/commit/") == 0


def test_push_that_is_cut_continues_with_the_files_that_are_missing(
    hub: HubServer, push: Any, repo: str
) -> None:
    hub.fail("POST", "/commit/", times=9, status=500)
    with pytest.raises(RemoteError, match="^HubError: the Hub failed"):
        push()
    assert not hub.repos[repo].tags and CARD_NAME not in hub.repos[repo].files
    sent = hub.count("PUT /lfs/")
    hub.faults.clear()
    hub.requests.clear()
    commit = push()
    assert sent > 0 and hub.count("PUT /lfs/") == 0
    assert hub.repos[repo].tags == {"v1.1": commit}


def test_push_leaves_other_zoos_alone_unless_told(
    hub: HubServer, push: Any, repo: str, collection: Path
) -> None:
    push()
    hub.repos[repo].commit({"other/zoo.json": blob("zoo.json", b"{}"), "hand.md": blob("x", b"x")})
    with pytest.raises(RemoteError, match=r"^ValueError: .* holds the zoos \['other'\]"):
        push()
    push(overwrite=True)
    assert "other/zoo.json" not in hub.repos[repo].files and "hand.md" in hub.repos[repo].files


def test_push_refuses_other_data_under_the_same_name_unless_told(
    hub: HubServer, push: Any, repo: str, collection: Path
) -> None:
    push()
    shutil.rmtree(collection / "tiny")
    make_tiny_zoo(collection / "tiny", train_shards=2)
    list_files(collection)
    with pytest.raises(RemoteError, match="^ValueError: .* other data as 'tiny'"):
        push()
    push(overwrite=True)
    held = {path for path in hub.repos[repo].files if path.startswith("tiny/train")}
    assert held == {f"tiny/train-0000{part}-of-00002.h5" for part in (0, 1)}
