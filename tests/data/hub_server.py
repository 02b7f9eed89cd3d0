"""A small Hugging Face Hub in memory, on the loopback, for the real client to talk to.

It knows dataset and model repos: create, info, tree, paths, refs, tags, commits (with 412 on a
stale parent), files with ranges, and LFS uploads and downloads through a second host name, as the
Hub has it. Every request is logged; faults can be put in the way of chosen requests.
"""

import base64
import hashlib
import json
import re
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

TOKEN = "hf_test"
LFS_SUFFIXES = (".h5", ".f32", ".png", ".safetensors")
DATE = "2026-01-01T00:00:00.000Z"


@dataclass(frozen=True)
class Blob:
    """One file of a commit."""

    data: bytes
    lfs: bool

    @property
    def oid(self) -> str:
        """Git's name for the file's bytes (for an LFS file the Hub has its pointer's)."""
        return hashlib.sha1(b"blob %d\0" % len(self.data) + self.data).hexdigest()

    @property
    def etag(self) -> str:
        return hashlib.sha256(self.data).hexdigest() if self.lfs else self.oid


@dataclass
class Repo:
    """Commits, each a whole tree; branch `main`; tags."""

    private: bool = False
    commits: dict[str, dict[str, Blob]] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    main: str = ""

    def commit(self, changes: dict[str, Blob | None]) -> str:
        """Add or (None) delete files on main."""
        tree = self.commits.get(self.main, {}) | changes
        self.main = hashlib.sha1(f"{id(self)} {len(self.commits)}".encode()).hexdigest()
        self.commits[self.main] = {path: blob for path, blob in sorted(tree.items()) if blob}
        return self.main

    def resolve(self, revision: str) -> str | None:
        """The commit of a branch, tag or commit."""
        names = {"main": self.main, **self.tags, **{sha: sha for sha in self.commits}}
        return names.get(unquote(revision))

    @property
    def files(self) -> dict[str, Blob]:
        """The tree of main."""
        return self.commits[self.main]


@dataclass
class Fault:
    """What happens instead of an answer, to the next `times` requests that match.

    Attributes:
        method: GET, HEAD, POST, PUT.
        path: a regular expression searched in the path.
        times: how often.
        skip: so many are answered as usual first.
        status: answer with this error.
        truncate: drop the connection in the middle of the body.
        corrupt: flip a bit of the body.
        shorten: send half of the body as if it were all.
        before: called before the request is answered as usual.
        headers: of the answer with `status`.
        page: answer with a web page, as a captive portal does.
        drip: send the body byte by byte, so many seconds apart.
        stall: send nothing for so many seconds.
    """

    method: str
    path: str
    times: int = 1
    skip: int = 0
    status: int | None = None
    truncate: bool = False
    corrupt: bool = False
    shorten: bool = False
    before: Callable[[], Any] | None = None
    headers: dict[str, str] = field(default_factory=dict)
    page: bool = False
    drip: float = 0.0
    stall: float = 0.0


class HubServer:
    """The server; `with HubServer() as hub`."""

    def __init__(self) -> None:
        self.repos: dict[str, Repo] = {}  # of datasets
        self.models: dict[str, Repo] = {}
        self.lfs: dict[str, bytes] = {}
        self.requests: list[str] = []
        self.sent_bytes = 0
        self.faults: list[Fault] = []
        self.lock = threading.RLock()
        self.released = threading.Event()  # ends faults that take time
        hub = self

        class Handler(_Handler):
            """Requests to this server."""

            server_state = hub

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        self.endpoint = f"http://127.0.0.1:{self.port}"
        # another host name: the client must see that it leaves the Hub, and keep its token back
        self.storage = f"http://localhost:{self.port}"

    def __enter__(self) -> "HubServer":
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.released.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def forget(self) -> None:
        """Drop requests, faults and uploads so far; repos stay."""
        self.released.set()
        self.released = threading.Event()
        self.requests.clear()
        self.sent_bytes = 0
        self.faults.clear()
        self.lfs.clear()

    def add_repo(
        self, name: str, folder: Path | None = None, prefix: str = "", model: bool = False
    ) -> Repo:
        """Make a repo of a dataset or model as if someone had uploaded a folder by hand."""
        repo = (self.models if model else self.repos)[name] = Repo()
        files = [path for path in folder.rglob("*") if path.is_file()] if folder else []
        named = {prefix + path.relative_to(folder or path).as_posix(): path for path in files}
        repo.commit({path: blob(path, file.read_bytes()) for path, file in named.items()})
        return repo

    def fail(self, method: str, path: str, **fault: Any) -> None:
        """Put a fault in the way of the next requests that match."""
        self.faults.append(Fault(method, path, **fault))

    def count(self, pattern: str) -> int:
        """Requests so far whose "METHOD path [range]" matches."""
        return sum(re.search(pattern, request) is not None for request in self.requests)


def blob(path: str, data: bytes) -> Blob:
    return Blob(data, lfs=path.endswith(LFS_SUFFIXES))


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_state: HubServer

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: requests are kept in `HubServer.requests`."""

    def do_GET(self) -> None:
        hub, url = self.server_state, urlsplit(self.path)
        self.url, self.query = unquote(url.path), parse_qs(url.query)
        length = int(self.headers.get("Content-Length") or 0)
        self.body = self.rfile.read(length) if length else self._read_chunks()
        span = self.headers.get("Range", "")
        with hub.lock:
            hub.requests.append(f"{self.command} {self.url} {span}".strip())
        self.fault = self._take_fault()
        if self.fault and self.fault.before:
            self.fault.before()
        if self.fault and self.fault.stall:
            hub.released.wait(self.fault.stall)
        if self.fault and self.fault.page:
            return self._send(200, b"<html>Please log in</html>", {"Content-Type": "text/html"})
        if self.fault and self.fault.status:
            headers = self.fault.headers
            return self._error(self.fault.status, "injected fault", more=headers)
        for methods, pattern, answer in _ROUTES:
            match = re.fullmatch(pattern, self.url)
            if match and self.command in methods.split():
                answer(self, *match.groups())
                return
        self._error(404, f"no route for {self.command} {self.url}")

    do_HEAD = do_POST = do_PUT = do_DELETE = do_GET

    def _read_chunks(self) -> bytes:
        """A body of unknown length."""
        body = b""
        if self.headers.get("Transfer-Encoding") == "chunked":
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        return body

    def _take_fault(self) -> Fault | None:
        hub = self.server_state
        with hub.lock:
            for fault in hub.faults:
                matches = fault.method == self.command and re.search(fault.path, self.url)
                if matches and fault.skip:
                    fault.skip -= 1
                elif matches and fault.times:
                    fault.times -= 1
                    return fault
        return None

    def _send(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        if self.fault and self.fault.shorten:
            body = body[: len(body) // 2]
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        if not headers or "Content-Length" not in headers:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "HEAD":
            return
        if self.fault and self.fault.corrupt:
            body = bytes([body[0] ^ 1]) + body[1:]
        if self.fault and self.fault.truncate:
            body, self.close_connection = body[: len(body) // 2], True
        with self.server_state.lock:
            self.server_state.sent_bytes += len(body)
        if self.fault and self.fault.drip:
            return self._drip(body, self.fault.drip)
        self.wfile.write(body)

    def _drip(self, body: bytes, seconds: float) -> None:
        """Byte by byte, until the client leaves or the test ends."""
        with suppress(OSError):
            for place in range(len(body)):
                self.wfile.write(body[place : place + 1])
                if self.server_state.released.wait(seconds):
                    break
        self.close_connection = True

    def _json(self, data: Any, status: int = 200) -> None:
        self._send(status, json.dumps(data).encode(), {"Content-Type": "application/json"})

    def _error(
        self, status: int, text: str, code: str = "", more: dict[str, str] | None = None
    ) -> None:
        headers = {"X-Error-Message": text} | ({"X-Error-Code": code} if code else {})
        self._send(status, json.dumps({"error": text}).encode(), headers | (more or {}))

    def _authorised(self) -> bool:
        return self.headers.get("Authorization") == f"Bearer {TOKEN}"

    @property
    def _repos(self) -> dict[str, Repo]:
        """The repos of the kind that the path is about; a model's page has no prefix."""
        hub, is_dataset = self.server_state, re.match(r"(/api)?/datasets/", self.url)
        return hub.repos if is_dataset else hub.models

    def _repo(self, name: str, revision: str | None = "main") -> tuple[Repo, str] | None:
        """The repo and commit, or None after the error was sent."""
        repo = self._repos.get(name)
        if repo is None or repo.private and not self._authorised():
            self._error(401, "Repository not found", "RepoNotFound")
            return None
        commit = repo.resolve(revision or "main")
        if commit is None:
            self._error(404, f"Invalid rev id: {revision}", "RevisionNotFound")
            return None
        return repo, commit

    def create(self) -> None:
        request = json.loads(self.body)
        name = f"{request['organization']}/{request['name']}"
        if not self._authorised():
            return self._error(403, "you may not write here")
        hub, is_dataset = self.server_state, request.get("type") == "dataset"
        repos, prefix = (hub.repos, "datasets/") if is_dataset else (hub.models, "")
        url = f"{hub.endpoint}/{prefix}{name}"
        if name in repos:
            return self._json({"error": "You already created this repo", "url": url}, 409)
        private = request.get("private") or request.get("visibility") == "private"
        repo = repos[name] = Repo(private=bool(private))
        repo.commit({".gitattributes": blob(".gitattributes", b"*.h5 filter=lfs\n")})
        self._json({"url": url})

    def info(self, name: str, revision: str | None = None) -> None:
        if found := self._repo(name, revision):
            repo, commit = found
            files = [{"rfilename": path} for path in repo.commits[commit]]
            data = {"_id": "1", "id": name, "sha": commit, "private": repo.private, "tags": []}
            data |= {"downloads": 0, "likes": 0, "lastModified": DATE, "createdAt": DATE}
            self._json(data | {"disabled": False, "gated": False, "siblings": files})

    def tree(self, name: str, revision: str, folder: str | None) -> None:
        if found := self._repo(name, revision):
            files = found[0].commits[found[1]]
            rows = _rows(files, folder or "", self.query.get("recursive", ["False"])[0] == "True")
            if folder and not rows:
                return self._error(404, f"{folder} does not exist", "EntryNotFound")
            self._json(rows)

    def paths_info(self, name: str, revision: str) -> None:
        if found := self._repo(name, revision):
            files = found[0].commits[found[1]]
            wanted = parse_qs(self.body.decode()).get("paths", [])
            self._json([row for row in _rows(files, "", True) if row["path"] in wanted])

    def refs(self, name: str) -> None:
        if found := self._repo(name):
            repo = found[0]
            tags = [_ref(tag, f"refs/tags/{tag}", sha) for tag, sha in repo.tags.items()]
            branches = [_ref("main", "refs/heads/main", repo.main)]
            self._json({"branches": branches, "tags": tags, "converts": []})

    def tag(self, name: str, word: str) -> None:
        if (found := self._repo(name, None)) and self._may_write():
            repo = found[0]
            if self.command == "DELETE":
                repo.tags.pop(word)
                return self._json({})
            tag = json.loads(self.body)["tag"]
            if tag in repo.tags:
                return self._error(409, "Tag reference exists already")
            repo.tags[tag] = repo.resolve(word) or repo.main
            self._json({})

    def preupload(self, name: str, revision: str) -> None:
        if (found := self._repo(name, revision)) and self._may_write():
            files = found[0].commits[found[1]]
            answer = []
            for file in json.loads(self.body)["files"]:
                path, old = file["path"], files.get(file["path"])
                mode = "lfs" if path.endswith(LFS_SUFFIXES) else "regular"
                row = {"path": path, "uploadMode": mode, "shouldIgnore": False}
                answer.append(row | ({"oid": old.etag} if old else {}))
            self._json({"files": answer})

    def lfs_batch(self, name: str) -> None:
        if self._repo(name) and self._may_write():
            answer = []
            for wanted in json.loads(self.body)["objects"]:
                row: dict[str, Any] = {"oid": wanted["oid"], "size": wanted["size"]}
                if wanted["oid"] not in self.server_state.lfs:
                    put = {"href": f"{self.server_state.storage}/lfs/{wanted['oid']}"}
                    verify = {"href": f"{self.server_state.endpoint}/verify"}
                    row["actions"] = {"upload": put, "verify": verify}
                answer.append(row)
            self._json({"transfer": "basic", "objects": answer})

    def verify(self) -> None:
        request = json.loads(self.body)
        held = len(self.server_state.lfs.get(request["oid"], b""))
        self._json({}, 200 if held == request["size"] else 404)

    def lfs(self, oid: str) -> None:
        if "Authorization" in self.headers:
            return self._error(400, "only one auth mechanism allowed")
        if self.command == "PUT":
            if hashlib.sha256(self.body).hexdigest() != oid:
                return self._error(400, "content does not match its name")
            self.server_state.lfs[oid] = self.body
            return self._send(200, b"")
        self._file(self.server_state.lfs[oid], {"ETag": f'"{oid}"'})

    def commit(self, name: str, revision: str) -> None:
        with self.server_state.lock:
            found = self._repo(name, revision)
            if not found or not self._may_write():
                return
            changes: dict[str, Blob | None] = {}
            for line in self.body.splitlines():
                item = json.loads(line)
                key, value = item["key"], item["value"]
                if key == "header" and value.get("parentCommit", found[0].main) != found[0].main:
                    text = "A commit has happened since. Please refresh and try again."
                    return self._error(412, text)
                if key == "file":
                    changes[value["path"]] = Blob(base64.b64decode(value["content"]), lfs=False)
                if key == "lfsFile":
                    changes[value["path"]] = Blob(self.server_state.lfs[value["oid"]], lfs=True)
                if key == "deletedFile":
                    changes[value["path"]] = None
            sha = found[0].commit(changes)
        kind = "datasets/" if self._repos is self.server_state.repos else ""
        url = f"{self.server_state.endpoint}/{kind}{name}/commit/{sha}"
        self._json({"commitUrl": url, "commitOid": sha, "success": True})

    def file(self, name: str, revision: str, path: str) -> None:
        if not (found := self._repo(name, revision)):
            return
        repo, commit = found
        if path not in repo.commits[commit]:
            self.server_state.requests[-1] += " (missing)"
            headers = {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": commit}
            return self._send(404, b"Entry not found", headers)
        wanted = repo.commits[commit][path]
        headers = {"X-Repo-Commit": commit, "ETag": f'"{wanted.etag}"'}
        if not wanted.lfs:
            return self._file(wanted.data, headers)
        self.server_state.lfs[wanted.etag] = wanted.data
        headers["X-Linked-Etag"], headers["X-Linked-Size"] = (
            f'"{wanted.etag}"',
            str(len(wanted.data)),
        )
        headers["Location"] = f"{self.server_state.storage}/lfs/{wanted.etag}"
        self._send(302, b"", headers)

    def validate(self) -> None:
        self._json({"errors": [], "warnings": []})

    def _may_write(self) -> bool:
        if not self._authorised():
            self._error(403, "you may not write here")
        return self._authorised()

    def _file(self, data: bytes, headers: dict[str, str]) -> None:
        """A file, or the asked range of it."""
        headers |= {"Accept-Ranges": "bytes"}
        match = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if match is None:
            return self._send(200, data, headers)
        start, end = int(match[1]), min(int(match[2] or len(data) - 1), len(data) - 1)
        headers["Content-Range"] = f"bytes {start}-{end}/{len(data)}"
        self._send(206, data[start : end + 1], headers)


def _rows(files: dict[str, Blob], folder: str, recursive: bool) -> list[dict[str, Any]]:
    """What the Hub's tree lists of a folder: files, and folders of files."""
    start = f"{folder.rstrip('/')}/" if folder else ""
    rows: dict[str, dict[str, Any]] = {}
    for path, found in files.items():
        if not path.startswith(start):
            continue
        parts = path[len(start) :].split("/")
        for depth in range(1, len(parts) if recursive else min(len(parts), 2)):
            name = start + "/".join(parts[:depth])
            rows[name] = {"type": "directory", "path": name, "oid": "0" * 40, "size": 0}
        if recursive or len(parts) == 1:
            row = {"type": "file", "path": path, "oid": found.oid, "size": len(found.data)}
            lfs = {"oid": found.etag, "size": len(found.data), "pointerSize": 130}
            rows[path] = row | ({"lfs": lfs} if found.lfs else {})
    return list(rows.values())


def _ref(name: str, ref: str, commit: str) -> dict[str, str]:
    return {"name": name, "ref": ref, "targetCommit": commit}


_KIND = "(?:datasets|models)"
_NAME = r"([\w.-]+/[\w.-]+)"
_ROUTES: list[tuple[str, str, Callable[..., None]]] = [
    ("POST", "/api/repos/create", _Handler.create),
    ("POST", "/api/validate-yaml", _Handler.validate),
    ("GET", f"/api/{_KIND}/{_NAME}", _Handler.info),
    ("GET", f"/api/{_KIND}/{_NAME}/revision/([^/]+)", _Handler.info),
    ("GET", f"/api/{_KIND}/{_NAME}/tree/([^/]+)(?:/(.+))?", _Handler.tree),
    ("POST", f"/api/{_KIND}/{_NAME}/paths-info/([^/]+)", _Handler.paths_info),
    ("GET", f"/api/{_KIND}/{_NAME}/refs", _Handler.refs),
    ("POST DELETE", f"/api/{_KIND}/{_NAME}/tag/([^/]+)", _Handler.tag),
    ("POST", f"/api/{_KIND}/{_NAME}/preupload/([^/]+)", _Handler.preupload),
    ("POST", f"/api/{_KIND}/{_NAME}/commit/([^/]+)", _Handler.commit),
    ("POST", f"/(?:datasets/)?{_NAME}.git/info/lfs/objects/batch", _Handler.lfs_batch),
    ("POST", "/verify", _Handler.verify),
    ("GET PUT HEAD", "/lfs/([0-9a-f]{64})", _Handler.lfs),
    ("GET HEAD", f"/(?:datasets/)?{_NAME}/resolve/([^/]+)/(.+)", _Handler.file),
]
