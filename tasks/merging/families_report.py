"""Families as text, and as a heat map of similarities with their dendrogram."""

from pathlib import Path

from .families import LEVELS, Families, condensed_distance

SHOWN_PAIRS = 20


def families_text(families: Families) -> str:
    """The families, the pairs that are duplicates or share an initialisation, and the errors."""
    lines = []
    for number, group in enumerate(families.groups, 1):
        names = ", ".join(families.names[index] for index in group)
        lines.append(f"family {number} ({len(group)}): {names}")
    pairs = [(i, j) for i in range(len(families.names)) for j in range(i)]
    for level in (LEVELS[0], LEVELS[2]):
        found = [(i, j) for i, j in pairs if families.level(i, j) == level]
        for i, j in found[:SHOWN_PAIRS]:
            value = float(families.similarity_MM[i, j])
            lines.append(f"{level}: {families.names[j]} and {families.names[i]} ({value:.4f})")
        if len(found) > SHOWN_PAIRS:
            lines.append(f"{level}: {len(found) - SHOWN_PAIRS} more pairs")
    lines += [f"apart: {reason}" for reason in families.reasons]
    compared = [index for index in range(len(families.names)) if families.cut[index] < 1]
    if compared:
        first = compared[0]
        errors = families.error_MM[~families.error_MM.isnan()]
        lines.append(
            f"cut at a mean column cosine of {families.cut[first]:.3f}, unrelated weights reach "
            f"{families.null[first]:.3f}, largest standard error {float(errors.max()):.4f}"
        )
    return "\n".join(lines)


def plot_families(families: Families, path: Path) -> None:
    """Draw the similarities as a heat map, ordered by the dendrogram above it.

    Args:
        families: families to draw.
        path: path of the file.
    """
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    from scipy.cluster.hierarchy import dendrogram, linkage

    count = len(families.names)
    figure, (above, below) = plt.subplots(
        2, 1, figsize=(6, 7.5), height_ratios=(1, 4), constrained_layout=True
    )
    order = list(range(count))
    if count > 1:
        tree = linkage(condensed_distance(families.similarity_MM), "complete")
        drawn = dendrogram(tree, ax=above, no_labels=True, color_threshold=0)
        order = drawn["leaves"]
        for limit in sorted(set(families.cut)):
            if limit < 1:
                above.axhline(1 - limit, linestyle=":", color="tab:red", linewidth=1)
        above.set_ylabel("1 - similarity")
    values = families.similarity_MM[order][:, order].numpy()
    image = below.imshow(values, vmin=-1, vmax=1, cmap="RdBu_r", aspect="auto")
    figure.colorbar(image, ax=below, label="mean cosine of columns", location="bottom")
    if count <= 40:
        labels = [Path(families.names[index]).name for index in order]
        below.set_xticks(range(count), labels, rotation=90, fontsize=7)
        below.set_yticks(range(count), labels, fontsize=7)
    figure.savefig(path, dpi=150)
    plt.close(figure)
