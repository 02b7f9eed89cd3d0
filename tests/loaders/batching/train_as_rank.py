"""One rank of two: data-parallel regression on the weights of a zoo, fed by a DeviceLoader.

python train_as_rank.py RANK ZOO FOLDER saves to the folder what the rank read and made.
"""

import sys
from pathlib import Path

import torch

from weightzoo.loaders import DeviceLoader, load_zoo


def main() -> None:
    """Two epochs over the train split."""
    rank, folder = int(sys.argv[1]), Path(sys.argv[3])
    store = torch.distributed.FileStore(str(folder / "store"), 2)
    torch.distributed.init_process_group("gloo", store=store, rank=rank, world_size=2)
    loader = DeviceLoader(load_zoo(sys.argv[2], split="train"), 4)
    head = torch.nn.Linear(loader.dataset.source.width, 1, bias=False)
    torch.nn.init.zeros_(head.weight)
    model = torch.nn.parallel.DistributedDataParallel(head)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    rows: list[torch.Tensor] = []
    steps = 0
    for epoch in range(2):
        loader.set_epoch(epoch)
        seen = []
        for batch in loader:
            optimizer.zero_grad()
            (model(batch["weights"])[:, 0] - batch["test_accuracy"]).square().mean().backward()
            optimizer.step()
            seen.append(10 * batch["model_id"] + batch["epoch"])
            steps += 1
        rows.append(torch.cat(seen))
    result = {"rows": rows, "steps": steps, "weight": head.weight.detach()}
    torch.save(result, folder / f"{rank}.pt")
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main()
