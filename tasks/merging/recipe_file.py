"""Recipe files of merges: TOML of ours, or YAML of mergekit."""

import tomllib
from dataclasses import replace
from pathlib import Path

from ...zoos.errors import MergeError
from .mergekit import read_mergekit
from .recipe import MergeRecipe, read_merge_recipe


def load_merge_recipe(path: Path | str) -> MergeRecipe:
    """Read a recipe file, TOML of ours or YAML of mergekit; relative paths start at the file.

    Raises:
        MergeError: if it is no such file, has an unknown key, or a value out of range.
    """
    path = Path(path)
    try:
        text = path.read_text()
    except (OSError, UnicodeError) as error:
        raise MergeError(f"no merge recipe at {path}: {error}") from error
    if path.suffix in (".yaml", ".yml"):
        return _from_folder(read_mergekit(text), path.parent)
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise MergeError(f"{path} is no TOML: {error}") from error
    return _from_folder(read_merge_recipe(data), path.parent)


def _from_folder(recipe: MergeRecipe, folder: Path) -> MergeRecipe:
    """Paths that start at the recipe's folder; what does not lie there is left as it is."""

    def found(path: str) -> str:
        return str(folder / path) if path and (folder / path).exists() else path

    zoo = recipe.zoo and replace(recipe.zoo, path=found(recipe.zoo.path))
    return replace(
        recipe,
        members=tuple(map(found, recipe.members)),
        base=found(recipe.base),
        zoo=zoo,
        companions=tuple(map(found, recipe.companions)),
    )
