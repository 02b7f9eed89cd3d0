"""Files of the Hugging Face Hub, read by HTTP ranges.

Builders read one layer of a network with it, loaders the tensors of a checkpoint and the rows of a
zoo. A range is one request, sent again after growing waits if the server fails.
"""

import threading
from collections import OrderedDict
from functools import partial

from ..errors import ZooFormatError
from .requests import HubError, hub_errors, patiently

WINDOW_BYTES = 2**24  # fetched by one request
KEPT_WINDOWS = 2  # of every file
REPO_TYPES = {"data set": "dataset", "model": "model"}


class HubBytes:
    """A file of a repository at one commit.

    Attributes:
        name: address, for messages.
        size_bytes: size of the whole file.
    """

    def __init__(
        self,
        repo: str,
        commit: str,
        path: str,
        size_bytes: int,
        *,
        kind: str = "model",
        token: str | bool | None = None,
        window_bytes: int = WINDOW_BYTES,
    ) -> None:
        """Remember where the file is; nothing is read yet.

        Args:
            repo: "org/name".
            commit: commit of the file.
            path: path of the file in the repository.
            size_bytes: size of the file.
            kind: "data set" or "model".
            token: token for reading; None takes the token that `hf auth login` saved.
            window_bytes: number of bytes that `read_into` fetches by one request.
        """
        from huggingface_hub import hf_hub_url

        folder = "datasets/" if kind == "data set" else ""
        self.name, self.size_bytes = f"hf://{folder}{repo}@{commit}/{path}", size_bytes
        self._repo, self._kind, self._token = repo, kind, token
        self._url = hf_hub_url(repo, path, repo_type=REPO_TYPES[kind], revision=commit)
        self._window_bytes = window_bytes
        self._windows: OrderedDict[int, bytes] = OrderedDict()
        self._lock = threading.Lock()

    def fetch(self, start: int, stop: int) -> bytes:
        """Bytes of a range, by one request.

        Args:
            start: position of the first byte.
            stop: position behind the last byte.

        Raises:
            ZooNotFoundError: if there is no such file.
            HubError: if the Hub cannot be reached, or sends another number of bytes.
        """
        if start == stop:
            return b""
        with hub_errors(self._repo, self._kind):
            data = patiently(partial(self._get, start, stop))
        if len(data) != stop - start:
            raise HubError(
                f"the Hub sent {len(data)} of {stop - start} bytes of {self.name}: call again"
            )
        return data

    def read_into(self, buffer: memoryview, start: int) -> None:
        """Fill the buffer with the bytes from `start` on; the last windows are kept.

        Args:
            buffer: memory to fill.
            start: position of the first byte in the file.

        Raises:
            ZooFormatError: if the file ends before.
            HubError: if the Hub cannot be reached.
        """
        if start + len(buffer) > self.size_bytes:
            raise ZooFormatError(f"{self.name} has {self.size_bytes} bytes: it ends too soon")
        while buffer:
            number, offset = divmod(start, self._window_bytes)
            data = self._window(number)[offset : offset + len(buffer)]
            buffer[: len(data)] = data
            buffer, start = buffer[len(data) :], start + len(data)

    def forget_windows(self) -> None:
        """Free the windows that were kept, once a header is read."""
        with self._lock:
            self._windows.clear()

    def _window(self, number: int) -> memoryview:
        with self._lock:
            if number not in self._windows:
                first = number * self._window_bytes
                last = min(first + self._window_bytes, self.size_bytes)
                self._windows[number] = self.fetch(first, last)
                while len(self._windows) > KEPT_WINDOWS:
                    self._windows.popitem(last=False)
            self._windows.move_to_end(number)
            return memoryview(self._windows[number])

    def _get(self, start: int, stop: int) -> bytes:
        """One request; a server that answers no ranges is left before it sends the whole file."""
        from huggingface_hub.utils import build_hf_headers, get_session, hf_raise_for_status

        headers = build_hf_headers(token=self._token) | {"Range": f"bytes={start}-{stop - 1}"}
        session = get_session()
        with session.stream("GET", self._url, headers=headers, follow_redirects=True) as answer:
            if answer.is_error:
                answer.read()
            hf_raise_for_status(answer)
            if answer.status_code != 206 and stop - start != self.size_bytes:
                raise HubError(
                    f"{answer.url.host} sends {self.name} only as a whole, not by ranges: download "
                    "the repository and give its folder"
                )
            return answer.read()
