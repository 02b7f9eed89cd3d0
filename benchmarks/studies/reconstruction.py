"""Explained variance of unseen networks by number of train models: autoencoder beside PCA.

    weightzoo build digits-cnn-seed --models 1500 --out seeds
    python benchmarks/studies/reconstruction.py seeds --out reconstruction.json

Takes the last checkpoints. The autoencoder is that of `weightzoo train hyper-representation`
without behavioural loss, and its epoch is chosen on val. PCA (principal component analysis) has as
many components as the autoencoder has latent values, in the same canonical, standardised weights.
Both are scored on val networks. A count that is in the file already is not fitted again.
"""

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from weightzoo import load_zoo
from weightzoo.loaders import ZooDataset
from weightzoo.tasks.autoencoding.canonical import last_rows
from weightzoo.tasks.autoencoding.hyper_representation import train_hyper_representation
from weightzoo.tasks.autoencoding.learnable_rows import homogeneous_splits
from weightzoo.tasks.autoencoding.settings import AutoencoderSettings
from weightzoo.tasks.autoencoding.token_autoencoder import (
    TokenAutoencoder,
    explained,
    squares_by_layer,
)
from weightzoo.zoos.disk import write_whole
from weightzoo.zoos.strict_json import json_text

LATENT = 64  # the autoencoder's default


def main() -> None:
    """Fit and score each number of models, and write the rows after each."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("zoo", help="zoo in which only the seed differs")
    parser.add_argument("--counts", type=int, nargs="+", default=[100, 300, 1000])
    parser.add_argument("--out", type=Path, required=True, help="JSON file")
    options = parser.parse_args()
    torch.set_num_threads(1)
    train, val = homogeneous_splits(load_zoo(options.zoo), 0)
    train, val = train.select(last_rows(train)), val.select(last_rows(val))
    rows = json.loads(options.out.read_text()) if options.out.exists() else []
    for count in missing(options.counts, rows):
        rows.append(measured(train.select(range(count)), val))
        write_whole(options.out, (json_text(rows, indent=1) + "\n").encode())
        print(rows[-1], flush=True)


def missing(counts: Sequence[int], rows: Sequence[dict[str, Any]]) -> list[int]:
    """Counts without a row.

    Args:
        counts: numbers of train models.
        rows: finished rows.
    """
    return [count for count in counts if all(row["train_models"] != count for row in rows)]


def measured(train: ZooDataset, val: ZooDataset) -> dict[str, Any]:
    """Fit both to train networks, and score them on val networks.

    Args:
        train: last checkpoints of the train models.
        val: last checkpoints of the val models.
    """
    started = time.process_time()
    autoencoder = train_hyper_representation(
        train, val, AutoencoderSettings(progress=False), seed=0
    )
    seconds, history = time.process_time() - started, autoencoder.history
    return {
        "train_models": len(train),
        "val_models": len(val),
        "latent": LATENT,
        "epochs": len(history),
        "kept_epoch": autoencoder.kept_epoch,
        "val_r2": autoencoder.r2(val)["all"],
        "val_r2_last_epoch": history[-1]["val_r2"],
        "pca_val_r2": pca_r2(autoencoder, train, val),
        "process_seconds": round(seconds, 1),
    }


def pca_r2(autoencoder: TokenAutoencoder, train: ZooDataset, val: ZooDataset) -> float:
    """Explained variance of val networks by the principal components of train networks.

    Args:
        autoencoder: autoencoder whose canonical, standardised weights are taken.
        train: rows that the components are fitted to.
        val: rows that are scored.
    """
    canonical, cut = autoencoder.canonical, autoencoder.tokenizer
    known, new = (canonical.standardization.apply(canonical.weights(rows)) for rows in (train, val))
    mean = known.mean(0)
    axes = torch.linalg.svd(known - mean, full_matrices=False).Vh[:LATENT]
    made = mean + (new - mean) @ axes.T @ axes
    errors, total = squares_by_layer(cut, made - new), squares_by_layer(cut, mean - new)
    return float(explained(cut, errors, total)["all"])


if __name__ == "__main__":
    main()
