"""A small language zoo: models of bytes of two types, bases and children of single domains.

`transformers` trains and loads the models. The bases see all domains, each child one of them.

Shape letters: B windows of a batch, N windows, T bytes of a window.
"""

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ...zoos.errors import UnsuitableError
from ...zoos.texts.corpus import DOMAINS, Domain

VOCABULARY = 256
ARCHITECTURES = ("llama", "gpt_neox")
WARM_UP = 20  # steps


@dataclass(frozen=True)
class LanguageSize:
    """Amount of training and shape of the models.

    Attributes:
        width: hidden width.
        layers: decoder layers.
        length: bytes of a window, T.
        batch: windows of a batch, B.
        base_steps: steps of a base.
        child_steps: steps of a child.
        more_steps: steps of the rows with continued training.
        windows: windows of each domain in val; test has twice as many.
        most_bytes: bytes of each domain.
    """

    width: int
    layers: int
    length: int
    batch: int
    base_steps: int
    child_steps: int
    more_steps: int
    windows: int
    most_bytes: int


SMALL = LanguageSize(96, 2, 97, 16, 250, 80, 40, 48, 1_500_000)
FULL = LanguageSize(144, 4, 129, 8, 1200, 250, 100, 48, 4_000_000)
BASE_RATE, CHILD_RATE, MORE_RATE = 2e-3, 1e-3, 1e-3


def transformers_classes() -> Any:
    """The module `transformers`.

    Raises:
        UnsuitableError: if it is not installed.
    """
    try:
        import transformers
    except ImportError as error:
        raise UnsuitableError(
            "benchmark 'merging-language' trains its models with transformers: pip install "
            "'weightzoo[ranking]'"
        ) from error
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    return transformers


def new_model(size: LanguageSize, seed: int, architecture: str = "llama") -> Any:
    """A model with random weights.

    Args:
        size: shape of the model.
        seed: seed of the weights.
        architecture: one of `ARCHITECTURES`.
    """
    transformers, gated = transformers_classes(), architecture == "llama"
    make = transformers.LlamaConfig if gated else transformers.GPTNeoXConfig
    config = make(
        vocab_size=VOCABULARY,
        hidden_size=size.width,
        intermediate_size=8 * size.width // 3 // 32 * 32 if gated else 4 * size.width,
        num_hidden_layers=size.layers,
        num_attention_heads=4,
        max_position_embeddings=2 * size.length,
    )
    torch.manual_seed(seed)
    return transformers.AutoModelForCausalLM.from_config(config)


def load_model(folder: Path) -> Any:
    """A model of a checkpoint folder, in eval mode."""
    return transformers_classes().AutoModelForCausalLM.from_pretrained(folder).eval()


def train_model(
    model: Any,
    texts: Sequence[Tensor],
    size: LanguageSize,
    *,
    steps: int,
    rate: float,
    seed: int,
    trained: Callable[[str], bool] = lambda name: True,
) -> Any:
    """Train a model on windows drawn from texts, each text alike often.

    Args:
        model: model to train, which is changed.
        texts: bytes to draw windows from.
        size: shape of batches.
        steps: number of steps.
        rate: learning rate, after a linear warm-up.
        seed: seed of the draws.
        trained: condition on the names of the parameters that change.
    """
    generator = torch.Generator().manual_seed(seed)
    parameters = []
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(trained(name))
        parameters += [parameter] if parameter.requires_grad else []
    optimizer = torch.optim.AdamW(parameters, rate, weight_decay=0.01)
    model.train()
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = rate * min(1.0, (step + 1) / WARM_UP)
        batch = _batch(texts, size, generator)
        loss = F.cross_entropy(
            model(input_ids=batch[:, :-1]).logits.flatten(0, 1), batch[:, 1:].flatten()
        )
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
    return model.eval()


def _batch(texts: Sequence[Tensor], size: LanguageSize, generator: torch.Generator) -> Tensor:
    """(B, T), int64."""
    rows = []
    for _ in range(size.batch):
        text = texts[int(torch.randint(len(texts), (1,), generator=generator))]
        start = int(torch.randint(len(text) - size.length, (1,), generator=generator))
        rows.append(text[start : start + size.length])
    return torch.stack(rows).long()


def token_losses(model: Any, windows_NT: Tensor) -> Tensor:
    """(N, T - 1): loss of every byte but the first of a window, in nats.

    Args:
        model: model in eval mode.
        windows_NT: windows.
    """
    parts = []
    with torch.no_grad():
        for batch in windows_NT.split(64):
            logits = model(input_ids=batch[:, :-1]).logits.transpose(1, 2)
            parts.append(F.cross_entropy(logits, batch[:, 1:], reduction="none"))
    return torch.cat(parts)


def provide_family(
    folder: Path,
    domains: Mapping[str, Domain],
    size: LanguageSize,
    seed: int,
    architecture: str = "llama",
) -> tuple[Path, list[Path]]:
    """Base and children of one family; those that are missing are trained.

    Args:
        folder: folder for the checkpoint folders.
        domains: texts by domain.
        size: shape and amount of training.
        seed: seed of the base.
        architecture: one of `ARCHITECTURES`.
    """
    name = f"{architecture}-{seed}"
    base, texts = folder / f"{name}-base", [domain.train for domain in domains.values()]
    if not base.exists():
        model = new_model(size, seed, architecture)
        train_model(model, texts, size, steps=size.base_steps, rate=BASE_RATE, seed=seed)
        _save(model, base)
    children = []
    for place, domain in enumerate(DOMAINS):
        child = folder / f"{name}-{domain}"
        if not child.exists():
            steps, own = size.child_steps, 100 * (seed + 1) + place
            model = load_model(base)
            train_model(
                model, [domains[domain].train], size, steps=steps, rate=CHILD_RATE, seed=own
            )
            _save(model, child)
        children.append(child)
    return base, children


def _save(model: Any, folder: Path) -> None:
    """Write a checkpoint folder completely or not at all."""
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    model.save_pretrained(partial)
    partial.rename(folder)
