import hashlib
import json
import re
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from weightzoo.builders import fetching
from weightzoo.builders.catalogue import CATALOGUE, HOSTS, PublishedZoo, published_zoo
from weightzoo.builders.fetching import fetch_published
from weightzoo.builders.imports import FORMATS
from weightzoo.zoos.errors import BuildError, ZooNotFoundError

DATA = bytes(range(256)) * 4000


class Server:
    """Serves one file with ranges, and a Zenodo record of it; `cut` ends a reply early."""

    def __init__(self) -> None:
        self.ranges: list[str | None] = []
        self.cut = 0
        self.data = DATA
        self.md5 = hashlib.md5(DATA).hexdigest()
        server = self

        class Handler(BaseHTTPRequestHandler):
            """Replies of the server."""

            def log_message(self, format: str, *args: object) -> None:
                """Nothing."""

            def do_GET(self) -> None:
                if self.path.startswith("/records/"):
                    links = {"self": f"{server.url}/zoo.zip"}
                    row = {"key": "zoo.zip", "size": len(DATA), "links": links}
                    row["checksum"] = f"md5:{server.md5}"
                    body = json.dumps({"files": [row, row | {"key": "other.zip"}]}).encode()
                    return self.reply(200, body, len(body))
                wanted = self.headers.get("Range")
                server.ranges.append(wanted)
                start = int(re.findall(r"\d+", wanted)[0]) if wanted else 0
                body = server.data[start:]
                sent = body[: server.cut] if server.cut else body
                server.cut = 0
                self.reply(206 if wanted else 200, sent, len(body))

            def reply(self, status: int, body: bytes, length: int) -> None:
                self.send_response(status)
                self.send_header("Content-Length", str(length))
                self.end_headers()
                self.wfile.write(body)

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    made = Server()
    monkeypatch.setattr(fetching, "ZENODO_API", f"{made.url}/records")
    yield made
    made.close()


def zoo(**changes: Any) -> PublishedZoo:
    record = published_zoo("cnn-wild-park")
    return replace(record, **{"files": ("zoo.zip",), **changes})


def test_fetch_reads_the_record_and_the_wanted_file(server: Server, tmp_path: Path) -> None:
    (path,) = fetch_published(zoo(), tmp_path / "in", progress=False)
    assert path.read_bytes() == DATA and path.name == "zoo.zip"
    assert fetch_published(zoo(), tmp_path / "in", progress=False) == [path]
    assert server.ranges == [None]  # a complete file is not fetched again


def test_broken_download_goes_on_where_it_ended(server: Server, tmp_path: Path) -> None:
    server.cut = 300_000
    with pytest.raises(BuildError, match="run the command again"):
        fetch_published(zoo(), tmp_path, progress=False)
    assert [file.name for file in tmp_path.iterdir()] == ["zoo.zip.part"]
    (path,) = fetch_published(zoo(), tmp_path, progress=False)
    assert path.read_bytes() == DATA and server.ranges == [None, "bytes=300000-"]


def test_damaged_download_is_removed(server: Server, tmp_path: Path) -> None:
    server.data = DATA[:-1] + b"x"
    with pytest.raises(BuildError, match="arrived damaged"):
        fetch_published(zoo(), tmp_path, progress=False)
    assert list(tmp_path.iterdir()) == []


def test_plain_address_is_fetched_under_its_name(server: Server, tmp_path: Path) -> None:
    plain = zoo(host="http", address=(f"{server.url}/mnist.tar.xz",), files=())
    (path,) = fetch_published(plain, tmp_path, progress=False)
    assert (path.name, path.read_bytes()) == ("mnist.tar.xz", DATA)


def test_zoo_without_an_address_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="follow https://.*by hand.*weightzoo import inr-pth"):
        fetch_published(published_zoo("navon-inrs"), tmp_path)


def test_unknown_zoo_gets_a_hint() -> None:
    with pytest.raises(ZooNotFoundError, match="cnn-wild-park"):
        published_zoo("cnn-wildpark")


def test_catalogue_is_consistent() -> None:
    names = [one.name for one in CATALOGUE]
    assert len(set(names)) == len(names) >= 25
    for one in CATALOGUE:
        assert one.host in HOSTS and one.page.startswith("https://")
        assert one.format in ("", *FORMATS) and one.licence and one.paper
