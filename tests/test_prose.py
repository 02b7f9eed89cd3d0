"""Prose of the package: sections of docstrings, forms that nobody understands, abbreviations."""

import re
from dataclasses import MISSING, fields
from pathlib import Path

import pytest
from package_layout import module_files
from prose import banned_forms, lacks_raises, nounless_entries, public_functions, without_args

from weightzoo.zoos.networks.layers import LAYERS

ROOT = Path(__file__).parents[1]
SCRIPTS = [
    f for room in ("peers", "speed", "studies") for f in ROOT.glob(f"benchmarks/{room}/*.py")
]
SOURCES = [*module_files(ROOT), *(f.relative_to(ROOT) for f in SCRIPTS)]
DOCUMENTS = [f.relative_to(ROOT) for f in sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])]
HELD_FORMS = (Path("tests/data/prose.py"), Path("tests/test_prose.py"))  # hold the banned forms
FURTHER = [f.relative_to(ROOT) for f in sorted([*ROOT.glob("tests/**/*.py"), *ROOT.glob("*.toml")])]
FURTHER += [f.relative_to(ROOT) for f in sorted(ROOT.glob("zoos/recipes/*.toml"))]
EXPLAINED = [file for file in DOCUMENTS if file.name not in ("CHANGELOG.md", "LOG.md")]
EXPANSIONS = {
    "SNE": "set-based neural network encoder",
    "NFN": "neural functional network",
    "SANE": "sequential autoencoder for neural embeddings",
    "INR": "implicit neural representation",
    "τ_b": "Kendall's rank correlation",
    "CNN": "convolutional network",
    "CNN-s": "small",
    "CNN-l": "large",
    "MLP": "multilayer perceptron",
    "ViT": "vision transformer",
    "SIREN": "sinusoidal representation network",
    "NFT": "neural functional transformer",
    "DWSNet": "deep weight-space network",
    "MAE": "mean absolute error",
    "MSE": "mean squared error",
    "KDE": "kernel density estimation",
    "LoRA": "low-rank adaptation",
    "PEFT": "parameter-efficient fine-tuning",
    "TIES": "trim, elect sign, merge",
    "DARE": "drop and rescale",
    "TSV-M": "task singular vectors",
    "EMR": "elect, mask, rescale",
    "CMA-ES": "covariance matrix adaptation",
    "LogME": "logarithm of the maximum evidence",
    "LEEP": "log expected empirical prediction",
    "SFDA": "self-challenging fisher discriminant analysis",
    "layer[ _]set": "set of chunks",
}
FAULTY = '''"""A module.

Attributes:
    thing: of which nobody knows.
"""


def both(first: int, second: int) -> None:
    """Refuse what is known by heart.

    Args:
        first: where.
        second: number of models.
    """
    raise ValueError(first, second)


class Public:
    """A class."""

    def method(self, first: int, second: int) -> None:
        """Compare."""

    def described(self, first: int, second: int) -> None:
        """Compare.

        Args:
            first: this number.
            second: that number.
        """


class Pointing(Public):
    """A class that points to the one that describes it."""

    def described(self, first: int, second: int) -> None:
        """See `Public`."""


class Lost(Public):
    """A class that points to one that describes nothing."""

    def method(self, first: int, second: int) -> None:
        """See `Public`."""
'''


def late_expansions(text: str) -> list[str]:
    """Abbreviations whose first paragraph does not expand them, nor one before it."""
    paragraphs = [" ".join(part.split()).lower() for part in text.split("\n\n")]
    late = []
    for short, long in EXPANSIONS.items():
        uses = re.search(rf"(?<![\w-]){short}", text)
        end = text.count("\n\n", 0, uses.start()) + 1 if uses else 0
        if uses and not any(long.lower() in part for part in paragraphs[:end]):
            late.append(short)
    return late


def drawn_layers() -> dict[str, list[str]]:
    """Keys of every layer that docs/format.md draws, with their defaults, by kind."""
    text = (ROOT / "docs" / "format.md").read_text()
    drawn = re.findall(r'^\{kind: "(\w+)"(?:, (.*?))?\} ', text, re.MULTILINE)
    keys = {kind: re.sub(r"\[layer, …\]", "…", rest) for kind, rest in drawn}
    return {kind: rest.split(", ") if rest else [] for kind, rest in keys.items()}


def test_public_functions_with_two_arguments_describe_them() -> None:
    functions = [one for file in SOURCES for one in public_functions(ROOT, file)]
    assert len(functions) > 500
    assert [f"{one.location} {one.name}" for one in without_args(functions)] == []


def test_public_functions_that_raise_say_so() -> None:
    functions = [one for file in SOURCES for one in public_functions(ROOT, file)]
    assert sum(one.raises for one in functions) > 50
    assert [f"{one.location} {one.name}" for one in functions if lacks_raises(one)] == []


def test_entries_of_docstrings_have_a_noun() -> None:
    assert [line for file in SOURCES for line in nounless_entries(ROOT, file)] == []


def test_no_banned_form_in_package_tests_and_documents() -> None:
    assert {Path("README.md"), Path("docs/format.md")} <= set(DOCUMENTS)
    files = {*SOURCES, *DOCUMENTS, *FURTHER} - set(HELD_FORMS)
    assert {Path("cli/main.py"), Path("tests/conftest.py"), Path("pyproject.toml")} <= files
    assert [line for file in sorted(files) for line in banned_forms(ROOT, file)] == []


def test_faults_of_prose_are_found(tmp_path: Path) -> None:
    (tmp_path / "faulty.py").write_text(FAULTY)
    file = Path("faulty.py")
    functions = {one.name: one for one in public_functions(tmp_path, file)}
    assert {one.name for one in without_args(functions.values())} == {
        "Public.method",
        "Lost.method",
    }
    assert {name for name, one in functions.items() if lacks_raises(one)} == {"both"}
    assert len(list(nounless_entries(tmp_path, file))) == 2
    assert [line.split("'")[1] for line in banned_forms(tmp_path, file)] == ["of which", "by heart"]


@pytest.mark.parametrize("document", EXPLAINED, ids=str)
def test_abbreviations_are_expanded_where_they_first_appear(document: Path) -> None:
    assert late_expansions((ROOT / document).read_text()) == []


def test_an_abbreviation_that_is_expanded_late_is_found() -> None:
    expanded = "SNE is a set-based\nneural network encoder."
    assert late_expansions(f"{expanded}\n\nSNE reads INRs.") == ["INR"]
    assert late_expansions(f"SNE reads weights.\n\n{expanded}") == ["SNE"]


def test_format_document_draws_every_layer_with_its_keys() -> None:
    known = {kind: [field.name for field in fields(layer)] for kind, layer in LAYERS.items()}
    drawn = drawn_layers()
    assert {kind: [key.split(":")[0] for key in keys] for kind, keys in drawn.items()} == known
    for kind, layer in LAYERS.items():
        optional = {field.name for field in fields(layer) if field.default is not MISSING}
        assert {key.split(":")[0] for key in drawn[kind] if ":" in key} - {"body"} == optional


def test_readme_stays_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 130
