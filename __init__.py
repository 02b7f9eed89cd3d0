"""weightzoo: populations of trained networks as datasets.

`load_zoo` opens a zoo and `build_zoo` trains one from a recipe. The sub-packages are `zoos`,
`loaders`, `builders`, `encoders`, `tasks`, `benchmarks` and `cli`.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .builders.build import build_zoo as build_zoo
    from .builders.writing.hf_dataset import from_hf as from_hf
    from .builders.writing.own_models import write_zoo as write_zoo
    from .builders.writing.zoo_writer import ZooWriter as ZooWriter
    from .loaders.batching.device import DeviceLoader as DeviceLoader
    from .loaders.editing import save_zoo as save_zoo
    from .loaders.load import ZooDataset as ZooDataset
    from .loaders.load import concatenate_zoos as concatenate_zoos
    from .loaders.load import load_zoo as load_zoo
    from .zoos.recipe import Recipe as Recipe
    from .zoos.recipe import load_recipe as load_recipe

__all__ = [
    "DeviceLoader",
    "Recipe",
    "ZooDataset",
    "ZooWriter",
    "build_zoo",
    "concatenate_zoos",
    "from_hf",
    "load_recipe",
    "load_zoo",
    "save_zoo",
    "write_zoo",
]

_HOMES = {
    "build_zoo": "builders.build",
    "load_zoo": "loaders.load",
    "concatenate_zoos": "loaders.load",
    "DeviceLoader": "loaders.batching.device",
    "ZooDataset": "loaders.load",
    "Recipe": "zoos.recipe",
    "load_recipe": "zoos.recipe",
    "from_hf": "builders.writing.hf_dataset",
    "save_zoo": "loaders.editing",
    "write_zoo": "builders.writing.own_models",
    "ZooWriter": "builders.writing.zoo_writer",
}


def __getattr__(name: str) -> Any:
    """Import a public name on first use, so that `import weightzoo` stays fast.

    Raises:
        AttributeError: if there is no such public name.
    """
    if name not in _HOMES:
        raise AttributeError(f"module 'weightzoo' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f".{_HOMES[name]}", __name__), name)
