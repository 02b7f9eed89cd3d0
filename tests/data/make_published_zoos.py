"""Write zoos in the structures in which others published theirs, with their traps."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from weightzoo.zoos.index import ZooIndex

HYPER = {"optim::optimizer": "adam", "optim::lr": 3e-4, "optim::wd": 0.0, "optim::momentum": 0.9}


def published_cnn(dropout: float = 0.0, channels: int = 1, large: bool = False) -> nn.Module:
    """CNN ("CNN-s") or CNN3 ("CNN-l") as published: dropout layers shift the indices of "CNN"."""

    def block(convolution: nn.Module) -> list[nn.Module]:
        drop = [nn.Dropout(dropout)] if large or dropout > 0 else []
        return [convolution, nn.MaxPool2d(2), nn.Tanh(), *drop]

    if large:
        layers = block(nn.Conv2d(channels, 16, 3)) + block(nn.Conv2d(16, 32, 3))
        layers += [*block(nn.Conv2d(32, 15, 3)), nn.Flatten(), nn.Linear(60, 20), nn.Tanh()]
    else:
        layers = block(nn.Conv2d(channels, 8, 5)) + block(nn.Conv2d(8, 6, 5))
        layers += [nn.Conv2d(6, 4, 2), nn.Tanh(), nn.Flatten(), nn.Linear(36, 20), nn.Tanh()]
    layers += [nn.Dropout(dropout)] if large or dropout > 0 else []
    network = nn.Module()
    network.module_list = nn.ModuleList([*layers, nn.Linear(20, 10)])
    return network


def zoo_rows(zoo: Path) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """All columns and weights of a zoo folder, over its splits."""
    files = ZooIndex.read(zoo).open(zoo)
    columns = [file.read_columns() for file in files]
    joined = {name: np.concatenate([part[name] for part in columns]) for name in columns[0]}
    return joined, np.concatenate([np.array(file.map_weights()) for file in files])


def trial_name(index: int, seed: int) -> str:
    """A folder name as ray tune makes it."""
    return f"NN_tune_trainable_c0371_{index:05d}_{index}_seed={seed}_2021-07-01_16-59-53"


def write_trial(
    zoo: Path,
    index: int,
    *,
    epochs: tuple[int, ...] = (0, 1, 2),
    dropout: float = 0.0,
    large: bool = False,
    padded: bool = True,
    scale: float = 1.0,
    initial_line: bool = True,
    config: dict[str, Any] | None = None,
) -> tuple[Path, dict[int, dict[str, Tensor]]]:
    """Write one ray-tune folder; return it and the state dict by epoch."""
    folder = zoo / trial_name(index, index + 1)
    folder.mkdir(parents=True)
    config = {
        "model::type": "CNN3" if large else "CNN",
        "model::nlin": "tanh",
        "model::dropout": dropout,
        "model::init_type": "uniform",
        "model::o_dim": 4,  # the published SVHN configs say so of nets with ten outputs
        "model::use_bias": False,
        "training::batchsize": 10,
        "dataset::dump": "/netscratch/dataset.pt",
        "seed": index + 1,
        **HYPER,
        **(config or {}),
    }
    (folder / "params.json").write_text(json.dumps(config))
    lines = [result_line(epoch, index, scale, config) for epoch in range(max(epochs) + 1)]
    lines = lines if initial_line else lines[1:]
    (folder / "result.json").write_text("".join(json.dumps(line) + "\n" for line in lines))
    states = {}
    for epoch in epochs:
        torch.manual_seed(1000 * index + epoch)
        states[epoch] = published_cnn(dropout, 3 if large else 1, large).state_dict()
        checkpoint = folder / (f"checkpoint_{epoch:06d}" if padded else f"checkpoint_{epoch}")
        checkpoint.mkdir()
        torch.save(states[epoch], checkpoint / "checkpoints")
        torch.save({"state": {}, "param_groups": []}, checkpoint / "optimizer")
    return folder, states


def result_line(epoch: int, index: int, scale: float, config: dict[str, Any]) -> dict[str, Any]:
    """One line of result.json; of the initial state the training metrics are a sentinel."""
    accuracy = 0.1 + 0.1 * epoch + 0.01 * index
    train = {"train_loss": 2.3 - epoch / 10, "train_acc": (accuracy + 0.05) * scale}
    return {
        **({"train_loss": -999, "train_acc": -999} if epoch == 0 else train),
        "test_loss": 2.4 - epoch / 10,
        "test_acc": accuracy * scale,
        "training_iteration": epoch,
        "trial_id": "c0371",
        "time_this_iter_s": 12.5,
        "config": config,
    }


def write_tune_zoo(zoo: Path, models: int = 10, **options: Any) -> dict[str, dict[int, Any]]:
    """Write a ray-tune tree of small CNNs; return the state dicts by model and epoch."""
    zoo.mkdir(parents=True)
    (zoo / "config.json").write_text("{}")
    (zoo / "readme.md").write_text("")
    torch.save({"trainset": torch.zeros(2)}, zoo / "dataset.pt")
    (zoo / "index_dict.json").write_text(json.dumps({"idx_start": [0, 208, 1414, 1514, 2254]}))
    states = {}
    for index in range(models):
        folder, states_of_one = write_trial(zoo, index, **options)
        states[folder.name] = states_of_one
    return states


def flatten(state: dict[str, Tensor]) -> Tensor:
    """A state dict as one vector, in its own order."""
    return torch.cat([value.detach().reshape(-1).float() for value in state.values()])


def write_twin(zoo: Path, parent: Path, state: dict[str, Tensor], epochs: int = 2) -> Path:
    """Write a sparse twin of a trial as NN_tune_trainable_from_checkpoint does, in float64.

    Each layer has a log variance per weight and per bias; that of a linear bias is never set.
    """
    folder = zoo / parent.name.replace("c0371", "d1000")
    folder.mkdir(parents=True)
    config = json.loads((parent / "params.json").read_text()) | {
        "model::type": "CNN_ARD",
        "training::init_checkpoint_path": str(parent),
        "training::sample_epoch": 2,
    }
    (folder / "params.json").write_text(json.dumps(config))
    lines = []
    for epoch in range(epochs):
        twin: dict[str, Tensor] = {}
        for name, value in state.items():
            own = value.double() + 0.01 * epoch
            noise = torch.randn(own.shape, dtype=torch.float64) * 4
            twin[name] = own
            twin[name.replace("weight", "log_sigma2").replace("bias", "log_sigma2_bias")] = noise
        checkpoint = folder / f"checkpoint_{epoch:06d}"
        checkpoint.mkdir()
        torch.save(twin, checkpoint / "checkpoints")
        line = result_line(epoch, 0, 1.0, config)
        lines.append(line | {"sparsity_ratio": _dropped_ratio(twin)})
    (folder / "result.json").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def clipped_twin(twin: dict[str, Tensor]) -> dict[str, Tensor]:
    """Tensors that the published layers compute with when they do not train."""
    clipped = {}
    for name, value in twin.items():
        if "log_sigma2" in name:
            continue
        convolution = twin[name.replace("bias", "weight")].ndim == 4
        prunes = name.endswith("weight") or convolution  # no linear bias is clipped
        clipped[name] = torch.where(_dropped(twin, name), 0.0, value) if prunes else value
    return clipped


def _dropped(twin: dict[str, Tensor], name: str) -> Tensor:
    variance = name.replace("weight", "log_sigma2").replace("bias", "log_sigma2_bias")
    return twin[variance] - 2 * torch.log(twin[name].abs() + 1e-15) >= 3


def _dropped_ratio(twin: dict[str, Tensor]) -> float:
    weights = [name for name in twin if name.endswith(".weight")]
    dropped = sum(int(_dropped(twin, name).sum()) for name in weights)
    return dropped / sum(twin[name].numel() for name in weights)


def write_vit_zoo(root: Path) -> dict[str, dict[str, Tensor]]:
    """Write the ViT zoo's tree with tiny networks: four pre-trained models, two children each.

    Configs are `config.json` of each model; children of different parents have the same names.
    """
    states: dict[str, dict[str, Tensor]] = {}
    for number in range(4):
        parent = f"sl_vit_s_16_224_seed_{number}_bs_256_lr_0.001_wd_0.0001_me_90"
        config = {"model::type": "vit_s_16", "optim::lr": 1e-3, "seed": number, "model::o_dim": 7}
        states[parent] = _write_vit(root / "pretraining" / parent, config, epoch=89, outputs=7)
        for lr in (0.001, 0.003):
            name = f"sl_ft_SD_42_LR_{lr}_WD_0_OM_adamw"
            tuned = config | {
                "optim::lr": lr,
                "model::o_dim": 5,
                "seed": 42,
                "pretraining::model": parent,
                "pretraining::model::path": f"/ds2/zoos/{parent}/checkpoint_89/checkpoints",
            }
            folder = root / "finetuning" / parent / name
            states[f"finetuning/{parent}/{name}"] = _write_vit(folder, tuned, epoch=9, outputs=5)
    return states


def _write_vit(folder: Path, config: dict[str, Any], epoch: int, outputs: int) -> dict[str, Tensor]:
    checkpoint = folder / f"checkpoint_{epoch:06d}"
    checkpoint.mkdir(parents=True)
    state = {
        "conv_proj.weight": torch.randn(4, 3, 2, 2),
        "encoder.ln.weight": torch.randn(4),
        "encoder.ln.bias": torch.randn(4),
        "heads.head.weight": torch.randn(outputs, 4),
    }
    torch.save(state, checkpoint / "checkpoints")
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "result.json").write_text(json.dumps(result_line(epoch, 0, 0.01, {})) + "\n")
    return state
