"""Table of the shipped recipes, read without torch: `weightzoo list` answers at once.

`docs/generate.py` writes `recipes/table.json` from the recipes; a test compares both.
"""

import json
from pathlib import Path
from typing import Any

TABLE_PATH = Path(__file__).parent / "recipes" / "table.json"


def recipe_table() -> list[dict[str, Any]]:
    """One row per shipped recipe: name, models, parameters, checkpoints, description.

    Example:
        >>> from weightzoo.zoos.recipe_table import recipe_table
        >>> [row["models"] for row in recipe_table() if row["name"] == "digits-cnn"]
        [256]
    """
    return list(json.loads(TABLE_PATH.read_text(encoding="utf-8")))
