"""Trains hyper-representations: autoencoders of a zoo's weights, without labels.

Source: arXiv 2110.15288 and 2209.14733 (encoders/hyper_representation.py), with the behavioural
loss of arXiv 2503.17138: L = gamma L_contrast + (1 - gamma) (s L_structure + (1 - s) L_behaviour).

Shape letters: B models in the batch, N rows, D length of the flat weight vector, Z latent size.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from ..encoders.contrastive import (
    CONTRASTS,
    REDUCTIONS,
    ProjectionHead,
    contrast_loss,
    layer_errors,
    reconstruction_loss,
)
from ..encoders.hyper_representation import HyperRepresentation
from ..loaders import AdditiveNoise, Compose, Erasing, HiddenPermutations, Neurons, ZooDataset
from ..zoos.images import Images, load_images
from .behaviour import behaviour_loss
from .canonical import Canonical

VIEWS = ("canonical", "permuted")
WARMUP = 0.1  # share of all steps in which the learning rate rises
ENCODED_ROWS = 256
LEAST_ROWS_PER_BATCH = 2  # nt_xent needs another model


@dataclass(frozen=True, kw_only=True)
class AutoencoderSettings:
    """How an autoencoder is made and trained.

    Attributes:
        shape: keyword arguments of the encoder, e.g. {"latent": 64, "width": 64}.
        aligned: whether every model is first aligned to one reference (SANE), so that neurons of
            equal use lie in equal places.
        views: of every model two views are encoded: "canonical" as it is, "permuted" with its
            hidden units in random order, each model and view by its own draw.
        erasing: probability that a span of a view is erased; the reconstruction is of all of it.
        noise: deviation of gaussian noise on a view, in units of the layer's deviation.
        gamma: weight of the contrast between the two views; 0 leaves it out.
        contrast: "nt_xent" or "positive".
        temperature: of nt_xent.
        normalised: whether errors are divided by the deviation of their layer; without it the
            loss is that of the weights as they are, and layers of small weights hardly count.
        reduction: "global_mean" over values, or "layer_mean".
        structure: weight of the reconstruction of weights; the rest is that of logits.
        queries: images drawn for the logits of a step.
        epochs: passes over the train rows.
        batch_size: rows per step, each seen in two views.
        lr: peak learning rate of AdamW; it rises linearly, then falls as a cosine to 0.
        weight_decay: of AdamW.
        clip: largest norm of the gradient.
        device: where to train; equal seeds give equal results on a CPU.
        threads: of torch on the CPU.
        progress: whether to show progress on stderr.
    """

    shape: dict[str, Any] = field(default_factory=dict)
    aligned: bool = True
    views: tuple[str, str] = ("canonical", "canonical")
    erasing: float = 0.5
    noise: float = 0.1
    gamma: float = 0.05
    contrast: str = "nt_xent"
    temperature: float = 0.1
    normalised: bool = True
    reduction: str = "global_mean"
    structure: float = 1.0
    queries: int = 64
    epochs: int = 50
    batch_size: int = 32
    lr: float = 2e-3
    weight_decay: float = 1e-4
    clip: float = 1.0
    device: str = "cpu"
    threads: int = 1
    progress: bool = True

    def __post_init__(self) -> None:
        """Refuse unknown words and numbers out of range."""
        for name, value, allowed in (
            ("contrast", self.contrast, CONTRASTS),
            ("reduction", self.reduction, REDUCTIONS),
            ("views", self.views[0], VIEWS),
            ("views", self.views[1], VIEWS),
        ):
            if value not in allowed:
                raise ValueError(f"{name} must be one of {allowed}, got {value!r}")
        shares = (self.gamma, self.erasing, self.structure)
        if min(shares) < 0 or max(shares) > 1 or self.noise < 0:
            raise ValueError(
                "gamma, erasing and structure must lie in [0, 1] and noise be at least 0, got "
                f"{self.gamma!r}, {self.erasing!r}, {self.structure!r} and {self.noise!r}"
            )
        if min(self.epochs, self.threads, self.queries, self.batch_size - 1) < 1 or self.lr <= 0:
            raise ValueError(
                "epochs, threads and queries must be at least 1, batch_size at least "
                f"{LEAST_ROWS_PER_BATCH}, lr positive, got {self}"
            )


class ZooAutoencoder:
    """A trained autoencoder with all that turns weights into its tokens and back.

    Attributes:
        canonical: how rows are aligned and standardised.
        module: the encoder and decoder.
        settings: how it was trained.
        mean: (D,), the mean of the standardised train rows, which R2 compares with.
        history: numbers by epoch.
    """

    def __init__(
        self,
        canonical: Canonical,
        module: HyperRepresentation,
        settings: AutoencoderSettings,
        mean: Tensor,
    ) -> None:
        """Join the parts."""
        self.canonical, self.module, self.settings, self.mean = canonical, module, settings, mean
        self.tokenizer = Neurons(canonical.standardization.layer_table)
        self.history: list[dict[str, float]] = []

    def encode(self, weights: Tensor) -> Tensor:
        """Latent vectors (N, Z) of canonical flat weights (N, D)."""
        return self._mapped(self._encode, weights)

    def decode(self, latent: Tensor) -> Tensor:
        """Flat weights (N, D) of latent vectors (N, Z)."""
        return self._mapped(self._decode, latent)

    def embed(self, weights: Tensor) -> Tensor:
        """What probes read, (N, Z): the latent vectors."""
        return self.encode(weights)

    def r2(self, weights: Tensor) -> dict[str, float]:
        """Share of the variance that reconstruction explains, 1 - L / L(mean predictor).

        L is the error by layer deviation, as in arXiv 2209.14733, whatever the model was trained
        for.

        Args:
            weights: (N, D), canonical.

        Returns:
            By layer, and "all", each at most 1 and 0 for the mean of the train rows.
        """
        true = self.canonical.standardization.apply(weights)
        made = self.canonical.standardization.apply(self.decode(self.encode(weights)))
        return explained(self.tokenizer, made - true, self.mean.cpu() - true)

    def save(self, path: Path) -> None:
        """Write everything to one file, whole or not at all."""
        partial = path.with_name(path.name + ".tmp")
        torch.save(
            {
                "settings": asdict(self.settings),
                "architecture": self.canonical.architecture.to_json(),
                "standardization": self.canonical.standardization.to_json(),
                "reference": self.canonical.reference,
                "mean": self.mean,
                "history": self.history,
                "module": self.module.state_dict(),
            },
            partial,
        )
        partial.replace(path)

    @classmethod
    def load(cls, path: Path) -> "ZooAutoencoder":
        """Read what `save` wrote; no code in the file is run.

        Raises:
            ValueError: if the file is none.
        """
        import pickle

        from ..loaders import LayerStandardization
        from ..zoos.architectures import Architecture

        try:
            data = torch.load(path, map_location="cpu", weights_only=True)
            architecture = Architecture.from_json(data["architecture"])
            table = architecture.layer_table()
            standardization = LayerStandardization.from_json(table, data["standardization"])
            settings = AutoencoderSettings(
                **data["settings"] | {"views": tuple(data["settings"]["views"])}
            )
        except (KeyError, TypeError, pickle.UnpicklingError, RuntimeError, EOFError) as error:
            raise ValueError(
                f"{path} holds no autoencoder of this version: train one with "
                f"`weightzoo train hyper-representation ZOO` ({error})"
            ) from error
        canonical = Canonical(architecture, standardization, data["reference"])
        module = make_module(Neurons(table), settings)
        module.load_state_dict(data["module"])
        autoencoder = cls(canonical, module.eval(), settings, data["mean"])
        autoencoder.history = data["history"]
        return autoencoder

    def _encode(self, weights: Tensor) -> Tensor:
        standardised = self.canonical.standardization.apply(weights)
        return self.module.encode(self.tokenizer(standardised)["values"])

    def _decode(self, latent: Tensor) -> Tensor:
        values = self.tokenizer.inverse(self.module.decode(latent))
        return self.canonical.standardization.inverse(values)

    def _mapped(self, function: Callable[[Tensor], Tensor], rows: Tensor) -> Tensor:
        self.module.eval()
        device = next(self.module.parameters()).device
        with torch.no_grad(), threads(self.settings.threads):
            parts = [function(part.to(device)).clone().cpu() for part in rows.split(ENCODED_ROWS)]
        return torch.cat(parts)


def train_hyper_representation(
    train: ZooDataset,
    val: ZooDataset,
    settings: AutoencoderSettings | None = None,
    seed: int = 0,
) -> ZooAutoencoder:
    """Train an autoencoder on the train rows.

    Args:
        train: rows of the train split.
        val: rows of the val split, on which R2 is logged.
        settings: how; None takes the defaults.
        seed: fixes initial weights, order and views.

    Returns:
        The autoencoder, with losses and R2 by epoch in its `history`.

    Raises:
        ZooFormatError: if the zoo holds no architecture, or val is of another one.
        ValueError: if the train split has no more rows than the latent vector has values.
        RuntimeError: if training diverged.
    """
    settings = settings or AutoencoderSettings()
    with torch.random.fork_rng(devices=[]), threads(settings.threads):
        torch.manual_seed(seed)
        canonical = Canonical.fit(train, settings.aligned)
        module = make_module(Neurons(train.layer_table), settings)
        check_rows(len(train), module.latent)
        weights = canonical.weights(train)
        mean = canonical.standardization.apply(weights).mean(0)
        autoencoder = ZooAutoencoder(canonical, module, settings, mean)
        _Training(autoencoder, train, weights, canonical.weights(val), seed).run()
    return autoencoder


def make_module(tokenizer: Neurons, settings: AutoencoderSettings) -> HyperRepresentation:
    """The untrained encoder and decoder, drawn from torch's generator."""
    shared = tokenizer.shared
    module = HyperRepresentation(shared["mask"], shared["tensor"], **settings.shape)
    return module.to(settings.device)


def check_rows(rows: int, latent: int) -> None:
    """Refuse a zoo that a latent vector could hold by heart.

    Raises:
        ValueError: if there are no more rows than latent values.
    """
    if rows <= latent:
        raise ValueError(
            f"{rows} train rows are too few for a latent vector of {latent} values, which could "
            "tell them all apart: take a larger zoo or a smaller latent"
        )


def explained(tokenizer: Neurons, errors: Tensor, spread: Tensor) -> dict[str, float]:
    """1 - |errors|^2 / |spread|^2 by layer and for "all", of flat differences (N, D)."""
    shared = tokenizer.shared
    table = tokenizer.layer_table
    sums = [
        layer_errors(tokenizer(part)["values"].clone(), shared["mask"], shared["level"])[0]
        for part in (errors, spread)
    ]
    names = list(dict.fromkeys(spec.layer for spec in sorted(table, key=lambda spec: spec.depth)))
    shares = 1 - sums[0] / sums[1]
    return dict(zip(names, shares.tolist(), strict=True)) | {
        "all": float(1 - sums[0].sum() / sums[1].sum())
    }


class _Training:
    """One training run."""

    def __init__(
        self, autoencoder: ZooAutoencoder, train: ZooDataset, weights: Tensor, val: Tensor, seed: int
    ) -> None:
        settings = autoencoder.settings
        self.autoencoder, self.settings, self.val = autoencoder, settings, val
        self.module, self.device = autoencoder.module, torch.device(settings.device)
        self.weights = autoencoder.canonical.standardization.apply(weights).to(self.device)
        self.generator = torch.Generator(self.device).manual_seed(seed)
        self.head = ProjectionHead(self.module.latent).to(self.device)
        self.parameters = [*self.module.parameters(), *self.head.parameters()]
        self.optimizer = torch.optim.AdamW(
            self.parameters, lr=settings.lr, weight_decay=settings.weight_decay
        )
        steps = settings.epochs * math.ceil(len(weights) / settings.batch_size)
        self.schedule = torch.optim.lr_scheduler.LambdaLR(self.optimizer, warmup_cosine(steps))
        self.permutations = HiddenPermutations.of(autoencoder.canonical.architecture)
        self.augment = Compose(
            [Erasing(settings.erasing, span="values"), AdditiveNoise(settings.noise)]
        )
        shared = autoencoder.tokenizer.shared_on(self.device)
        self.mask, self.level = shared["mask"], shared["level"]
        self.scale = _token_scale(autoencoder) if not settings.normalised else None
        self.queries = _Queries(train, self.generator, settings) if settings.structure < 1 else None

    def run(self) -> None:
        settings = self.settings
        steps = settings.epochs * math.ceil(len(self.weights) / settings.batch_size)
        with tqdm(total=steps, unit="step", disable=not settings.progress, leave=False) as bar:
            for _ in range(settings.epochs):
                losses = self._epoch(bar)
                r2 = self.autoencoder.r2(self.val)["all"]
                if not math.isfinite(r2 + losses["loss"]):
                    raise RuntimeError(
                        f"training diverged: take a smaller lr than {settings.lr!r}"
                    )
                bar.set_postfix(loss=f"{losses['loss']:.3f}", val_r2=f"{r2:.3f}")
                self.autoencoder.history.append(losses | {"val_r2": r2})

    def _epoch(self, bar: Any) -> dict[str, float]:
        """One pass in random order; mean losses."""
        self.module.train()
        order = torch.randperm(len(self.weights), generator=self.generator, device=self.device)
        batches = order.split(self.settings.batch_size)
        totals: dict[str, float] = {}
        counted = [rows for rows in batches if len(rows) >= LEAST_ROWS_PER_BATCH]
        for rows in counted:
            parts = self._losses(rows)
            self.optimizer.zero_grad(set_to_none=True)
            parts["loss"].backward()
            nn.utils.clip_grad_norm_(self.parameters, self.settings.clip)
            self.optimizer.step()
            self.schedule.step()
            bar.update()
            for name, value in parts.items():
                totals[name] = totals.get(name, 0.0) + float(value.detach()) / len(counted)
        return totals

    def _losses(self, rows: Tensor) -> dict[str, Tensor]:
        settings, tokenizer = self.settings, self.autoencoder.tokenizer
        clean = torch.cat([self._view(rows, kind) for kind in settings.views])
        seen = self.augment(clean, self.generator)
        target = tokenizer(clean)["values"]
        latent, made = self.module(tokenizer(seen)["values"])
        errors = made - target if self.scale is None else (made - target) * self.scale
        structure = reconstruction_loss(errors, self.mask, self.level, settings.reduction)
        parts = {"structure": structure}
        loss = structure
        if self.queries is not None:
            parts["behaviour"] = self._behaviour(rows, clean, made)
            loss = settings.structure * structure + (1 - settings.structure) * parts["behaviour"]
        if settings.gamma:
            views = self.head(latent).chunk(2)
            parts["contrast"] = contrast_loss(*views, settings.contrast, settings.temperature)
            loss = settings.gamma * parts["contrast"] + (1 - settings.gamma) * loss
        return {"loss": loss} | parts

    def _view(self, rows: Tensor, kind: str) -> Tensor:
        weights = self.weights[rows]
        if kind == "canonical":
            return weights
        drawn = self.permutations.random_permutations(self.generator, len(weights))
        return self.permutations.apply(weights, drawn)

    def _behaviour(self, rows: Tensor, clean: Tensor, made: Tensor) -> Tensor:
        """Of the first views, which behave as the second ones do."""
        assert self.queries is not None
        standardization = self.autoencoder.canonical.standardization
        flat = standardization.inverse(self.autoencoder.tokenizer.inverse(made[: len(rows)]))
        return behaviour_loss(
            self.autoencoder.canonical.architecture,
            flat,
            standardization.inverse(clean[: len(rows)]),
            [self.queries.activations[row] for row in rows.tolist()],
            self.queries.draw(),
        )


class _Queries:
    """Query images for the behavioural loss, of the image set that the zoo was trained on."""

    def __init__(
        self, train: ZooDataset, generator: torch.Generator, settings: AutoencoderSettings
    ) -> None:
        name = train.header.recipe.get("images")
        if name is None:
            raise ValueError(
                f"zoo {train.name!r} does not say what images it was trained on: the behavioural "
                "loss needs them, train with structure=1"
            )
        self.images, self.generator = load_images(name).train, generator
        self.count, self.device = settings.queries, settings.device
        self.activations = train.hidden_column("activation", "the behavioural loss").tolist()

    def draw(self) -> Images:
        """Random images."""
        place = torch.randint(
            len(self.images), (self.count,), generator=self.generator, device=self.generator.device
        ).cpu()
        pixels, labels = self.images.pixels[place], self.images.labels[place]
        return Images(pixels.to(self.device), labels.to(self.device))


def _token_scale(autoencoder: ZooAutoencoder) -> Tensor:
    """(N, S): what turns standardised errors into those of plain weights, with mean square 1."""
    standardization = autoencoder.canonical.standardization
    ones = torch.ones(1, standardization.layer_table.width, device=autoencoder.settings.device)
    deviation = standardization.inverse(ones) - standardization.inverse(torch.zeros_like(ones))
    deviation = deviation / deviation.square().mean().sqrt()
    return autoencoder.tokenizer(deviation)["values"][0].clone()


def warmup_cosine(steps: int) -> Callable[[int], float]:
    """Factor of the learning rate by step: a linear rise, then half a cosine down to 0."""
    rise = max(1, round(WARMUP * steps))

    def factor(step: int) -> float:
        if step < rise:
            return (step + 1) / rise
        return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - rise) / max(1, steps - rise))))

    return factor


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Use so many threads of torch inside the block."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
