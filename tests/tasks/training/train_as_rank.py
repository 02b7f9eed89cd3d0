"""One of several processes that train both encoders on a zoo, or the only one.

python train_as_rank.py RANK PROCESSES ZOO FOLDER saves weights and losses to FOLDER/RANK.pt.
"""

import sys
from pathlib import Path

import torch

from weightzoo.loaders import load_zoo
from weightzoo.tasks.autoencoding.hyper_representation import train_hyper_representation
from weightzoo.tasks.autoencoding.settings import AutoencoderSettings
from weightzoo.tasks.training.data_parallel import SharedBatchNorm
from weightzoo.tasks.training.encoder_making import EncoderSpec
from weightzoo.tasks.training.encoder_regressor import train_encoder
from weightzoo.tasks.training.settings import TrainingSettings

BATCH = 16  # rows of all processes together
SMALL = {"width": 8, "heads": 1, "blocks": 1, "chunk_size": 16}
PLAIN = {"norm": "pre", "features": "scales", "head_norm": False}  # rounding stays small here
SHAPE = {"latent": 4, "width": 8, "heads": 1, "blocks": 1}


def normed(rank: int, processes: int) -> torch.Tensor:
    """Outputs of a batch norm for the own rows, and gradients of a loss over all rows."""
    generator = torch.Generator().manual_seed(0)
    values, factors = torch.randn(2, BATCH - 1, 3, generator=generator, dtype=torch.float64)
    own = slice(rank * 5, 5 if rank + 1 < processes else None)
    given = values[own].requires_grad_()
    norm = SharedBatchNorm(3).double()
    made = norm(given)
    (made * factors[own]).sum().backward()
    assert given.grad is not None
    return torch.cat([made.detach(), given.grad], dim=1)


def main() -> None:
    """Two epochs of either encoder."""
    rank, processes, folder = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[4])
    torch.set_num_threads(1)
    if processes > 1:
        store = torch.distributed.FileStore(str(folder / "store"), processes)
        torch.distributed.init_process_group("gloo", store=store, rank=rank, world_size=processes)
    train, val = (load_zoo(sys.argv[3], split=split) for split in ("train", "val"))
    share = {"epochs": 2, "batch_size": BATCH // processes, "progress": False}
    settings = TrainingSettings(**share)
    sne, plain = (
        train_encoder(EncoderSpec("sne", SMALL | more), train, val, "test_accuracy", settings, 0)
        for more in ({}, PLAIN)
    )
    views = {"views": ("canonical", "permuted"), "keep": "last", "lr": 1e-3}
    hyper = train_hyper_representation(
        train, val, AutoencoderSettings(shape=SHAPE, **share, **views), 0, folder / str(processes)
    )
    result = {
        "norm": normed(rank, processes),
        "sne": sne.module.state_dict(),
        "sne, pre-norm": plain.module.state_dict(),
        "hyper-representation": hyper.module.state_dict(),
        "losses": [
            *(epoch["train_loss"] for epoch in sne.training["history"]),
            *(epoch["train_loss"] for epoch in plain.training["history"]),
            *(epoch["loss"] for epoch in hyper.history),
        ],
    }
    torch.save(result, folder / f"{rank}-of-{processes}.pt")
    if processes > 1:
        torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main()
