"""Claim: a mean of LLM checkpoints costs little more than reading them once and writing one.

    python benchmarks/speed/merging.py [--layers 22] [--rounds 3] [--methods NAME ...]
        [--mergekit PATH/TO/mergekit-yaml]

Four Llama-shaped checkpoints and their base, bfloat16 (1.1 B parameters with 22 layers), are made
on the spot. Every contender runs in a process of its own, in turns, so that what else the machine
does hits all alike; the table gives medians of the rounds. Seconds contain the start of Python and
the imports; CPU seconds are those of user and system together. Memory is the peak of anonymous
pages; the peak of mapped pages of files stands apart, and the page cache is in neither.
"""

import argparse
import json
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from weightzoo.zoos.tensors.lazy import TensorType
from weightzoo.zoos.tensors.safetensors_file import SafetensorsWriter

Figures = tuple[float, float, float, float]  # seconds, CPU seconds, anonymous GB, mapped GB
WIDTH, INNER, KEY_WIDTH, TOKENS, MEMBERS = 2048, 5632, 256, 32000, 4
POLL_SECONDS = 0.02
FLOOR, COPY = "read all inputs once, write one output", "copy the bytes of all inputs"
COPY_CODE = """
import os, sys
buffer = memoryview(bytearray(2**24))
sources, target, together = sys.argv[2:], sys.argv[1], sys.argv[1].endswith("copy")
out = open(target, "wb", buffering=0)
for index, path in enumerate(sources):
    with open(path, "rb", buffering=0) as file:
        while count := file.readinto(buffer):
            if together or index == 0:
                out.write(buffer[:count])
os.fsync(out.fileno())
"""
MERGE_CODE = "import sys; from weightzoo.cli import main; sys.exit(main(sys.argv[1:]))"
RECIPES = {
    "mean": ("mean", [], "linear", "{}", ""),
    "task arithmetic": (
        "task_arithmetic",
        ["--set", "scale=0.3"],
        "task_arithmetic",
        "{lambda: 0.3}",
        "weight: 1.0",
    ),
    "TIES": ("ties", ["--set", "density=0.2"], "ties", "{density: 0.2}", "weight: 1.0"),
}


def main() -> None:
    """Make the checkpoints, run the rounds, print the table."""
    options = _options()
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        for member in range(MEMBERS + 1):
            _make_checkpoint(folder / f"m{member}", member, options.layers)
        commands = _contenders(folder, options.mergekit, options.methods)
        rows: dict[str, list[Figures]] = {label: [] for label in commands}
        for round_ in range(options.rounds):
            for label, command in commands.items():
                rows[label].append(_run(command, folder))
                print(f"round {round_}: {label}: {rows[label][-1]}", file=sys.stderr)
                for result in folder.glob("out*"):
                    shutil.rmtree(result) if result.is_dir() else result.unlink()
        size = sum(f.stat().st_size for f in (folder / "m0").glob("*.safetensors"))
        print(f"{MEMBERS} members of {size / 1e9:.2f} GB; torch {torch.__version__}\n")
        print(table(rows))


def _make_checkpoint(folder: Path, seed: int, layers: int) -> None:
    """Write a checkpoint: one random base, and a small change of its own for every member."""
    folder.mkdir()
    kinds = {name: TensorType("bfloat16", shape) for name, shape in shapes(layers).items()}
    writer = SafetensorsWriter(folder / "model.safetensors", kinds, {"format": "pt"})
    for place, (name, kind) in enumerate(kinds.items()):
        base = torch.randn(kind.shape, generator=torch.Generator().manual_seed(place))
        if seed:
            own = torch.Generator().manual_seed(place + 1000 * seed)
            base += 0.1 * torch.randn(kind.shape, generator=own)
        writer.write(name, 0, base * 0.02)
    writer.close()
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": WIDTH,
        "intermediate_size": INNER,
        "num_attention_heads": 32,
        "num_key_value_heads": 4,
        "num_hidden_layers": layers,
        "vocab_size": TOKENS,
        "tie_word_embeddings": False,
        "torch_dtype": "bfloat16",
    }
    (folder / "config.json").write_text(json.dumps(config))


def shapes(layers: int) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a Llama of 1.1 B parameters with 22 layers."""
    found: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (TOKENS, WIDTH)}
    for layer in range(layers):
        parts = {
            "input_layernorm": (WIDTH,),
            "self_attn.q_proj": (WIDTH, WIDTH),
            "self_attn.k_proj": (KEY_WIDTH, WIDTH),
            "self_attn.v_proj": (KEY_WIDTH, WIDTH),
            "self_attn.o_proj": (WIDTH, WIDTH),
            "post_attention_layernorm": (WIDTH,),
            "mlp.gate_proj": (INNER, WIDTH),
            "mlp.up_proj": (INNER, WIDTH),
            "mlp.down_proj": (WIDTH, INNER),
        }
        found |= {f"model.layers.{layer}.{name}.weight": shape for name, shape in parts.items()}
    return found | {"model.norm.weight": (WIDTH,), "lm_head.weight": (TOKENS, WIDTH)}


def _contenders(
    folder: Path, mergekit: Path | None, methods: Sequence[str]
) -> dict[str, list[str]]:
    """Commands by name, for the table."""
    members = [str(folder / f"m{index}") for index in range(1, MEMBERS + 1)]
    files = [f"{member}/model.safetensors" for member in members]
    commands = {
        FLOOR: [sys.executable, "-c", COPY_CODE, str(folder / "out-one"), *files],
        COPY: [sys.executable, "-c", COPY_CODE, str(folder / "out-copy"), *files],
    }
    for name in methods:
        ours, settings, theirs, common, own = RECIPES[name]
        base = [] if name == "mean" else ["--base", str(folder / "m0")]
        merge = ["merge", *members, "--method", ours, *base, *settings, "--out"]
        commands[f"weightzoo {name}"] = [
            sys.executable, "-c", MERGE_CODE, *merge, str(folder / "out")
        ]  # fmt: skip
        if mergekit is not None:
            recipe = folder / f"{ours}.yaml"
            models = "".join(f"  - {{model: {m}, parameters: {{{own}}}}}\n" for m in members)
            base_line = "" if name == "mean" else f"base_model: {folder / 'm0'}\n"
            recipe.write_text(
                f"merge_method: {theirs}\n{base_line}models:\n{models}parameters: {common}\n"
                "dtype: bfloat16\n"
            )
            if name == "mean":
                recipe.write_text(recipe.read_text().replace("{}", "{weight: 1.0}"))
            commands[f"mergekit {name}"] = [
                str(mergekit), str(recipe), str(folder / "out"), "--no-copy-tokenizer", "--quiet",
                "--lazy-unpickle",
            ]  # fmt: skip
    return commands


def _run(command: list[str], folder: Path) -> Figures:
    """Seconds, CPU seconds, and peaks of anonymous and of mapped memory in GB of a process."""
    start, before = time.perf_counter(), _cpu_seconds()
    anonymous = mapped = 0
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
        while process.poll() is None:
            now = _resident_bytes(process.pid)
            anonymous = max(anonymous, now.get("RssAnon", 0))
            mapped = max(mapped, now.get("RssFile", 0))
            time.sleep(POLL_SECONDS)
    seconds = time.perf_counter() - start
    if process.returncode:
        raise RuntimeError((folder / "log").read_text()[-3000:])
    return seconds, _cpu_seconds() - before, anonymous / 1e9, mapped / 1e9


def table(rows: Mapping[str, list[Figures]]) -> str:
    """Markdown: medians, and the median over rounds of the ratio to the floor."""
    lines = [
        "| contender | s | × floor | CPU s | anonymous GB | mapped GB |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for name, values in rows.items():
        ratios = [own[0] / floor[0] for own, floor in zip(values, rows[FLOOR], strict=True)]
        lines.append(
            f"| {name} | {statistics.median(v[0] for v in values):.1f} | "
            f"{statistics.median(ratios):.2f} | {statistics.median(v[1] for v in values):.1f} | "
            f"{max(v[2] for v in values):.2f} | {max(v[3] for v in values):.2f} |"
        )
    return "\n".join(lines)


def _cpu_seconds() -> float:
    """Of all processes that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _resident_bytes(pid: int) -> dict[str, int]:
    """Resident bytes of a process by kind; none once it has ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return {}
    parts = [line.split() for line in lines if line.startswith("Rss")]
    return {part[0].rstrip(":"): int(part[1]) * 1024 for part in parts}


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--layers", type=int, default=22, help="of the checkpoints (default: 22)")
    parser.add_argument("--rounds", type=int, default=3, help="of all contenders (default: 3)")
    parser.add_argument("--methods", nargs="+", choices=RECIPES, default=list(RECIPES))
    parser.add_argument("--mergekit", type=Path, help="the command mergekit-yaml of a peer")
    parser.add_argument("--folder", type=Path, help="for the checkpoints (default: the system's)")
    return parser.parse_args()


if __name__ == "__main__":
    main()
