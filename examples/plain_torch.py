"""Trains an encoder in one's own loop, with torch and a plain DataLoader.

python examples/plain_torch.py
"""

import torch
from torch.nn import functional as F
from torch.utils.data import DataLoader

from weightzoo import build_zoo, load_recipe, load_zoo
from weightzoo.encoders import encoder_entry

EPOCHS = 3


def main() -> None:
    """Build a zoo, train, and print the error on the test split."""
    build_zoo(load_recipe("digits-mlp"), "example-zoo", models=24, progress=False)
    zoo = load_zoo("example-zoo").filter("status == 'ok'")
    table = zoo["train"].layer_table
    encoder = encoder_entry("deepsets").make(outputs=1)
    optimizer = torch.optim.AdamW(encoder.parameters(), lr=3e-3)
    for epoch in range(EPOCHS):
        for batch in DataLoader(zoo["train"], batch_size=16, shuffle=True):
            predicted = encoder(batch["weights"], table)[:, 0]
            loss = F.mse_loss(predicted, batch["test_accuracy"])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        print(f"epoch {epoch + 1}: loss {loss.item():.4f}")
    test = zoo["test"]
    with torch.no_grad():
        error = encoder(test.weights(), table)[:, 0] - test["test_accuracy"]
    print(f"mean absolute error on {len(test)} test rows: {error.abs().mean():.3f}")


if __name__ == "__main__":
    main()
