"""weightzoo: populations of trained networks as datasets.

`load_zoo` opens a zoo and `build_zoo` trains one from a recipe. The sub-packages are `zoos`,
`loaders`, `builders`, `encoders`, `tasks`, `benchmarks` and `cli`.
"""

TYPE_CHECKING = False  # read by type checkers as true; importing `typing` would cost 10 ms
if TYPE_CHECKING:
    from . import benchmarks as benchmarks
    from . import builders as builders
    from . import cli as cli
    from . import encoders as encoders
    from . import loaders as loaders
    from . import tasks as tasks
    from . import zoos as zoos
    from .builders.build import build_zoo as build_zoo
    from .builders.writing.hf_dataset import from_hf as from_hf
    from .builders.writing.own_models import write_zoo as write_zoo
    from .builders.writing.zoo_writer import ZooWriter as ZooWriter
    from .loaders.batching.device import DeviceLoader as DeviceLoader
    from .loaders.editing import save_zoo as save_zoo
    from .loaders.load import ZooDataset as ZooDataset
    from .loaders.load import ZooDict as ZooDict
    from .loaders.load import concatenate_zoos as concatenate_zoos
    from .loaders.load import load_zoo as load_zoo
    from .zoos.recipe import Recipe as Recipe
    from .zoos.recipe import load_recipe as load_recipe

    __version__: str

__all__ = [
    "DeviceLoader",
    "Recipe",
    "ZooDataset",
    "ZooDict",
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
    "ZooDict": "loaders.load",
    "Recipe": "zoos.recipe",
    "load_recipe": "zoos.recipe",
    "from_hf": "builders.writing.hf_dataset",
    "save_zoo": "loaders.editing",
    "write_zoo": "builders.writing.own_models",
    "ZooWriter": "builders.writing.zoo_writer",
}
_PACKAGES = ("benchmarks", "builders", "cli", "encoders", "loaders", "tasks", "zoos")


def __getattr__(name: str) -> object:
    """Import a public name or sub-package on first use, so that `import weightzoo` stays fast.

    Raises:
        AttributeError: if there is no such public name.
    """
    from importlib import import_module

    if name == "__version__":
        return import_module(".zoos.provenance", __name__).package_version()
    if name in _PACKAGES:
        return import_module(f".{name}", __name__)
    if name not in _HOMES:
        raise AttributeError(f"module 'weightzoo' has no attribute {name!r}")
    return getattr(import_module(f".{_HOMES[name]}", __name__), name)


def __dir__() -> list[str]:
    """List public names and sub-packages, also those that were not imported yet."""
    return sorted({*globals(), *__all__, *_PACKAGES, "__version__"})
