"""Everything that weightzoo does on a GPU, measured part by part within five minutes.

    benchmarks/speed/gpu_suite.sh [PART ...] [--out FOLDER]
    benchmarks/speed/gpu_suite.sh --device cpu --tiny     a trial run without a GPU

Parts: `tests` (tests marked gpu), `loader` (resident and streaming loader against copies within the
device and from pinned memory), `population` (networks trained together against one by one),
`layers` (convolutions as grouped ones and as products of row windows, batch norms in one call),
`epochs` (time of a thousand CNN-s), `encoders` (training steps in float32, in bfloat16 and
compiled). Every part is a process with a time limit. A part that fails or runs out of time is
reported as such, and the others run. The results are `gpu_suite.json` and `gpu_suite.md`.

CNN-s and CNN-l are the small and large convolutional networks of the Model Zoos, INR an implicit
neural representation, ViT a vision transformer.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
LIMITS = {
    "tests": 65,
    "loader": 45,
    "population": 85,
    "layers": 15,
    "epochs": 40,
    "encoders": 50,
}
"""Seconds of each part, together five minutes."""

LOADER = ("--rows", "200000", "--batch", "2048", "--rounds", "3", "--seconds", "0.5")
TINY_LOADER = ("--rows", "500", "--batch", "32", "--rounds", "1", "--seconds", "0.01")
TESTED = ("tests/loaders", "tests/zoos", "tests/builders", "tests/tasks/training", "tests/encoders")


def main() -> int:
    """Run the parts and write the report; the exit status is 1 if a part failed."""
    options = _options()
    options.out.mkdir(parents=True, exist_ok=True)
    result: dict[str, Any] = {
        "command": "benchmarks/speed/gpu_suite.sh " + " ".join(sys.argv[1:]),
        "machine": machine(options.device),
        "tiny": options.tiny,
        "parts": {},
    }
    for name in options.parts or LIMITS:
        print(f"{name} ...", file=sys.stderr, flush=True)
        result["parts"][name] = run_part(name, options)
        (options.out / "gpu_suite.json").write_text(json.dumps(result, indent=1) + "\n")
        (options.out / "gpu_suite.md").write_text(report(result))
    print(report(result))
    return int(any(part["failed"] for part in result["parts"].values()))


def run_part(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """Run one part in a process of its own, and read the JSON file that it leaves.

    Args:
        name: name of the part, a key of `LIMITS`.
        options: options of the command.

    Returns:
        `seconds`, `failed` (the reason, or None) and `rows`, plain data for the report.
    """
    path, start = options.out / f"{name}.json", time.perf_counter()
    path.unlink(missing_ok=True)
    try:
        done = subprocess.run(
            _command(name, path, options),
            cwd=ROOT,
            timeout=LIMITS[name] * options.patience,
            capture_output=True,
            text=True,
            env=os.environ,
        )
        failed = None if done.returncode == 0 else _last_lines(done.stdout + done.stderr)
        print_lines = _last_lines(done.stdout, 1)
    except subprocess.TimeoutExpired:
        failed, print_lines = f"stopped after {LIMITS[name] * options.patience:g} s", ""
    rows = json.loads(path.read_text()) if path.exists() else print_lines
    rows = rows if isinstance(rows, str) else {k: v for k, v in rows.items() if k != "header"}
    return {"seconds": round(time.perf_counter() - start, 1), "failed": failed, "rows": rows}


def _command(name: str, path: Path, options: argparse.Namespace) -> list[str]:
    here = Path(__file__).parent
    if name == "tests":
        folders = TESTED[:1] if options.tiny else TESTED
        return [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-m",
            "gpu",
            "-p",
            "no:cacheprovider",
            *folders,
        ]
    if name == "loader":
        sizes = TINY_LOADER if options.tiny else LOADER
        script = [str(here / "device_loader.py"), "--device", options.device, "--json", str(path)]
        return [sys.executable, *script, *sizes]
    script = [str(here / "gpu_parts.py"), name, "--device", options.device, "--json", str(path)]
    return [sys.executable, *script, *(["--tiny"] if options.tiny else [])]


def _last_lines(text: str, count: int = 15) -> str:
    return "\n".join(text.strip().splitlines()[-count:])


def machine(device: str) -> str:
    """Name of the device, and versions."""
    import torch

    what = f"torch {torch.__version__}, {os.cpu_count()} cores"
    if device == "cpu":
        return f"CPU, {what}"
    properties = torch.cuda.get_device_properties(torch.device(device))
    memory = properties.total_memory / 2**30
    return f"{properties.name}, {memory:.0f} GiB, CUDA {torch.version.cuda}, {what}"


def report(result: dict[str, Any]) -> str:
    """The results as Markdown.

    Args:
        result: content of `gpu_suite.json`.
    """
    lines = ["# GPU suite", "", f"`{result['command']}` on {result['machine']}.", ""]
    if result["tiny"]:
        lines += ["A trial run with tiny sizes: its numbers say nothing about speed.", ""]
    for name, part in result["parts"].items():
        lines += [f"## {name} ({part['seconds']} s)", ""]
        if part["failed"]:
            lines += ["Failed:", "", "```", part["failed"], "```", ""]
        lines += [*_part_lines(part["rows"]), ""]
    return "\n".join(lines)


def _part_lines(rows: Any) -> list[str]:
    """A table of equal rows by name, or tables by title, or text."""
    if isinstance(rows, str):
        return [rows]
    if all(isinstance(row, dict) and not _is_table(row) for row in rows.values()):
        names = list(dict.fromkeys(key for row in rows.values() for key in row))
        lines = ["| | " + " | ".join(names) + " |", "|---|" + "---:|" * len(names)]
        return lines + [
            f"| {name} | " + " | ".join(_cell(row.get(key)) for key in names) + " |"
            for name, row in rows.items()
        ]
    return [
        line
        for title, table in rows.items()
        for line in (
            f"**{title}**",
            "",
            *_part_lines(table if _is_table(table) else str(table)),
            "",
        )
    ]


def _is_table(value: Any) -> bool:
    return isinstance(value, dict) and any(isinstance(one, dict) for one in value.values())


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:,.4g}" if isinstance(value, float) else str(value)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("parts", nargs="*", help=f"of {', '.join(LIMITS)} (default: all)")
    parser.add_argument("--device", default="cuda", help="(default: cuda)")
    parser.add_argument("--tiny", action="store_true", help="tiny sizes, to try the suite itself")
    parser.add_argument("--out", type=Path, default=Path("gpu-suite"), help="folder of the results")
    parser.add_argument(
        "--patience", type=float, default=1.0, help="factor on the time limits (default: 1)"
    )
    options = parser.parse_args()
    options.out = options.out.resolve()
    if odd := sorted(set(options.parts) - set(LIMITS)):
        parser.error(f"unknown parts {odd}, known are {list(LIMITS)}")
    return options


if __name__ == "__main__":
    sys.exit(main())
