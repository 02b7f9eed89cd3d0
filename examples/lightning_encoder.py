"""Trains an encoder with Lightning.

pip install 'weightzoo[examples]' && python examples/lightning_encoder.py
"""

import lightning
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from weightzoo import ZooDict, build_zoo, load_recipe, load_zoo
from weightzoo.encoders import encoder_entry


class ZooData(lightning.LightningDataModule):
    """The splits of a zoo as loaders; rows are read batch by batch."""

    def __init__(self, zoo: ZooDict, batch_size: int = 16) -> None:
        """Keep the splits.

        Args:
            zoo: datasets by split.
            batch_size: rows per step.
        """
        super().__init__()
        self.zoo, self.batch_size = zoo, batch_size

    def train_dataloader(self) -> DataLoader:
        """Train rows in random order."""
        return DataLoader(self.zoo["train"], self.batch_size, shuffle=True)

    def val_dataloader(self) -> DataLoader:
        """Val rows."""
        return DataLoader(self.zoo["val"], self.batch_size)

    def test_dataloader(self) -> DataLoader:
        """Test rows."""
        return DataLoader(self.zoo["test"], self.batch_size)


class AccuracyFromWeights(lightning.LightningModule):
    """An encoder that predicts the test accuracy of a network."""

    def __init__(self, encoder: nn.Module, zoo: ZooDict) -> None:
        """Keep encoder and layer table.

        Args:
            encoder: encoder with one output.
            zoo: zoo of the networks, for the layer table.
        """
        super().__init__()
        self.encoder, self.layer_table = encoder, zoo["train"].layer_table

    def training_step(self, batch: dict[str, Tensor], index: int) -> Tensor:
        """Mean squared error of a batch.

        Args:
            batch: columns of the rows, with their weights.
            index: number of the batch.
        """
        return F.mse_loss(self._predicted(batch), batch["test_accuracy"])

    def validation_step(self, batch: dict[str, Tensor], index: int) -> None:
        """Log the mean absolute error of a batch.

        Args:
            batch: columns of the rows, with their weights.
            index: number of the batch.
        """
        self._log_error("val_error", batch)

    def test_step(self, batch: dict[str, Tensor], index: int) -> None:
        """Log the mean absolute error of a batch.

        Args:
            batch: columns of the rows, with their weights.
            index: number of the batch.
        """
        self._log_error("test_error", batch)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """AdamW on all parameters."""
        return torch.optim.AdamW(self.parameters(), lr=3e-3)

    def _predicted(self, batch: dict[str, Tensor]) -> Tensor:
        return self.encoder(batch["weights"], self.layer_table)[:, 0]

    def _log_error(self, name: str, batch: dict[str, Tensor]) -> None:
        error = (self._predicted(batch) - batch["test_accuracy"]).abs().mean()
        self.log(name, error, batch_size=len(batch["weights"]))


def main() -> None:
    """Build a zoo, train for a few epochs, and print the error on the test split."""
    build_zoo(load_recipe("digits-mlp"), "example-zoo", models=24, progress=False)
    zoo = load_zoo("example-zoo").filter("status == 'ok'")
    trainer = lightning.Trainer(
        max_epochs=3, accelerator="cpu", logger=False, enable_checkpointing=False
    )
    model = AccuracyFromWeights(encoder_entry("deepsets").make(outputs=1), zoo)
    trainer.fit(model, datamodule=ZooData(zoo))
    [scores] = trainer.test(model, datamodule=ZooData(zoo))
    print(f"mean absolute error on {len(zoo['test'])} test rows: {scores['test_error']:.3f}")


if __name__ == "__main__":
    main()
