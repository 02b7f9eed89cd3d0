"""The pipeline: families found, nothing lost on val, test untouched, kills survived."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from make_checkpoints import llama_tensors, make_checkpoint

from weightzoo.cli.main import main
from weightzoo.loaders import load_zoo
from weightzoo.loaders.collections import ZooMember
from weightzoo.tasks.merging.glue import glue
from weightzoo.tasks.merging.glue_family import GlueSettings
from weightzoo.tasks.merging.pools import ZooPool
from weightzoo.zoos.errors import MergeError

KILLED = """
import os, signal, sys
from pathlib import Path
from weightzoo.loaders import load_zoo
from weightzoo.tasks.merging.glue import glue
from weightzoo.tasks.merging.glue_family import GlueSettings
from weightzoo.tasks.merging.pools import ZooPool
pool = ZooPool(load_zoo(sys.argv[1], split="train[:3]").filter("epoch >= 1"))
evaluate, calls = pool.evaluate, []
def killing(*arguments):
    calls.append(arguments)
    if len(calls) == 20:
        os.kill(os.getpid(), signal.SIGKILL)
    return evaluate(*arguments)
pool.evaluate = killing
glue(pool, Path(sys.argv[2]), GlueSettings())
"""
SCORE = """
import array, json, sys
data = open(sys.argv[1] + "/model.safetensors", "rb").read()
length = int.from_bytes(data[:8], "little")
first, stop = json.loads(data[8 : 8 + length])["lm_head.weight"]["data_offsets"]
weights = array.array("f", data[8 + length + first : 8 + length + stop])
print("loaded")
print(-sum((weight - float(sys.argv[2])) ** 2 for weight in weights) / len(weights))
"""


def pool(zoo: Path) -> ZooPool:
    """Two checkpoints each of three models: three families."""
    return ZooPool(load_zoo(zoo, split="train[:3]").filter("epoch >= 1"))


def test_pipeline_finds_families_and_never_chooses_worse_on_val(
    trained_zoo: Path, tmp_path: Path
) -> None:
    report = glue(pool(trained_zoo), tmp_path / "out", GlueSettings(budget=15))
    models = [{name.split("@")[0] for name in family} for family in report["families"]]
    assert sorted(len(family) for family in report["families"]) == [2, 2, 2]
    assert all(len(family) == 1 for family in models)
    for row in report["steps"]:
        found = row["candidates"]
        assert found[row["chosen"]]["val"] == max(one["val"] for one in found.values())
        assert found[row["chosen"]]["val"] >= found["best single"]["val"]
    assert report["mixture"]["test"]["oracle"] >= report["mixture"]["test"]["trained gate"]
    text = (tmp_path / "out" / "report.md").read_text()
    assert "## Mixture" in text and "| oracle |" in text
    assert (tmp_path / "out" / "report.png").stat().st_size > 5000


def test_stopped_pipeline_repeats_no_evaluation(trained_zoo: Path, tmp_path: Path) -> None:
    models, calls = pool(trained_zoo), list[object]()
    evaluate = models.evaluate

    def stopping(*arguments: object) -> float:
        calls.append(arguments)
        if len(calls) == 8:
            raise KeyboardInterrupt
        return evaluate(*arguments)  # type: ignore[arg-type]

    models.evaluate = stopping  # type: ignore[method-assign]
    settings = GlueSettings(strategies=("average",))
    with pytest.raises(KeyboardInterrupt):
        glue(models, tmp_path / "out", settings)
    report = glue(pool(trained_zoo), tmp_path / "out", settings)
    assert report["new_evaluations"] == report["evaluations"] - 7
    assert glue(pool(trained_zoo), tmp_path / "out", settings)["new_evaluations"] == 0


def test_rule_evaluates_one_merge_of_a_family_and_tells_its_reason(
    trained_zoo: Path, tmp_path: Path
) -> None:
    report = glue(pool(trained_zoo), tmp_path / "out", GlueSettings(choose="rule"))
    for row in report["steps"]:
        assert (row["rule"], row["reason"]) == ("average", "weights alone")
        assert list(row["candidates"]) == ["best single", "average"] and row["chosen"] == "average"
    assert "| average (weights alone) | 0.0000 |" in (tmp_path / "out" / "report.md").read_text()
    with pytest.raises(MergeError, match="run of another pool or other settings"):
        glue(pool(trained_zoo), tmp_path / "out", GlueSettings())
    with pytest.raises(MergeError, match="choose must be one of"):
        GlueSettings(choose="luck")


def test_known_base_of_rows_gives_task_arithmetic(trained_zoo: Path, tmp_path: Path) -> None:
    zoo = load_zoo(trained_zoo, split="train[:1]")
    models = ZooPool(zoo.filter("epoch >= 1"), base=ZooMember(zoo.filter("epoch == 0"), 0))
    report = glue(models, tmp_path / "out", GlueSettings(choose="rule"))
    (row,) = report["steps"]
    assert (row["chosen"], row["reason"]) == ("task_arithmetic", "known base")
    merged, scale = load_zoo(tmp_path / "out" / "merged", split="train"), row["candidates"]
    states = [*zoo.filter("epoch >= 1").weights(), zoo.filter("epoch == 0").weights()[0]]
    summed = states[-1] + scale["task_arithmetic"]["scale"] * (sum(states[:-1]) - 2 * states[-1])
    assert torch.allclose(merged.weights()[0], summed, atol=1e-5)
    with pytest.raises(MergeError, match="need no alignment"):
        ZooPool(zoo, aligned=True, base=models.base)


@pytest.mark.slow
def test_killed_pipeline_ends_alike_and_repeats_no_evaluation(
    trained_zoo: Path, tmp_path: Path
) -> None:
    whole = glue(pool(trained_zoo), tmp_path / "whole", GlueSettings())
    command = [sys.executable, "-c", KILLED, str(trained_zoo), str(tmp_path / "out")]
    assert subprocess.run(command, timeout=200).returncode == -signal.SIGKILL
    again = glue(pool(trained_zoo), tmp_path / "out", GlueSettings())
    for key in ("families", "test", "mixture", "evaluations"):
        assert again[key] == whole[key]
    assert [row["candidates"] for row in again["steps"]] == [
        row["candidates"] for row in whole["steps"]
    ]
    assert again["new_evaluations"] == whole["new_evaluations"] - 19
    third = glue(pool(trained_zoo), tmp_path / "out", GlueSettings())
    assert third["new_evaluations"] == 0


def test_run_of_other_settings_is_not_continued(trained_zoo: Path, tmp_path: Path) -> None:
    (tmp_path / "steps").mkdir()
    (tmp_path / "steps" / "state.json").write_text("{}")
    with pytest.raises(MergeError, match="run of another pool"):
        glue(pool(trained_zoo), tmp_path, GlueSettings())
    with pytest.raises(MergeError, match="strategies must be of"):
        GlueSettings(strategies=("luck",))
    with pytest.raises(MergeError, match="accuracy"):
        ZooPool(pool(trained_zoo).zoo, "speed")


def test_checkpoints_are_evaluated_by_a_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for seed in range(2):  # two children of one base
        child = {n: v + 0.1 * llama_tensors(seed + 5)[n] for n, v in llama_tensors(0).items()}
        make_checkpoint(tmp_path / "pool" / f"m{seed}", child)
    (tmp_path / "score.py").write_text(SCORE)
    score = f"{sys.executable} {tmp_path / 'score.py'} {{model}}"
    command = ["glue", str(tmp_path / "pool"), "--out", str(tmp_path / "out"), "--json"]
    command += ["--strategies", "average", "--evaluate", f"{score} 0", "--test", f"{score} 0.1"]
    assert main(command) == 0
    report = json.loads(capsys.readouterr().out)
    assert len(report["families"]) == 1 and report["mixture"] is None
    (row,) = report["steps"]
    assert row["candidates"]["average"]["val"] >= row["candidates"]["best single"]["val"]
    assert all((Path(path) / "merge.json").is_file() for path in report["merged"])
    base = make_checkpoint(tmp_path / "base", llama_tensors(0))
    ruled = [*command, "--base", str(base), "--choose", "rule"]
    ruled[ruled.index(str(tmp_path / "out"))] = str(tmp_path / "ruled")
    assert main(ruled) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["steps"][0]["chosen"] == "task_arithmetic" and len(report["merged"]) == 1
    assert main([*command[:4], "--evaluate", "false {model}", "--test", "x {model}"]) == 1
