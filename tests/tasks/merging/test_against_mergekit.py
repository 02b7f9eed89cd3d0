"""The same recipe in mergekit and here, where WEIGHTZOO_MERGEKIT names a Python that has it.

mergekit has dependencies of its own: make it an environment apart, and exchange files.
"""

import json
import os
import re
import subprocess
import warnings
from pathlib import Path

import pytest
import torch
from make_checkpoints import llama_tensors, make_checkpoint

from weightzoo.tasks.merge_methods.sign_methods import dropped
from weightzoo.tasks.merging.layer_stack import stack_layers
from weightzoo.tasks.merging.merge import merge_checkpoints
from weightzoo.tasks.merging.recipe_file import load_merge_recipe
from weightzoo.tasks.mixtures.expert_checkpoint import assemble_experts
from weightzoo.zoos.tensors.checkpoint_folder import open_checkpoint_folder
from weightzoo.zoos.tensors.safetensors_file import SafetensorsFile, write_safetensors

PYTHON = os.environ.get("WEIGHTZOO_MERGEKIT")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        PYTHON is None, reason="WEIGHTZOO_MERGEKIT names no Python that imports mergekit"
    ),
]
CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 8,
    "intermediate_size": 16,
    "num_attention_heads": 2,
    "num_hidden_layers": 1,
    "num_key_value_heads": 2,
    "vocab_size": 12,
    "tie_word_embeddings": False,
}
TWO = "models: [{model: m1, parameters: {weight: 0.7%s}}, {model: m2, parameters: {weight: 0.4%s}}]"
PLAIN, SPARSE = TWO % ("", ""), TWO % (", density: 0.4", ", density: 0.6")
RECIPES = {
    "linear": f"merge_method: linear\n{PLAIN}",
    "sum": f"merge_method: linear\n{PLAIN}\nparameters: {{normalize: false}}",
    "task arithmetic": f"merge_method: task_arithmetic\nbase_model: m0\n{PLAIN}\n"
    "parameters: {lambda: 0.6}",
    "ties": f"merge_method: ties\nbase_model: m0\n{TWO % (', density: 0.4', ', density: 0.4')}",
    "ties sum": f"merge_method: ties\nbase_model: m0\n{TWO % (', density: 0.4', ', density: 0.4')}"
    "\nparameters: {normalize: false, lambda: 0.5}",
    "slerp": "merge_method: slerp\nbase_model: m1\nmodels: [{model: m1}, {model: m2}]\n"
    "parameters: {t: [{filter: mlp, value: 0.2}, {value: 0.6}]}",
    "model stock": "merge_method: model_stock\nbase_model: m0\n"
    "models: [{model: m1}, {model: m2}, {model: m3}]",
}
DROPPED = """
import sys, torch
from safetensors.torch import load_file, save_file
from mergekit.sparsify import RescaleNorm, SparsificationMethod, sparsify
tau = load_file(sys.argv[1])["tau"]
torch.manual_seed(1)
kept = sparsify(tau, 0.3, SparsificationMethod.random, None)
save_file({"kept": kept, "mask": (kept != 0)}, sys.argv[2])
"""


def llama(seed: int) -> dict[str, torch.Tensor]:
    """All tensors that mergekit expects of the architecture, related to each other."""
    layer, wide = "model.layers.0", {"self_attn": "kvo", "mlp": ("gate", "down")}
    tensors, more = llama_tensors(seed), torch.Generator().manual_seed(seed + 100)
    for name in (*(f"self_attn.{side}_proj" for side in wide["self_attn"]), "mlp.gate_proj"):
        shape = (16, 8) if name.startswith("mlp") else (8, 8)
        tensors[f"{layer}.{name}.weight"] = torch.randn(shape, generator=more)
    tensors[f"{layer}.mlp.down_proj.weight"] = torch.randn(8, 16, generator=more)
    tensors[f"{layer}.post_attention_layernorm.weight"] = torch.randn(8, generator=more)
    return tensors


@pytest.mark.parametrize("name", RECIPES)
def test_recipe_gives_the_same_as_mergekit(tmp_path: Path, name: str) -> None:
    for seed in range(4):
        make_checkpoint(tmp_path / f"m{seed}", llama(seed), config=CONFIG)
    text = re.sub(r"\bm(\d)\b", rf"{tmp_path}/m\1", RECIPES[name])  # relative is a Hub name there
    (tmp_path / "recipe.yaml").write_text(f"{text}\ndtype: float32\n")
    script = Path(str(PYTHON)).with_name("mergekit-yaml")
    command = [str(script), "recipe.yaml", "theirs", "--no-copy-tokenizer", "--quiet"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    with warnings.catch_warnings():  # random weights have no ancestor
        warnings.simplefilter("ignore", UserWarning)
        merge_checkpoints(load_merge_recipe(tmp_path / "recipe.yaml"), tmp_path / "ours")
    theirs, ours = (open_checkpoint_folder(tmp_path / side) for side in ("theirs", "ours"))
    assert theirs.tensors.keys() == ours.tensors.keys()
    for tensor in ours.tensors:
        assert torch.allclose(ours.read(tensor), theirs.read(tensor), rtol=1e-5, atol=1e-6), tensor


def test_dropping_with_the_same_mask_is_mergekits_without_its_norm(tmp_path: Path) -> None:
    tau = torch.randn(50, 40)
    write_safetensors(tmp_path / "in.safetensors", {"tau": tau})
    paths = [str(tmp_path / "in.safetensors"), str(tmp_path / "out.safetensors")]
    subprocess.run([str(PYTHON), "-c", DROPPED, *paths], check=True, timeout=300)
    file = SafetensorsFile(tmp_path / "out.safetensors")
    kept, mask = file.read("kept"), file.read("mask")
    ours = dropped(tau.flatten()[None], mask.flatten()[None], 0.3)[0].view_as(tau)
    assert torch.allclose(ours, kept / 0.3)


LOGITS = """
import sys, torch, transformers
tokens = torch.tensor([[1, 2, 3, 4]])
for path in sys.argv[1:]:
    model, info = transformers.AutoModelForCausalLM.from_pretrained(path, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"], info
    print(model(tokens).logits.flatten().tolist())
"""


def test_experts_that_are_alike_compute_what_the_dense_checkpoint_does(tmp_path: Path) -> None:
    members = [make_checkpoint(tmp_path / f"m{i}", llama(0), config=CONFIG) for i in range(3)]
    assemble_experts(members, tmp_path / "experts", experts_per_token=2)
    stack_layers(members[:2], tmp_path / "stack")
    folders = [str(members[0]), str(tmp_path / "experts"), str(tmp_path / "stack")]
    command = [str(PYTHON), "-c", LOGITS, *folders]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    dense, mixture, stack = (torch.tensor(json.loads(line)) for line in done.stdout.splitlines())
    assert torch.allclose(dense, mixture, atol=1e-5)
    assert stack.isfinite().all() and not torch.allclose(dense, stack, atol=1e-2)


def test_merged_folder_is_loaded_by_transformers(tmp_path: Path) -> None:
    for seed in range(2):
        make_checkpoint(tmp_path / f"m{seed}", llama(seed), config=CONFIG)
    (tmp_path / "a.toml").write_text('method = "mean"\nmembers = ["m0", "m1"]\ndtype = "bfloat16"')
    merge_checkpoints(load_merge_recipe(tmp_path / "a.toml"), tmp_path / "out")
    code = (
        "import sys, json, torch, transformers\n"
        "model, info = transformers.AutoModelForCausalLM.from_pretrained(\n"
        "    sys.argv[1], output_loading_info=True)\n"
        "assert not info['missing_keys'] and not info['unexpected_keys'], info\n"
        "logits = model(torch.tensor([[1, 2, 3]])).logits\n"
        "print(json.dumps([str(model.dtype), logits.shape[-1], bool(logits.isfinite().all())]))\n"
    )
    command = [str(PYTHON), "-c", code, str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    assert json.loads(done.stdout.splitlines()[-1]) == ["torch.bfloat16", 12, True]
