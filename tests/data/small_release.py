"""A plan of a release with every kind of member, each as small as it may be."""

from pathlib import Path

RECIPE = """
name = "{name}"
description = "a few small MLPs"
images = "digits"
seed = {seed}
seeds = {seeds}
seed_kind = "{kind}"
epochs = 3
checkpoints = [0, 1, 3]

[architecture]
name = "mlp-12"
input_shape = [1, 28, 28]
layers = [
  {{ kind = "flatten" }},
  {{ kind = "linear", out = 12 }},
  {{ kind = "activation" }},
  {{ kind = "linear", out = 10 }},
]

[factors]
lr = {lr}
train_fraction = 0.2
batch_size = 32

[split]
{split}
"""
PARTS = "train = 0.6\nval = 0.2\ntest = 0.2"
PLAN = """
title = "small zoos"
licence = "cc-by-4.0"

[[members]]
name = "mlps"
about = "a few MLPs"
command = "build"
recipe = "{folder}/mlps.toml"
models = 10

[[members]]
name = "tuned"
about = "MLPs on other images"
command = "finetune"
parents = ["mlps"]
models = 5
images = "glyphs-digits"
epochs = 1
checkpoints = [0, 1]

[[members]]
name = "sparse"
about = "pruned MLPs"
command = "sparsify"
parents = ["mlps"]
models = 5
sparsity = 0.5
epochs = 2
checkpoints = [2]

[[members]]
name = "families"
about = "MLPs that start from equal weights"
command = "build"
recipe = "{folder}/families.toml"
models = 6

[[members]]
name = "merged"
about = "merges of families"
command = "glue"
parents = ["families"]
budget = 12

[[members]]
name = "matrix"
about = "accuracies after fine-tuning"
command = "finetune-matrix"
parents = ["mlps"]
targets = ["digits+first", "glyphs-latin"]
seeds = 1
epochs = 2
rates = [0.01]
shots = 5
"""


def write_small_plan(folder: Path) -> Path:
    """Write the plan and its recipes, and return the path of the plan."""
    drawn = {"seed": 7, "seeds": 10, "kind": "random", "lr": "{ log_uniform = [1e-3, 1e-2] }"}
    grid = {"seed": 8, "seeds": 2, "kind": "fixed", "lr": "[1e-3, 2e-3, 3e-3]"}
    recipes = {"mlps": drawn | {"split": PARTS}, "families": grid | {"split": "train = 1.0"}}
    for name, values in recipes.items():
        (folder / f"{name}.toml").write_text(RECIPE.format(name=name, **values))
    (folder / "plan.toml").write_text(PLAN.format(folder=folder))
    return folder / "plan.toml"
