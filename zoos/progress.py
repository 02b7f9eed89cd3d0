"""Progress bars on stderr, which short commands do not show."""

from typing import Any

from tqdm import tqdm

DELAY_SECONDS = 1.0  # a bar appears when its work takes longer


def progress_bar(
    total: int, description: str, unit: str, progress: bool = True, **options: Any
) -> tqdm:
    """A bar on stderr that disappears when its work is done.

    Args:
        total: amount of work.
        description: name of the work.
        unit: unit of the work, in the singular.
        progress: whether to show the bar.
        **options: further options of tqdm.
    """
    return tqdm(
        total=total,
        desc=description,
        unit=unit,
        disable=not progress,
        leave=False,
        delay=DELAY_SECONDS,
        **options,
    )
