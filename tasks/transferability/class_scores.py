"""Scores of how features of the classes lie: within, between, and near one another.

Sources: H-score, Bao et al. 2019, DOI 10.1109/ICIP.2019.8803726; regularised H-score, Ibrahim et
al. 2022, arXiv 2110.06893; GBC, Pandy et al. 2022, arXiv 2111.12780; LFC, Deshpande et al. 2021,
arXiv 2102.00084; TransRate, Huang et al. 2022, arXiv 2106.09362; PARC, Bolya et al. 2021, arXiv
2111.06977. Nearest centroid and nearest neighbour are plain leave-one-out accuracies.

Shape letters: N images, D features, C classes, P principal components.
"""

import numpy as np

from .evidence import fit_precisions
from .task_features import TaskFeatures

COMPONENTS = 64
DISTORTION = 1e-4
PARC_IMAGES, PARC_COMPONENTS = 2_000, 32
BLOCK = 512  # images whose distances to all others are held at a time


def logme(task: TaskFeatures, intercept: bool = False) -> float:
    """Mean log evidence per image over classes or regressed values; see `evidence`.

    Args:
        task: features and labels.
        intercept: whether to centre the labels and features first; not so as published.
    """
    features, targets = task.features, task.one_hot
    if intercept:
        features, targets = features - features.mean(axis=0), targets - targets.mean(axis=0)
    return float(fit_precisions(features, targets).evidence.mean() / len(features))


def h_score(task: TaskFeatures) -> float:
    """Trace of the between-class covariance in units of the covariance of all features.

    With more features than images every model reaches the largest value, the number of classes
    minus 1; the regularised score is meant for that case.
    """
    centred = task.features - task.features.mean(axis=0)
    values, vectors = np.linalg.eigh(centred.T @ centred)
    kept = values > values[-1] * max(centred.shape) * np.finfo(float).eps
    sums = task.one_hot.T @ (centred @ vectors[:, kept])  # (C, kept)
    return float((sums**2 / task.one_hot.sum(axis=0)[:, None] / values[kept]).sum())


def regularised_h_score(task: TaskFeatures) -> float:
    """The H-score with Ledoit and Wolf's shrinkage of the covariance."""
    from sklearn.covariance import LedoitWolf

    fitted = LedoitWolf(store_precision=False).fit(task.features)
    centred = task.features - task.features.mean(axis=0)
    counts = task.one_hot.sum(axis=0)
    means = task.one_hot.T @ centred / counts[:, None]
    values, vectors = np.linalg.eigh(fitted.covariance_)
    kept = values > values[-1] * len(values) * np.finfo(float).eps
    squares = counts @ (means @ vectors[:, kept]) ** 2 / (len(centred) - 1)
    return float((1 - fitted.shrinkage_) * (squares / values[kept]).sum())


def gbc(task: TaskFeatures, covariance: str = "diagonal") -> float:
    """Minus the Bhattacharyya overlaps of all pairs of classes, on 64 principal components.

    Args:
        task: features and labels.
        covariance: form of a class covariance, "diagonal" or "spherical".

    Raises:
        ValueError: if the covariance is unknown.
    """
    if covariance not in ("diagonal", "spherical"):
        raise ValueError(f"covariance must be 'diagonal' or 'spherical', got {covariance!r}")
    reduced = principal_components(task.features, COMPONENTS)
    means, variances = _class_moments(reduced, task.one_hot)
    if covariance == "spherical":
        variances = np.repeat(variances.mean(axis=1, keepdims=True), reduced.shape[1], axis=1)
    variances = np.maximum(variances, 1e-6 * reduced.var(axis=0).mean())
    middle = (variances[:, None] + variances[None]) / 2  # (C, C, P)
    gaps = ((means[:, None] - means[None]) ** 2 / middle).sum(axis=2) / 8
    logs = np.log(variances).sum(axis=1)
    spread = (np.log(middle).sum(axis=2) - (logs[:, None] + logs[None]) / 2) / 2
    overlaps = np.exp(-gaps - spread)
    return float(np.trace(overlaps) - overlaps.sum())


def lfc(task: TaskFeatures) -> float:
    """Correlation of the features' Gram matrix with +1 for equal and -1 for other labels.

    Computed from products of the size of the features, without the N x N matrices.
    """
    features, counts = task.features, task.one_hot.sum(axis=0)
    pairs = len(features) ** 2
    total = (features.sum(axis=0) ** 2).sum()
    label_mean = (2 * (counts**2).sum() - pairs) / pairs
    crossed = 2 * ((task.one_hot.T @ features) ** 2).sum() - total
    gram = features.T @ features if features.shape[1] < len(features) else features @ features.T
    variance = (gram**2).sum() / pairs - (total / pairs) ** 2
    covariance = crossed / pairs - total / pairs * label_mean
    return float(covariance / np.sqrt(variance * (1 - label_mean**2)))


def transrate(task: TaskFeatures, distortion: float = DISTORTION) -> float:
    """Coding rate of all features minus that of the features of each class.

    Args:
        task: features and labels.
        distortion: allowed distortion of the code, epsilon in the paper.
    """
    centred = task.features - task.features.mean(axis=0)
    within = sum(
        share * _coding_rate(centred[task.classes == name], distortion)
        for name, share in enumerate(task.one_hot.mean(axis=0))
    )
    return float(_coding_rate(centred, distortion) - within)


def nearest_centroid(task: TaskFeatures) -> float:
    """Accuracy of the nearest class mean, the image itself left out of its class's mean."""
    counts = task.one_hot.sum(axis=0)
    means = task.one_hot.T @ task.features / counts[:, None]
    squares = (task.features**2).sum(axis=1)[:, None] + (means**2).sum(axis=1)[None]
    distances = np.sqrt(np.maximum(squares - 2 * task.features @ means.T, 0))
    rows = np.arange(len(distances))
    own = counts[task.classes]
    distances[rows, task.classes] *= own / (own - 1)
    return float((distances.argmin(axis=1) == task.classes).mean())


def nearest_neighbour(task: TaskFeatures) -> float:
    """Accuracy of the label of the nearest other image."""
    features = task.features - task.features.mean(axis=0)
    squares = (features**2).sum(axis=1)
    hits = 0
    for start in range(0, len(features), BLOCK):
        distances = squares[None] - 2 * features[start : start + BLOCK] @ features.T
        own = np.arange(len(distances))
        distances[own, start + own] = np.inf
        nearest = distances.argmin(axis=1)
        hits += (task.classes[nearest] == task.classes[start : start + BLOCK]).sum()
    return float(hits / len(features))


def parc(task: TaskFeatures, components: int = PARC_COMPONENTS, seed: int = 0) -> float:
    """Spearman correlation of the distances of features with those of labels.

    Args:
        task: features and labels.
        components: principal components of the features that are kept.
        seed: seed of the 2,000 images that are drawn where there are more; distances of all
            pairs of 10,000 images do not fit the memory.
    """
    from scipy.stats import rankdata

    features, classes = task.features, task.classes
    if len(features) > PARC_IMAGES:
        drawn = np.random.default_rng(seed).choice(len(features), PARC_IMAGES, replace=False)
        features, classes = features[drawn], classes[drawn]
    reduced = principal_components(features, components)
    reduced = (reduced - reduced.mean(axis=0)) / reduced.std(axis=0)
    pairs = np.triu_indices(len(reduced), 1)
    near = rankdata(1 - np.corrcoef(reduced)[pairs])
    differ = classes[pairs[0]] != classes[pairs[1]]
    return float(np.corrcoef(near, differ)[0, 1])


def principal_components(features: np.ndarray, count: int) -> np.ndarray:
    """Features along their leading directions, (N, P); fewer where the others are constant.

    Of each direction the sign is that which makes the value of largest size positive, as in
    scikit-learn when the scores were published: PARC depends on signs, an eigenvector has none.

    Args:
        features: (N, D).
        count: largest number of directions.
    """
    centred = features - features.mean(axis=0)
    images, width = centred.shape
    gram = centred.T @ centred if width <= images else centred @ centred.T
    values, vectors = np.linalg.eigh(gram)
    kept = np.flatnonzero(values > values[-1] * max(images, width) * np.finfo(float).eps)
    kept = kept[::-1][:count]
    along = vectors[:, kept]
    reduced = centred @ along if width <= images else along * np.sqrt(values[kept])
    largest = reduced[np.abs(reduced).argmax(axis=0), np.arange(reduced.shape[1])]
    signed: np.ndarray = reduced * np.sign(largest)
    return signed


def _class_moments(features: np.ndarray, one_hot: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance of every feature in every class, (C, D) each."""
    counts = one_hot.sum(axis=0)[:, None]
    means = one_hot.T @ features / counts
    return means, np.maximum(one_hot.T @ features**2 / counts - means**2, 0)


def _coding_rate(features: np.ndarray, distortion: float) -> float:
    images, width = features.shape
    gram = features.T @ features if width <= images else features @ features.T
    scaled = np.eye(len(gram)) + gram / (images * distortion)
    return float(np.linalg.slogdet(scaled)[1] / 2)
