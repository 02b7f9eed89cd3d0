"""Hub requests with retries; client errors become weightzoo errors.

`huggingface_hub` repeats failed HEAD requests and resumes a download whose connection drops, but
gives up a GET request at the first status 503.
"""

import errno
import re
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TypeVar

from ..errors import ZooError, ZooNotFoundError
from .limits import HubError, limited

__all__ = ["HubError", "hub_errors", "patiently"]
TRIES = 5  # of a request that fails at the server or in the network
FIRST_WAIT_SECONDS = 1.0  # before the second try; doubles with each try
LONGEST_WAIT_SECONDS = 300.0  # longest wait that the server may ask for, as rate limits do
UNREACHABLE = (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN)
Answer = TypeVar("Answer")


def patiently(call: Callable[[], Answer]) -> Answer:
    """Call a function, again after growing waits if the server fails or the connection drops.

    If the server asks for a longer wait, the wait is that long.

    Raises:
        HubError: if the server asks for a longer wait than `LONGEST_WAIT_SECONDS`, sends too
            slowly, or is not the Hub.
        Exception: the error of the last call.
    """
    for tries in range(1, TRIES):
        try:
            with limited():
                return call()
        except Exception as error:
            if not _may_pass(error):
                raise
            wait = max(FIRST_WAIT_SECONDS * 2 ** (tries - 1), _asked_wait(error))
        time.sleep(wait)
    with limited():
        return call()


def _asked_wait(error: Exception) -> float:
    """Wait that the server asks for, in seconds; 0 if it asks for none.

    Raises:
        HubError: if the wait is too long.
    """
    headers = getattr(getattr(_request_error(error), "response", None), "headers", {})
    seconds = max(
        _retry_after(headers.get("Retry-After", "")), _reset(headers.get("RateLimit", ""))
    )
    if seconds > LONGEST_WAIT_SECONDS:
        raise HubError(
            f"the Hub asks to wait {seconds:.0f} seconds before the next request: call again after "
            "that, or log in with `hf auth login`, since more requests are allowed with a token"
        ) from error
    return seconds


def _retry_after(text: str) -> float:
    """Wait of the header Retry-After (RFC 9110, section 10.2.3), a number or a date, in seconds."""
    if text.strip().isdecimal():
        return float(text)
    try:
        date = parsedate_to_datetime(text)
    except ValueError:
        return 0.0
    return max(0.0, (date.replace(tzinfo=date.tzinfo or UTC) - datetime.now(UTC)).total_seconds())


def _reset(text: str) -> float:
    """Seconds until more requests are allowed, from a header such as `"api";r=0;t=55`."""
    match = re.search(r";\s*r=0\s*;\s*t=(\d+)", text)
    return float(match[1]) if match else 0.0


@contextmanager
def hub_errors(repo: str, kind: str = "data set") -> Iterator[None]:
    """Turn errors of the client into weightzoo errors.

    Args:
        repo: name of the repository, "org/name".
        kind: "data set" or "model".

    Raises:
        ZooNotFoundError: if the repository or one of its files does not exist.
        HubError: for every other failed request.
    """
    from huggingface_hub.errors import (
        EntryNotFoundError,
        GatedRepoError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
    )

    folder = "datasets/" if kind == "data set" else ""
    try:
        yield
    except ZooError:
        raise
    except GatedRepoError as error:
        raise HubError(
            f"{repo} is gated, its owner decides who may read it: ask for access on its page, "
            f"{_endpoint()}/{folder}{repo}, then log in with `hf auth login` or pass token=... "
            f"({_line(error)})"
        ) from error
    except RepositoryNotFoundError as error:
        raise ZooNotFoundError(
            f"no {kind} {repo!r} on the Hub, or you have no access to it: check the name, or log "
            "in with `hf auth login`"
        ) from error
    except LocalEntryNotFoundError as error:
        if _is_unreachable(error):
            raise _no_network(repo, error) from error
        raise HubError(
            f"cannot reach the Hub for {repo}, and the cache does not hold all of it: check the "
            f"connection, or unset HF_HUB_OFFLINE ({_line(error.__cause__ or error)})"
        ) from error
    except EntryNotFoundError as error:
        whole = "zoo" if folder else "model"
        raise ZooNotFoundError(
            f"{repo} lacks a file of the {whole}: tell its owner ({_line(error)})"
        ) from error
    except Exception as error:
        if (cause := _request_error(error)) is None:
            raise
        if _is_unreachable(error):
            raise _no_network(repo, cause) from error
        raise HubError(
            f"the Hub failed for {repo}: call again later, or set HF_HUB_OFFLINE=1 to use only "
            f"what is in the cache ({_line(cause)})"
        ) from error


def _may_pass(error: Exception) -> bool:
    """Whether an error comes from the server or the network, so that a new try may succeed."""
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    cause = _request_error(error)
    if cause is None or isinstance(error, LocalEntryNotFoundError) or _is_unreachable(error):
        return False  # the client has retried the second itself; retries do not help the third
    if isinstance(cause, HfHubHTTPError):
        return cause.response.status_code in (408, 429) or cause.response.status_code >= 500
    return True


def _request_error(error: BaseException | None) -> BaseException | None:
    """The failed request among an error and its causes."""
    from huggingface_hub.errors import HfHubHTTPError

    http_error = HfHubHTTPError.__bases__[
        0
    ]  # the client's HTTP library is httpx, or httpx2 in newer versions
    while error is not None and isinstance(error, (OSError, RuntimeError, http_error)):
        if isinstance(error, http_error) or "Consistency check failed" in str(error):
            return error
        error = error.__cause__
    return None


def _is_unreachable(error: BaseException | None) -> bool:
    """Whether this machine has no network, or no route to the Hub."""
    while error is not None:
        if isinstance(error, socket.gaierror) or getattr(error, "errno", None) in UNREACHABLE:
            return True
        error = error.__cause__ or error.__context__
    return False


def _no_network(repo: str, error: BaseException) -> HubError:
    return HubError(
        f"no network: {_endpoint()} cannot be found or reached for {repo}. Check the connection "
        f"and the proxy, or set HF_HUB_OFFLINE=1 to use what is in the cache ({_line(error)})"
    )


def _endpoint() -> str:
    from huggingface_hub import constants

    return str(constants.ENDPOINT)


def _line(error: BaseException) -> str:
    """The message of an error in one line."""
    return " ".join(str(error).split())
