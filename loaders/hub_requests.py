"""How we talk to the Hub: patiently, and with the client's errors in our words.

`huggingface_hub` repeats HEAD requests that fail and takes up a download whose connection drops,
but gives up a GET at the first 503.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from ..zoos.errors import ZooError, ZooNotFoundError

TRIES = 5  # of a request that fails on the server's side or on the way
FIRST_WAIT_SECONDS = 1.0  # before the second try; doubles with each
Answer = TypeVar("Answer")


class HubError(ZooError, OSError):
    """The Hub cannot be reached, or refused what was asked of it."""


def patiently(call: Callable[[], Answer]) -> Answer:
    """Call again, after growing waits, while the server fails or the connection drops."""
    for tries in range(1, TRIES):
        try:
            return call()
        except Exception as error:
            if not _may_pass(error):
                raise
        time.sleep(FIRST_WAIT_SECONDS * 2 ** (tries - 1))
    return call()


@contextmanager
def hub_errors(repo: str) -> Iterator[None]:
    """The client's errors in our words.

    Raises:
        ZooNotFoundError: if the repo, or a file of it, does not exist.
        HubError: on every other error of a request.
    """
    from huggingface_hub.errors import (
        EntryNotFoundError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
    )

    try:
        yield
    except ZooError:
        raise
    except RepositoryNotFoundError as error:
        raise ZooNotFoundError(
            f"no data set {repo!r} on the Hub, or none that you may see: check the name, or log "
            "in with `hf auth login`"
        ) from error
    except LocalEntryNotFoundError as error:
        raise HubError(
            f"cannot reach the Hub for {repo}, and not all of it is in the cache: check the "
            f"connection, unset HF_HUB_OFFLINE ({_line(error.__cause__ or error)})"
        ) from error
    except EntryNotFoundError as error:
        raise ZooNotFoundError(
            f"{repo} lacks a file of the zoo: tell its owner ({_line(error)})"
        ) from error
    except Exception as error:
        if (cause := _request_error(error)) is None:
            raise
        raise HubError(
            f"the Hub failed for {repo}: call again later, or set HF_HUB_OFFLINE=1 to use only "
            f"what is in the cache ({_line(cause)})"
        ) from error


def _may_pass(error: Exception) -> bool:
    """Whether an error is the server's or the network's, and so may be gone the next time."""
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    cause = _request_error(error)
    if cause is None or isinstance(error, LocalEntryNotFoundError):
        return False  # of the latter the client has tried often enough
    if isinstance(cause, HfHubHTTPError):
        return cause.response.status_code in (408, 429) or cause.response.status_code >= 500
    return True


def _request_error(error: BaseException | None) -> BaseException | None:
    """The failed request among an error and its causes."""
    from huggingface_hub.errors import HfHubHTTPError

    http_error = HfHubHTTPError.__bases__[0]  # the client's HTTP library was httpx, is httpx2
    while error is not None and isinstance(error, (OSError, RuntimeError, http_error)):
        if isinstance(error, http_error) or "Consistency check failed" in str(error):
            return error
        error = error.__cause__
    return None


def _line(error: BaseException) -> str:
    """An error's message in one line."""
    return " ".join(str(error).split())
