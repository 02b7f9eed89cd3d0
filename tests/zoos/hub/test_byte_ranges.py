"""Files of the Hub by ranges: bytes, faults of the server, and what is kept."""

import hashlib

import pytest
from hub_client import HubClient, RemoteError
from hub_server import Fault, HubServer, blob

DATA = hashlib.shake_256(b"weights").digest(1000)
READ = """
import weightzoo.zoos.hub.requests as r; r.FIRST_WAIT_SECONDS = 0.01
from weightzoo.zoos.hub.byte_ranges import HubBytes
source = HubBytes("org/net", commit, "model.safetensors", 1000, window_bytes=100)
result = list(source.fetch(*span)) if span else []
for start in starts:
    buffer = bytearray(30)
    source.read_into(memoryview(buffer), start)
    result += list(buffer)
"""


@pytest.fixture
def commit(hub: HubServer) -> str:
    hub.forget()
    repo = hub.add_repo("org/net", model=True)
    return repo.commit({"model.safetensors": blob("model.safetensors", DATA)})


def test_range_is_one_request_that_is_sent_again_if_the_server_fails(
    hub: HubServer, client: HubClient, commit: str
) -> None:
    hub.faults = [Fault("GET", "model.safetensors", status=503)]
    found = client.run(READ, commit=commit, span=[5, 900], starts=[])
    assert bytes(found) == DATA[5:900]
    assert hub.count("GET /org/net/resolve") == 2 and hub.count("GET /lfs/") == 1


def test_windows_are_read_once(hub: HubServer, client: HubClient, commit: str) -> None:
    found = client.run(READ, commit=commit, span=None, starts=[0, 90, 120, 970])
    assert bytes(found) == DATA[:30] + DATA[90:150] + DATA[970:]
    assert hub.count("GET /lfs/") == 3


def test_server_without_ranges_is_left_before_the_whole_file_is_read(
    hub: HubServer, client: HubClient, commit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hub_server._Handler._file", lambda self, data, more: self._send(200, data))
    with pytest.raises(RemoteError, match="only as a whole, not by ranges"):
        client.run(READ, commit=commit, span=[5, 900], starts=[])
