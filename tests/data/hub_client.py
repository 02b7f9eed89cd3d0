"""A process whose `huggingface_hub` and `datasets` talk to the Hub that a test has started."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from hub_server import TOKEN

WORKER = """
import json, os, sys, warnings
replies = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)
for line in sys.stdin:
    code, scope = json.loads(line)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        try:
            exec(code, scope)
            reply = {"result": scope.get("result")}
        except Exception as error:
            bases = [base.__name__ for base in type(error).__mro__]
            reply = {"error": f"{type(error).__name__}: {error}", "bases": bases}
    reply["warnings"] = [str(warning.message) for warning in caught]
    print(json.dumps(reply), file=replies, flush=True)
"""


class RemoteError(Exception):
    """An exception in the client's process: "Type: message"."""

    def __init__(self, text: str, bases: list[str]) -> None:
        super().__init__(text)
        self.bases = bases


class HubClient:
    """A process that runs snippets with `huggingface_hub` and `datasets` set to one server.

    Both read their environment when they are imported, so it cannot be this process; it serves
    a whole module of tests, since importing takes seconds.
    """

    def __init__(self, endpoint: str, home: Path, **environment: str) -> None:
        kept = {"PATH", "LD_LIBRARY_PATH", "TMPDIR", "OMP_NUM_THREADS", "PYTHONPATH", "SYSTEMROOT"}
        clean = {key: value for key, value in os.environ.items() if key in kept}
        clean |= {"HF_ENDPOINT": endpoint, "HF_HOME": str(home), "HOME": str(home)}
        clean |= {"HF_TOKEN": TOKEN, "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
        clean |= {"HF_HUB_DISABLE_PROGRESS_BARS": "1", "HF_DATASETS_DISABLE_PROGRESS_BARS": "1"}
        pipe = subprocess.PIPE
        self.warnings: list[str] = []
        self._process = subprocess.Popen(
            [sys.executable, "-c", WORKER],
            stdin=pipe,
            stdout=pipe,
            text=True,
            cwd=home,
            env=clean | environment,
        )

    def run(self, code: str, **variables: Any) -> Any:
        """Run a snippet with these variables; return what it calls `result`.

        Raises:
            RemoteError: if it raised.
        """
        assert self._process.stdin and self._process.stdout
        plain = {
            key: str(value) if isinstance(value, Path) else value
            for key, value in variables.items()
        }
        self._process.stdin.write(json.dumps([code, plain]) + "\n")
        self._process.stdin.flush()
        reply = json.loads(self._process.stdout.readline() or '{"error": "died", "bases": []}')
        self.warnings = reply.get("warnings", [])
        if "error" in reply:
            raise RemoteError(reply["error"], reply["bases"])
        return reply["result"]

    def __enter__(self) -> "HubClient":
        return self

    def __exit__(self, *error: object) -> None:
        assert self._process.stdin and self._process.stdout
        self._process.stdin.close()
        self._process.wait(timeout=30)
        self._process.stdout.close()
