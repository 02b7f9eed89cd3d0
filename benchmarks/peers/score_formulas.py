"""Scores as the papers write them down, for comparison with the package's.

A full SVD for principal components and evidence, loops over classes, pairs and images,
pseudo-inverses, matrices of all pairs of images, generalised eigenproblems. Sources are named in
`weightzoo.tasks.transferability`.

Shape letters: N images, D features, C classes, P principal components.
"""

from collections.abc import Callable

import numpy as np
from scipy import linalg, special, stats

from weightzoo.tasks.transferability.class_scores import (
    COMPONENTS,
    DISTORTION,
    PARC_COMPONENTS,
    PARC_IMAGES,
)
from weightzoo.tasks.transferability.fisher_scores import (
    LEAST_SHRINKAGE,
    PED_EXIT,
    PED_REACH,
    PED_STEPS,
    PED_TIME,
)
from weightzoo.tasks.transferability.task_features import TaskFeatures, softmax
from weightzoo.tasks.transferability.zood import RIDGE


def logme(task: TaskFeatures) -> float:
    """LogME by a full SVD and a loop over classes."""
    fitted = _evidence(task.features, task.one_hot)
    return float(np.mean([evidence for *_, evidence in fitted]) / len(task.features))


def h_score(task: TaskFeatures) -> float:
    """The trace of its definition."""
    covariance, between = np.cov(task.features.T), np.cov(_class_means(task).T)
    return float(np.trace(np.linalg.pinv(covariance) @ between))


def regularised_h_score(task: TaskFeatures) -> float:
    """The trace of its definition, with the shrunk covariance."""
    from sklearn.covariance import LedoitWolf

    fitted = LedoitWolf(store_precision=False).fit(task.features)
    between = np.cov(_class_means(task).T)
    trace = np.trace(np.linalg.pinv(fitted.covariance_) @ between)
    return float((1 - fitted.shrinkage_) * trace)


def leep(task: TaskFeatures) -> float:
    """LEEP image by image."""
    probabilities = softmax(_logits(task))
    joint = np.zeros((task.one_hot.shape[1], probabilities.shape[1]))
    for label, row in zip(task.classes, probabilities, strict=True):
        joint[label] += row / len(probabilities)
    conditional = joint / joint.sum(axis=0)
    logs = [
        np.log(conditional[label] @ row)
        for label, row in zip(task.classes, probabilities, strict=True)
    ]
    return float(np.mean(logs))


def nce(task: TaskFeatures) -> float:
    """The conditional entropy, pair by pair of classes."""
    predicted, labels = _logits(task).argmax(axis=1), task.classes
    total = 0.0
    for source in np.unique(predicted):
        inside = predicted == source
        for label in np.unique(labels[inside]):
            both = np.mean(inside & (labels == label))
            total += both * np.log(both / np.mean(inside))
    return float(total)


def gbc(task: TaskFeatures) -> float:
    """The overlap of every pair of classes."""
    reduced = _principal_components(task.features, COMPONENTS)
    floor = 1e-6 * reduced.var(axis=0).mean()
    parts = [reduced[task.classes == name] for name in np.unique(task.classes)]
    means = [part.mean(axis=0) for part in parts]
    variances = [np.maximum(part.var(axis=0), floor) for part in parts]
    total = 0.0
    for i in range(len(parts)):
        for j in range(len(parts)):
            if i != j:
                middle = (variances[i] + variances[j]) / 2
                gap = ((means[i] - means[j]) ** 2 / middle).sum() / 8
                spread = np.log(middle / np.sqrt(variances[i] * variances[j])).sum() / 2
                total -= np.exp(-gap - spread)
    return float(total)


def lfc(task: TaskFeatures) -> float:
    """The correlation of two matrices of all pairs of images."""
    gram = task.features @ task.features.T
    labels = np.where(task.classes[:, None] == task.classes[None], 1.0, -1.0)
    gram -= gram.mean()
    labels -= labels.mean()
    return float((gram * labels).sum() / np.sqrt((gram**2).sum() * (labels**2).sum()))


def transrate(task: TaskFeatures) -> float:
    """Log determinants of the size of the features, for all images and for each class."""
    centred = task.features - task.features.mean(axis=0)

    def rate(features: np.ndarray) -> float:
        scaled = features.T @ features / (len(features) * DISTORTION)
        return float(np.linalg.slogdet(np.eye(features.shape[1]) + scaled)[1] / 2)

    parts = [centred[task.classes == name] for name in np.unique(task.classes)]
    return rate(centred) - sum(rate(part) * len(part) / len(centred) for part in parts)


def nearest_centroid(task: TaskFeatures) -> float:
    """Image by image, the mean of its class taken anew without it."""
    counts = task.one_hot.sum(axis=0)
    means = task.one_hot.T @ task.features / counts[:, None]
    hits = 0
    for row, label in zip(task.features, task.classes, strict=True):
        own = means[label].copy()
        means[label] = (own * counts[label] - row) / (counts[label] - 1)
        hits += ((row - means) ** 2).sum(axis=1).argmin() == label
        means[label] = own
    return float(hits / len(task.features))


def nearest_neighbour(task: TaskFeatures) -> float:
    """The nearest other image in a matrix of all distances."""
    features = task.features
    squares = (features**2).sum(axis=1)
    distances = squares[:, None] + squares[None] - 2 * features @ features.T
    np.fill_diagonal(distances, np.inf)
    return float((task.classes[distances.argmin(axis=1)] == task.classes).mean())


def parc(task: TaskFeatures) -> float:
    """Spearman's correlation of the upper triangles of two matrices, on the images it draws."""
    features, labels = task.features, task.one_hot
    if len(features) > PARC_IMAGES:
        drawn = np.random.default_rng(0).choice(len(features), PARC_IMAGES, replace=False)
        features, labels = features[drawn], labels[drawn]
    reduced = stats.zscore(_principal_components(features, PARC_COMPONENTS))
    upper = np.triu_indices(len(features), 1)
    apart = (1 - labels @ labels.T)[upper]
    return float(stats.spearmanr(1 - np.corrcoef(reduced)[upper], apart).statistic)


def sfda(task: TaskFeatures) -> float:
    """Two discriminants, each a generalised eigenproblem."""
    features, rows = task.features, np.arange(len(task.features))
    first, shrinkage = _discriminant(features, task.one_hot, _sfda_shrinkage)
    sure = softmax(first)[rows, task.classes][:, None]
    means = task.one_hot.T @ features / task.one_hot.sum(axis=0)[:, None]
    others = (means.sum(axis=0) - means) / (len(means) - 1)
    moved = sure * features + (1 - sure) * others[task.classes]
    second, _ = _discriminant(moved, task.one_hot, lambda _: shrinkage)
    return float(second[rows, task.classes].mean())


def ncti(task: TaskFeatures) -> float:
    """Sum of the three parts."""
    reduced = _principal_components(task.features, COMPONENTS)
    leading = reduced[:, :32].var(axis=0, ddof=1).sum()
    shrinkage = max(float(np.exp(-leading)), LEAST_SHRINKAGE)
    within, between, _, _ = _scatters(reduced, task.one_hot)
    vectors = linalg.eigh(between, _shrunk(within, shrinkage))[1]
    axes = vectors[:, ::-1][:, : task.one_hot.shape[1] - 1]
    spread = np.linalg.norm((reduced - reduced.mean(axis=0)) @ axes, "nuc")
    probabilities, _ = _discriminant(reduced, task.one_hot, lambda _: shrinkage)
    true = probabilities[np.arange(len(reduced)), task.classes].mean()
    parts = [probabilities[task.classes == name] for name in np.unique(task.classes)]
    return float(spread + true + np.log(sum(np.linalg.norm(part, "nuc") for part in parts)))


def etran(task: TaskFeatures) -> float:
    """Sum of the two parts."""
    probabilities, _ = _discriminant(task.features, task.one_hot, lambda _: LEAST_SHRINKAGE)
    true = probabilities[np.arange(len(probabilities)), task.classes].mean()
    return float(true + special.logsumexp(task.features, axis=1).mean())


def ped_logme(task: TaskFeatures) -> float:
    """LogME after PED, pair by pair of classes."""
    return logme(potential_energy_descent(task))


def ped_sfda(task: TaskFeatures) -> float:
    """SFDA after PED, pair by pair of classes."""
    return sfda(potential_energy_descent(task))


def potential_energy_descent(task: TaskFeatures) -> TaskFeatures:
    """Repulsion of every pair of classes, one after the other."""
    centre, scale = task.features.mean(axis=0), np.maximum(task.features.std(axis=0), 1e-3)
    features, first = (task.features - centre) / scale, 0.0
    for step in range(PED_STEPS):
        parts = [features[task.classes == name] for name in np.unique(task.classes)]
        means = [part.mean(axis=0) for part in parts]
        radii = [PED_REACH * np.sqrt(part.var(axis=0).sum()) for part in parts]
        shifts = np.zeros((len(parts), features.shape[1]))
        for i in range(len(parts)):
            for j in range(len(parts)):
                gap = means[i] - means[j]
                distance = float(np.linalg.norm(gap))
                overlap = radii[i] + radii[j] - distance
                if i != j and overlap > 0 and distance > 0:
                    shifts[i] += min(PED_TIME**2 / 2, 1) * overlap * gap / distance
        size = float(np.abs(shifts).sum())
        first = first or size
        if size == 0 or (step and size / first <= PED_EXIT):
            break
        features = features + shifts[task.classes]
    return task.with_features(features * scale + centre)


def zood(task: TaskFeatures) -> float:
    """Sum of discriminability and stability per image: SVDs, and SciPy's normal density."""
    assert task.domains is not None
    terms = []
    for name in np.unique(task.domains):
        out = task.domains == name
        seen, new = task.features[~out], task.features[out]
        fitted = _evidence(seen, task.one_hot[~out])
        both = np.concatenate([seen, new])
        joint = _log_densities(
            both, np.concatenate([task.one_hot[~out], task.one_hot[out]]), fitted
        )
        known = [evidence for *_, evidence in fitted]
        ridge = RIDGE * task.features.var(axis=0).mean() * np.eye(seen.shape[1])
        normal = stats.multivariate_normal(seen.mean(axis=0), np.cov(seen.T, bias=True) + ridge)
        stability = normal.logpdf(new).sum()
        terms.append((np.mean(joint) - np.mean(known) + stability) / len(new))
    return float(np.mean(terms))


def _evidence(features: np.ndarray, one_hot: np.ndarray) -> list[tuple[float, float, float]]:
    """Precisions of weights and noise, and the log evidence there, for each class."""
    left, values, _ = np.linalg.svd(features, full_matrices=False)
    images, width = features.shape
    squares, fitted = values**2, []
    for target in one_hot.T:
        along = (left.T @ target) ** 2
        rest = target @ target - along.sum()
        a = b = 1.0
        for _ in range(100):
            ratio = a / b
            used = (squares / (squares + ratio)).sum()
            weights = (squares * along / (squares + ratio) ** 2).sum()
            errors = (along * (ratio / (ratio + squares)) ** 2).sum() + rest
            new_a, new_b = used / weights, (images - used) / errors
            done = abs(np.log(new_a / a)) + abs(np.log(new_b / b)) < 1e-10
            a, b = new_a, new_b
            if done:
                break
        ratio = a / b
        weights = (squares * along / (squares + ratio) ** 2).sum()
        errors = (along * (ratio / (ratio + squares)) ** 2).sum() + rest
        determinant = np.log(a + b * squares).sum() + (width - len(squares)) * np.log(a)
        constant = width * np.log(a) + images * np.log(b / (2 * np.pi))
        evidence = (constant - determinant - b * errors - a * weights) / 2
        fitted.append((a, b, evidence))
    return fitted


def _log_densities(
    features: np.ndarray, one_hot: np.ndarray, fitted: list[tuple[float, float, float]]
) -> list[float]:
    """Log density of all labels at given precisions, for each class."""
    left, values, _ = np.linalg.svd(features, full_matrices=False)
    found = []
    for target, (a, b, _) in zip(one_hot.T, fitted, strict=True):
        along = (left.T @ target) ** 2
        variances = values**2 / a + 1 / b
        free = len(features) - len(values)
        logs = np.log(variances).sum() - free * np.log(b) + len(features) * np.log(2 * np.pi)
        found.append(-(logs + (along / variances).sum() + b * (target @ target - along.sum())) / 2)
    return found


def _class_means(task: TaskFeatures) -> np.ndarray:
    """Mean of its class for every image, (N, D)."""
    names = np.unique(task.classes)
    means = np.stack([task.features[task.classes == name].mean(axis=0) for name in names])
    return means[task.classes]


def _principal_components(features: np.ndarray, count: int) -> np.ndarray:
    left, values, _ = np.linalg.svd(features - features.mean(axis=0), full_matrices=False)
    signs = np.sign(left[np.abs(left).argmax(axis=0), np.arange(len(values))])
    return (left * values * signs)[:, :count]


def _scatters(
    features: np.ndarray, one_hot: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Within-class and between-class scatter (D, D), means (C, D) and counts (C,)."""
    counts = one_hot.sum(axis=0)
    means = one_hot.T @ features / counts[:, None]
    centred = features - one_hot @ means
    within = centred.T @ centred / len(features)
    return within, np.cov(features.T, bias=True) - within, means, counts


def _shrunk(within: np.ndarray, shrinkage: float) -> np.ndarray:
    mean = np.trace(within) / len(within)
    shrunk: np.ndarray = (1 - shrinkage) * within + shrinkage * mean * np.eye(len(within))
    return shrunk


def _sfda_shrinkage(within: np.ndarray) -> float:
    return max(float(np.exp(-5 * np.linalg.eigvalsh(within)[-1])), LEAST_SHRINKAGE)


def _discriminant(
    features: np.ndarray, one_hot: np.ndarray, choose: Callable[[np.ndarray], float]
) -> tuple[np.ndarray, float]:
    """Class probabilities (N, C) by a generalised eigenproblem, and the shrinkage chosen."""
    within, between, means, counts = _scatters(features, one_hot)
    shrinkage = choose(within)
    _, vectors = linalg.eigh(between, _shrunk(within, shrinkage))
    directions = means @ vectors @ vectors.T
    offsets = np.log(counts / len(features)) - (directions * means).sum(axis=1) / 2
    return softmax(features @ directions.T + offsets), shrinkage


def _logits(task: TaskFeatures) -> np.ndarray:
    assert task.logits is not None
    return task.logits
