"""Publish to and fetch from a Hub on the loopback, with the real client and with faults.

`huggingface_hub` reads its environment when it is imported, so all of its work is done by a
second process, `client`; see `hub_server.py`.
"""

import hashlib
import json
import re
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest
import yaml
from hub_client import HubClient, RemoteError  # noqa: E402
from hub_server import HubServer, blob  # noqa: E402
from make_tiny_zoo import make_tiny_zoo  # noqa: E402

from weightzoo.loaders import load_zoo  # noqa: E402
from weightzoo.loaders.hub.fetching import is_hub_path  # noqa: E402
from weightzoo.zoos.format import open_zoo_file
from weightzoo.zoos.index import ZooIndex  # noqa: E402

QUICK = "import weightzoo.zoos.hub.requests as r; r.FIRST_WAIT_SECONDS = 0.01\n"
FETCH = (
    QUICK + "from weightzoo.loaders.hub.fetching import fetch_zoo; "
    "result = str(fetch_zoo(**options))"
)
PUSH = (
    QUICK + "from weightzoo.loaders.hub.publishing import push_to_hub; "
    "result = push_to_hub(**options)"
)
STOCK = """
from datasets import load_dataset
data = load_dataset(repo, name, cache_dir=cache, streaming=streaming)
result = {}
for split, rows in data.items():
    rows = rows.with_format("arrow")
    rows = list(rows.iter(1000)) if streaming else [rows[:]]
    result[split] = {c: sum((t[c].to_pylist() for t in rows), []) for c in rows[0].column_names}
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Zoos to copy: making one takes longer than most tests here."""
    folder = tmp_path_factory.mktemp("made")
    make_tiny_zoo(folder / "tiny")
    make_tiny_zoo(folder / "sharded", train_shards=2)
    return folder


@pytest.fixture
def tiny_zoo(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made / "tiny", tmp_path / "zoos" / "tiny"))


@pytest.fixture
def sharded_zoo(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made / "sharded", tmp_path / "sharded"))


@pytest.fixture
def repo(hub: HubServer, request: pytest.FixtureRequest, tiny_zoo: Path) -> str:
    """A repo of this test's own, which holds the zoo "tiny" on main, without card or tag."""
    name = f"org/{hashlib.sha1(request.node.name.encode()).hexdigest()[:12]}"
    hub.add_repo(name, tiny_zoo.parent)
    hub.forget()
    return name


@pytest.fixture
def new_repo(repo: str, hub: HubServer) -> str:
    """The name of a repo that does not exist yet."""
    del hub.repos[repo]
    return repo


@pytest.fixture
def fetch(client: HubClient, repo: str, tmp_path: Path) -> Callable[..., Path]:
    """`fetch_zoo` of this test's repo, by the client, into this test's own cache."""

    def run(**options: Any) -> Path:
        options = {"repo": repo, "cache_dir": str(tmp_path / "cache")} | options
        return Path(client.run(FETCH, options=options))

    return run


@pytest.fixture
def push(client: HubClient, repo: str) -> Callable[..., str]:
    """`push_to_hub` to this test's repo, by the client."""

    def run(folder: Path, **options: Any) -> str:
        return client.run(PUSH, options={"folder": str(folder), "repo_id": repo} | options)

    return run


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix != ".checked"}


def card(hub: HubServer, repo: str) -> tuple[dict[str, Any], str]:
    """Metadata and text of the card on main."""
    _, metadata, body = hub.repos[repo].files["README.md"].data.decode().split("---\n", 2)
    return yaml.safe_load(metadata), body


def change_index(hub: HubServer, repo: str, **changes: Any) -> None:
    data = json.loads(hub.repos[repo].files["tiny/zoo.json"].data) | changes
    hub.repos[repo].commit({"tiny/zoo.json": blob("zoo.json", json.dumps(data).encode())})


def test_round_trip_gives_equal_bytes(
    hub: HubServer, push: Any, fetch: Any, new_repo: str, sharded_zoo: Path
) -> None:
    commit = push(sharded_zoo)
    assert hub.repos[new_repo].tags == {"v1.1": commit}
    folder = fetch()
    here = files(sharded_zoo)
    del here["README.md"]
    assert files(folder) == here
    for split, rows in load_zoo(folder).items():
        assert rows.weights().equal(load_zoo(sharded_zoo, split=split).weights())


def test_load_zoo_reads_a_repo(
    client: HubClient, repo: str, tiny_zoo: Path, tmp_path: Path
) -> None:
    code = "from weightzoo import load_zoo; zoo = load_zoo(repo, 'tiny', split='train[:1]')\n"
    rows = client.run(code + "result = zoo.weights().tolist()", repo=repo)
    assert rows == load_zoo(tiny_zoo, split="train")[:3]["weights"].tolist()


@pytest.mark.parametrize("streaming", [False, True])
def test_stock_load_dataset_reads_a_published_repo(
    streaming: bool, client: HubClient, push: Any, new_repo: str, sharded_zoo: Path, tmp_path: Path
) -> None:
    push(sharded_zoo)
    options = {"repo": new_repo, "name": "tiny", "streaming": streaming}
    stock = client.run(STOCK, cache=tmp_path / "cache", **options)
    assert list(stock) == ["train", "validation", "test"]
    for split, columns in stock.items():
        ours = load_zoo(sharded_zoo, split=split).with_format("numpy")[:]
        assert list(columns) == list(ours)
        assert {name: ours[name].tolist() for name in ours} == columns


def test_fetch_takes_only_the_files_of_the_split(fetch: Any, hub: HubServer) -> None:
    folder = fetch(split="validation")
    assert set(files(folder)) == {"zoo.json", "validation-00000-of-00001.h5"}
    assert hub.count("GET /lfs/") == 1
    assert len(load_zoo(folder, split="val")) == 3


def test_fetch_again_downloads_nothing(fetch: Any, hub: HubServer) -> None:
    folder = fetch()
    hub.requests.clear()
    assert fetch() == folder
    assert hub.count("GET .*(lfs|resolve)") == 0


def test_fetch_reads_a_flat_repo(fetch: Any, hub: HubServer, repo: str, tiny_zoo: Path) -> None:
    hub.add_repo(repo, tiny_zoo)
    assert files(fetch(split="test")).keys() == {"zoo.json", "test-00000-of-00001.h5"}
    assert fetch(name="tiny") == fetch()
    with pytest.raises(RemoteError, match="ValueError: .* holds the zoo 'tiny' only, got .*'big'"):
        fetch(name="big")


def test_fetch_takes_the_tag_of_the_format_before_main(
    fetch: Any, hub: HubServer, repo: str
) -> None:
    remote = hub.repos[repo]
    remote.tags = {"v1.0": "0" * 40, "v1.2": remote.main, "v2.0": "0" * 40, "v1.x": "0" * 40}
    tagged = remote.main
    change_index(hub, repo, format_version="2.0")
    assert fetch().parent.name == tagged
    assert fetch(repo=f"hf://datasets/{repo}@v1.2/tiny").parent.name == tagged
    with pytest.raises(RemoteError, match="format version '2.0', this weightzoo reads 1.x"):
        fetch(revision="main")


def test_fetch_lists_the_zoos_if_the_name_is_not_one(
    fetch: Any, hub: HubServer, repo: str, tiny_zoo: Path
) -> None:
    hub.add_repo(repo, shutil.copytree(tiny_zoo, tiny_zoo.parent / "other").parent)
    for name in ("big", None):
        with pytest.raises(RemoteError, match=r"^ValueError: .* \['other', 'tiny'\].* got"):
            fetch(name=name)
    assert fetch(name="other").name == "other"


def test_fetch_names_what_there_is_of_splits_and_revisions(fetch: Any) -> None:
    with pytest.raises(RemoteError, match=r"^ValueError: split must be .*'val'.* got 'dev'"):
        fetch(split="dev")
    with pytest.raises(RemoteError, match=r"^ValueError: .* no revision 'v9': .*\['main'\]"):
        fetch(revision="v9")
    with pytest.raises(RemoteError, match=r"^ValueError: repo must be 'org/name' .* got 'a/b/c/d'"):
        fetch(repo="a/b/c/d")


def test_fetch_of_a_repo_without_a_zoo_says_so(fetch: Any, hub: HubServer, repo: str) -> None:
    hub.repos[repo].commit({"tiny/zoo.json": None, "a/b/zoo.json": blob("zoo.json", b"{}")})
    with pytest.raises(RemoteError, match="^ZooNotFoundError: .* holds no zoo: .* zoo.json"):
        fetch()
    with pytest.raises(RemoteError, match="^ZooNotFoundError: no data set 'org/none' on the Hub"):
        fetch(repo="org/none")


def test_fetch_of_a_private_repo_needs_a_token(fetch: Any, hub: HubServer, repo: str) -> None:
    hub.repos[repo].private = True
    with pytest.raises(RemoteError, match="^ZooNotFoundError: .* or you have no access to it"):
        fetch(token="hf_wrong")
    assert len(files(fetch())) == 4


def test_fetch_names_a_file_that_the_repo_lacks(fetch: Any, hub: HubServer, repo: str) -> None:
    hub.repos[repo].commit({"tiny/test-00000-of-00001.h5": None})
    with pytest.raises(RemoteError, match="^ZooNotFoundError: .* lacks a file .*test-00000"):
        fetch()
    assert len(load_zoo(fetch(split="train"), split="train")) == 6


@pytest.mark.parametrize("path", ["/refs", "/revision/", "/zoo.json", "/lfs/"])
def test_fetch_survives_503(
    path: str, fetch: Any, hub: HubServer, sharded_zoo: Path, tiny_zoo: Path
) -> None:
    hub.fail("GET", path, times=3, status=503)
    folder = fetch()
    assert hub.faults[0].times == 0
    assert ZooIndex.read(folder) == ZooIndex.read(tiny_zoo)
    assert files(tiny_zoo).items() >= files(folder).items()


def test_fetch_reports_a_server_that_stays_down(fetch: Any, hub: HubServer) -> None:
    hub.fail("GET", "/lfs/", times=1000, status=503)
    with pytest.raises(RemoteError, match="^HubError: the Hub failed .* call again later.*503"):
        fetch(split="train")
    hub.faults.clear()
    assert len(load_zoo(fetch(split="train"), split="train")) == 6


def test_fetch_goes_on_where_the_connection_broke(
    fetch: Any, hub: HubServer, client: HubClient, tiny_zoo: Path
) -> None:
    """The client goes on at the last whole chunk, of 10 MB unless told."""
    name = "train-00000-of-00001.h5"
    client.run("import huggingface_hub.constants as c; c.DOWNLOAD_CHUNK_SIZE = 8192")
    hub.fail("GET", "/lfs/", truncate=True)
    folder = fetch(split="train")
    assert hub.count("GET /lfs/.* bytes=8192-$") == hub.count("GET /lfs/") - 1 == 1
    assert files(folder)[name] == (tiny_zoo / name).read_bytes()


@pytest.mark.parametrize("path", ["/lfs/", "/zoo.json"])
@pytest.mark.parametrize("fault", ["corrupt", "shorten"])
def test_fetch_replaces_wrong_bytes(
    fault: str, path: str, fetch: Any, hub: HubServer, tiny_zoo: Path
) -> None:
    hub.fail("GET", path, **{fault: True})
    assert files(tiny_zoo).items() >= files(fetch()).items()
    assert hub.faults[0].times == 0


@pytest.mark.parametrize("path", ["/lfs/", "/zoo.json"])
def test_fetch_never_keeps_wrong_bytes(
    path: str, fetch: Any, hub: HubServer, tmp_path: Path, tiny_zoo: Path
) -> None:
    hub.fail("GET", path, times=2, corrupt=True)
    with pytest.raises(RemoteError, match="^ZooFormatError: .* twice.*: call again"):
        fetch(split="train")
    kept = [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]
    assert not [path for path in kept if path.name == "train-00000-of-00001.h5"]
    assert files(tiny_zoo).items() >= files(fetch(split="train")).items()


def test_fetch_finds_a_cached_file_that_changed(fetch: Any, hub: HubServer, tiny_zoo: Path) -> None:
    path = fetch(split="train") / "train-00000-of-00001.h5"
    good = path.read_bytes()
    path.write_bytes(good[:-4] + b"\1\2\3\4")
    assert (fetch(split="train") / path.name).read_bytes() == good


def test_offline_uses_the_cache_and_makes_no_request(
    fetch: Any, hub: HubServer, repo: str, tmp_path: Path
) -> None:
    hub.repos[repo].tags["v1.0"] = hub.repos[repo].main
    folder = fetch(split="train")
    options = {"repo": repo, "cache_dir": str(tmp_path / "cache")}
    with HubClient(hub.endpoint, tmp_path, HF_HUB_OFFLINE="1") as offline:
        hub.requests.clear()
        assert offline.run(FETCH, options=options | {"split": "train"}) == str(folder)
        with pytest.raises(RemoteError, match="^HubError: cannot reach .* unset HF_HUB_OFFLINE"):
            offline.run(FETCH, options=options | {"split": "test"})
        with pytest.raises(
            RemoteError, match="^HubError: offline, .* no revision 'main' of org/no"
        ):
            offline.run(FETCH, options=options | {"repo": "org/no"})
    assert hub.requests == []


def timed(call: Callable[[], Any]) -> tuple[str, float]:
    """The error of a call in the client's process, and how many seconds it took."""
    start = time.monotonic()
    with pytest.raises(RemoteError) as error:
        call()
    return str(error.value), time.monotonic() - start


@pytest.mark.parametrize("header", ["seconds", "date", "limit of rate"])
def test_fetch_waits_as_long_as_the_server_asks(header: str, fetch: Any, hub: HubServer) -> None:
    date = formatdate(time.time() + 3, usegmt=True)  # whole seconds: 2 or more from now
    headers = {"seconds": {"Retry-After": "2"}, "date": {"Retry-After": date}}
    asked = headers.get(header, {"RateLimit": '"api";r=0;t=2'})
    stamps: list[float] = []
    noted: Callable[[], Any] = lambda: stamps.append(time.monotonic())  # noqa: E731
    hub.fail("GET", "/refs", status=429, headers=asked, before=noted)
    hub.fail("GET", "/refs", before=noted)
    assert len(files(fetch())) == 4
    assert 1.9 < stamps[1] - stamps[0] < 10


def test_fetch_says_at_once_if_the_server_asks_for_a_long_wait(fetch: Any, hub: HubServer) -> None:
    hub.fail("GET", "/refs", status=429, headers={"Retry-After": "86400"})
    message, seconds = timed(fetch)
    assert message.startswith("HubError: the Hub asks to wait 86400 seconds") and seconds < 10
    assert hub.count("GET .*/refs") == 1


@pytest.mark.parametrize("path", ["/refs", "/resolve/"])
def test_fetch_of_a_gated_repo_says_how_to_ask(
    path: str, fetch: Any, hub: HubServer, repo: str
) -> None:
    for method in ("GET", "HEAD"):
        hub.fail(method, path, times=9, status=403, headers={"X-Error-Code": "GatedRepo"})
    with pytest.raises(
        RemoteError, match=rf"^HubError: .* is gated.*{hub.endpoint}/datasets/{repo}"
    ):
        fetch()


@pytest.mark.parametrize("path", ["/refs", "/revision/", "/resolve/", "/lfs/"])
def test_fetch_names_the_page_of_a_captive_portal(path: str, fetch: Any, hub: HubServer) -> None:
    for method in ("GET", "HEAD"):
        hub.fail(method, path, times=9, page=True)
    with pytest.raises(RemoteError, match="^HubError: .* answered with a web page.*captive portal"):
        fetch()
    hub.forget()
    assert len(files(fetch())) == 4


NO_NETWORK = """
import socket
def nowhere(*arguments, **options):
    raise {error}
before, socket.getaddrinfo = socket.getaddrinfo, nowhere
from huggingface_hub.utils import close_session
close_session()
try:
    from weightzoo.loaders.hub.fetching import fetch_zoo
    fetch_zoo(**options)
finally:
    socket.getaddrinfo = before
"""


@pytest.mark.parametrize(
    "error",
    ["socket.gaierror(-3, 'Temporary failure in name resolution')", "OSError(101, 'unreachable')"],
)
def test_fetch_without_a_network_says_so_at_once(
    error: str, client: HubClient, repo: str, tmp_path: Path
) -> None:
    options = {"repo": repo, "cache_dir": str(tmp_path / "cache")}
    code = NO_NETWORK.replace("{error}", error)
    message, seconds = timed(lambda: client.run(code, options=options))
    assert message.startswith("HubError: no network: ") and "HF_HUB_OFFLINE=1" in message
    assert seconds < 3


SLOW = """
import weightzoo.zoos.hub.limits as limits
limits.SLOW_SECONDS, limits.READ_SECONDS = {}, {}
"""


@pytest.mark.parametrize("path", ["/refs", "/zoo.json", "/lfs/"])
def test_fetch_gives_up_on_a_server_that_sends_a_byte_now_and_then(
    path: str, client: HubClient, fetch: Any, hub: HubServer
) -> None:
    hub.fail("GET", path, times=99, drip=0.1)
    client.run(SLOW.format(1.0, 60.0))
    try:
        message, seconds = timed(lambda: fetch(split="train"))
    finally:
        client.run(SLOW.format(30.0, 60.0))
    assert re.match(r"HubError: the Hub sent \d+ bytes in \d+ seconds: call again", message)
    assert seconds < 15
    hub.forget()
    assert len(load_zoo(fetch(split="train"), split="train")) == 6


def test_fetch_calls_again_if_a_server_answers_nothing(
    client: HubClient, fetch: Any, hub: HubServer
) -> None:
    hub.fail("GET", "/refs", stall=30)
    client.run(SLOW.format(30.0, 0.5))
    try:
        assert len(files(fetch())) == 4
    finally:
        client.run(SLOW.format(30.0, 60.0))
    assert hub.count("GET .*/refs") == 2


def test_push_makes_a_card_with_configs_splits_features_and_plot(
    hub: HubServer, push: Any, new_repo: str, sharded_zoo: Path, tmp_path: Path
) -> None:
    plot = tmp_path / "any.png"
    plot.write_bytes(b"\x89PNG")
    push(sharded_zoo, plot=str(plot))
    metadata, body = card(hub, new_repo)
    (config,), (info,) = metadata["configs"], metadata["dataset_info"]
    assert (config["config_name"], config["default"], metadata["license"]) == (
        *("tiny", True),
        "cc-by-4.0",
    )
    assert config["data_files"][0]["path"][1] == "tiny/train-00001-of-00002.h5"
    counts = {split["name"]: split["num_examples"] for split in info["splits"]}
    assert counts == {"train": 12, "validation": 3, "test": 3}
    assert info["features"][-1] == {"name": "weights", "list": "float32", "length": 71}
    assert "![test accuracy of tiny](tiny/plot.png)" in body and "@misc{tiny," in body
    assert hub.repos[new_repo].files["tiny/plot.png"].data == b"\x89PNG"


def test_push_keeps_other_zoos_and_what_people_wrote(
    hub: HubServer, push: Any, new_repo: str, tiny_zoo: Path, sharded_zoo: Path
) -> None:
    ZooIndex(name="other", shards=ZooIndex.read(sharded_zoo).shards).write(sharded_zoo)
    push(sharded_zoo)
    old = hub.repos[new_repo].files["README.md"].data.decode()
    text = old.replace("pretty_name: ", "pretty_name: My ") + "\nWritten by hand.\n"
    hub.repos[new_repo].commit({"README.md": blob("README.md", text.encode())})
    push(tiny_zoo)
    metadata, body = card(hub, new_repo)
    assert [config["config_name"] for config in metadata["configs"]] == ["other", "tiny"]
    assert [config.get("default") for config in metadata["configs"]] == [True, None]
    features = [*load_zoo(tiny_zoo, split="test").columns, "weights"]
    for info in metadata["dataset_info"]:
        assert [feature["name"] for feature in info["features"]] == features
    assert metadata["pretty_name"].startswith("My ")
    assert body.count("## other") == body.count("## tiny") == body.count("Written by hand.") == 1
    assert {path.split("/")[0] for path in hub.repos[new_repo].files if "/" in path} == {
        *("other", "tiny")
    }


def test_push_of_a_folder_of_zoos_makes_a_config_of_each(
    hub: HubServer, push: Any, fetch: Any, new_repo: str, tiny_zoo: Path
) -> None:
    shutil.copytree(tiny_zoo, tiny_zoo.parent / "other")
    push(tiny_zoo.parent)
    assert [config["config_name"] for config in card(hub, new_repo)[0]["configs"]] == [
        *("other", "tiny")
    ]
    assert files(fetch(name="other")).keys() == files(tiny_zoo).keys() - {"README.md"}


def test_push_again_changes_nothing(
    hub: HubServer, push: Any, new_repo: str, tiny_zoo: Path
) -> None:
    commit = push(tiny_zoo)
    hub.requests.clear()
    assert push(tiny_zoo) == commit
    assert hub.count("PUT|/commit/|/tag/") == 0


def test_push_refuses_to_replace_other_data_unless_told(
    hub: HubServer, push: Any, new_repo: str, tiny_zoo: Path, sharded_zoo: Path
) -> None:
    first = push(sharded_zoo)
    with pytest.raises(RemoteError, match="^ValueError: .* other data as 'tiny'.*overwrite=True"):
        push(tiny_zoo)
    assert hub.repos[new_repo].main == first
    second = push(tiny_zoo, overwrite=True)
    held = {path for path in hub.repos[new_repo].files if path.endswith(".h5")}
    assert held == {f"tiny/{path.name}" for path in tiny_zoo.glob("*.h5")}
    assert hub.repos[new_repo].tags == {"v1.1": second}


@pytest.mark.parametrize("index", [b"", b"[]", b"{", b"\xff", b"[" * 200_000])
def test_push_takes_a_damaged_index_for_other_data(
    index: bytes, hub: HubServer, push: Any, repo: str, tiny_zoo: Path
) -> None:
    hub.repos[repo].commit({"tiny/zoo.json": blob("zoo.json", index)})
    with pytest.raises(RemoteError, match="^ValueError: .* other data as 'tiny'.*overwrite=True"):
        push(tiny_zoo)


@pytest.mark.parametrize("memory", ["[]", "[1]", "{", "[" * 200_000, '{"a.h5": 3}'])
def test_fetch_survives_a_damaged_list_of_checked_files(fetch: Any, memory: str) -> None:
    folder = fetch()
    (folder / "zoo.json.checked").write_text(memory)
    assert fetch() == folder
    assert "train-00000-of-00001.h5" in json.loads((folder / "zoo.json.checked").read_text())


def test_push_verifies_before_it_sends(
    hub: HubServer, push: Any, new_repo: str, tiny_zoo: Path
) -> None:
    path = tiny_zoo / "test-00000-of-00001.h5"
    data, offset = bytearray(path.read_bytes()), open_zoo_file(path).weights_offset
    data[offset : offset + 4] = b"\1\2\3\4"
    path.write_bytes(data)
    with pytest.raises(RemoteError, match="^ZooFormatError: .*test-00000.* differ .* checksums"):
        push(tiny_zoo)
    with pytest.raises(RemoteError, match="^ZooNotFoundError: no zoo at"):
        push(tiny_zoo.parent.parent / "nothing")
    assert hub.requests == []


def test_push_refuses_a_flat_or_public_repo_and_unfit_names(
    hub: HubServer, push: Any, repo: str, tiny_zoo: Path
) -> None:
    with pytest.raises(RemoteError, match="^ValueError: .* exists and is public"):
        push(tiny_zoo, private=True)
    hub.add_repo(repo, tiny_zoo)
    with pytest.raises(RemoteError, match="^ValueError: .* is one flat zoo folder"):
        push(tiny_zoo)
    ZooIndex(name="a b", shards=ZooIndex.read(tiny_zoo).shards).write(tiny_zoo)
    with pytest.raises(RemoteError, match="^ValueError: a zoo's name .* got 'a b'"):
        push(tiny_zoo)


def test_push_can_make_a_private_repo(
    hub: HubServer, push: Any, new_repo: str, tiny_zoo: Path
) -> None:
    push(tiny_zoo, private=True)
    assert hub.repos[new_repo].private
    with pytest.raises(
        RemoteError, match="^HubError: the Hub does not let you write .* you may not write here"
    ):
        push(tiny_zoo, repo_id="org/forbidden", token="hf_wrong")


def test_push_survives_503(hub: HubServer, push: Any, new_repo: str, tiny_zoo: Path) -> None:
    for path in ("/repos/create", "/preupload/", "/commit/", "/tag/"):
        hub.fail("POST", path, status=503)
    hub.fail("GET", "/api/datasets/", times=2, status=503)
    commit = push(tiny_zoo)
    assert [fault.times for fault in hub.faults] == [0] * 5
    assert hub.repos[new_repo].tags == {"v1.1": commit}


@pytest.mark.parametrize("rivals", [0, 1])
def test_push_of_many_files_takes_several_commits_and_tags_the_last(
    rivals: int, hub: HubServer, client: HubClient, push: Any, new_repo: str, sharded_zoo: Path
) -> None:
    def commit_something() -> None:
        hub.repos[new_repo].commit({"notes.md": blob("notes.md", b"x")})

    hub.fail("POST", "/commit/", skip=1, times=rivals, before=commit_something)
    limit = "import weightzoo.loaders.hub.publishing as p; p.FILES_PER_COMMIT = {}"
    client.run(limit.format(2))
    try:
        commit = push(sharded_zoo)
    finally:
        client.run(limit.format(1000))
    repo = hub.repos[new_repo]
    assert repo.tags == {"v1.1": commit} and repo.main == commit
    added = [set(repo.commits[one]) for one in repo.commits]
    assert [("tiny/zoo.json" in files, "README.md" in files) for files in added][-2:] == [
        (False, False),
        (True, True),
    ]
    for file in ZooIndex.read(sharded_zoo).shards:
        assert repo.files[f"tiny/{file.path}"].data == (sharded_zoo / file.path).read_bytes()
    assert hub.count("PUT /lfs/") == 4 and hub.count("POST /api/.*/commit/") == 3 + rivals


@pytest.mark.parametrize("rivals", [1, 2])
def test_push_onto_a_stale_parent_is_reported_and_tried_once_more(
    rivals: int, hub: HubServer, client: HubClient, push: Any, new_repo: str, tiny_zoo: Path
) -> None:
    def commit_something() -> None:
        text = hub.repos[new_repo].files.get("notes.md", blob("", b"")).data + b"x"
        hub.repos[new_repo].commit({"notes.md": blob("notes.md", text)})

    hub.fail("POST", "/commit/", times=rivals, before=commit_something)
    if rivals == 1:
        commit = push(tiny_zoo)
        assert hub.repos[new_repo].tags == {"v1.1": commit}
        assert {"notes.md", "README.md", "tiny/zoo.json"} <= set(hub.repos[new_repo].files)
        assert client.warnings == [
            f"{new_repo} changed while it was published; trying once more on top of the new commit"
        ]
    else:
        with pytest.raises(RemoteError, match="changed while it was published") as error:
            push(tiny_zoo)
        assert "HubError" in error.value.bases
        assert "README.md" not in hub.repos[new_repo].files and not hub.repos[new_repo].tags
    assert hub.count("PUT /lfs/") == 3


def test_push_that_fails_leaves_the_repo_as_it_was(
    hub: HubServer, push: Any, repo: str, tiny_zoo: Path
) -> None:
    before = hub.repos[repo].main
    hub.fail("POST", "/commit/", times=1000, status=500)
    with pytest.raises(RemoteError, match="^HubError: the Hub failed"):
        push(tiny_zoo)
    assert hub.repos[repo].main == before and not hub.repos[repo].tags


def test_the_server_notices_what_the_tests_rely_on(hub: HubServer, repo: str) -> None:
    """A count of requests, or of bytes that differ, would pass if nothing were ever seen."""
    hub.requests.append("GET /lfs/x bytes=3-")
    assert hub.count("GET /lfs/.* bytes=3-") == 1
    assert asdict(blob("a.h5", b"x"))["lfs"] and blob("a.h5", b"x").etag != blob("a.h5", b"y").etag


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("org/name", True),
        ("hf://datasets/org/name@v1.0/zoo", True),
        ("name", False),
        ("./org/name", False),
        ("../name", False),
        (Path("org/name"), False),
        ("/org/name", False),
    ],
)
def test_is_hub_path(path: str | Path, expected: bool) -> None:
    assert is_hub_path(path) is expected


def test_is_hub_path_prefers_what_lies_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "org" / "name").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert not is_hub_path("org/name")
