"""Time limits for Hub requests, and an error for web pages that do not come from the Hub.

The client sets no time limit on most requests, and none on a server that sends a byte now and then.
Its HTTP session accepts hooks. Ours limit the requests made within `limited`; other requests of the
shared session are unchanged.
"""

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ..errors import ZooError

CONNECT_SECONDS = 15.0
READ_SECONDS = 60.0  # longest wait for the next byte of an answer
WRITE_SECONDS = 300.0  # the same for a commit, which the server checks before it answers
SLOW_SECONDS = 30.0  # waiting time after which the rate of an answer is checked
SLOWEST_RATE = 1_000  # lowest rate, in bytes per second
_thread = threading.local()


class HubError(ZooError, OSError):
    """The Hub cannot be reached, or refused a request."""


@contextmanager
def limited() -> Iterator[None]:
    """Limit the requests that the client makes in this thread."""
    from huggingface_hub.utils import get_session

    session = get_session()
    hooks = getattr(session, "event_hooks", None)
    if hooks is not None and _check_answer not in hooks["response"]:
        hooks["request"] = [*hooks["request"], _limit_waiting]
        hooks["response"] = [*hooks["response"], _check_answer]
        session.event_hooks = hooks
    before, _thread.active = getattr(_thread, "active", False), True
    try:
        yield
    finally:
        _thread.active = before


def _limit_waiting(request: Any) -> None:
    """Set the time limits that the client did not set."""
    if getattr(_thread, "active", False):
        read = READ_SECONDS if request.method in ("GET", "HEAD") else WRITE_SECONDS
        ours = {"connect": CONNECT_SECONDS, "read": read, "write": WRITE_SECONDS, "pool": read}
        given = request.extensions.get("timeout") or {}
        kept = {name: seconds for name, seconds in given.items() if seconds is not None}
        request.extensions = {**request.extensions, "timeout": ours | kept}


def _check_answer(response: Any) -> None:
    """Reject a web page in place of data, and limit how slowly the data may arrive.

    Raises:
        HubError: if the answer is a web page, such as the log-in page of a network.
    """
    if not getattr(_thread, "active", False):
        return
    is_page = response.headers.get("Content-Type", "").startswith("text/html")
    if is_page and response.is_success or response.status_code == 511:
        raise HubError(
            f"{response.url.host} answered with a web page, not with data of the Hub: this network "
            "seems to ask for a log-in (a captive portal), or a proxy intercepts requests. Open "
            "any page in a browser to log in, check HTTPS_PROXY and HF_ENDPOINT, then call again"
        )
    response.stream = _limited_stream(response.stream)


def _limited_stream(stream: Any) -> Any:
    """The same bytes, with an error if they arrive too slowly."""
    library = sys.modules[type(stream).__module__.split(".")[0]]  # httpx, or httpx2

    class Limited(library.SyncByteStream):  # type: ignore[name-defined]
        """Bytes of an answer."""

        def __iter__(self) -> Iterator[bytes]:
            return _in_time(iter(stream))

        def close(self) -> None:
            stream.close()

    return Limited()


def _in_time(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Pass chunks on and measure the time spent waiting for them.

    Raises:
        HubError: if they arrive more slowly than `SLOWEST_RATE`.
    """
    waited, received = 0.0, 0
    while True:
        start = time.monotonic()
        chunk = next(chunks, None)
        if chunk is None:
            return
        waited += time.monotonic() - start
        received += len(chunk)
        if waited > SLOW_SECONDS:
            if received < SLOWEST_RATE * waited:
                raise HubError(
                    f"the Hub sent {received} bytes in {waited:.0f} seconds: call again later or "
                    "over a better connection; files that have arrived are kept"
                )
            waited, received = 0.0, 0
        yield chunk
