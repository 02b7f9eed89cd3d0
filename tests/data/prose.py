"""Rules of prose that a program can check: docstring sections and banned forms."""

import ast
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

# An entry "name: TEXT" whose text starts with one of these has no noun of its own.
NOUNLESS = re.compile(
    r"^\s+\*{0,2}\w+( \([^)]*\))?: "
    r"(of|on|in|by|to|at|with|whose|which|how|where|when|whom|so|as)\b",
    re.IGNORECASE,
)
BANNED = re.compile(
    r"\bof which\b|\bby heart\b|of (no )?account\b|\bmakes? no odds\b|\bis the caller's to\b|"
    r"\bin our words\b|\bto which it is\b|\bwhose is\b|\bas one has them\b|\blies open\b|"
    r"\bcontestants?\b|\bgoes its own way\b|\bgone on with\b|\bwhoever\b|\bby turns\b|"
    r"\bin our own words\b",
    re.IGNORECASE,
)
SECTIONS = ("Args:", "Attributes:")
POINTER = re.compile(r"See `(\w+)`\.")


@dataclass(frozen=True)
class Function:
    """A public function or method.

    Attributes:
        location: file and line.
        name: qualified name.
        arguments: count, without self and cls.
        raises: whether its own body raises.
        docstring: its docstring, or "".
    """

    location: str
    name: str
    arguments: int
    raises: bool
    docstring: str


def public_functions(root: Path, file: Path) -> Iterator[Function]:
    """Public functions of a module and public methods of its public classes."""
    tree = ast.parse((root / file).read_text())
    yield from _functions(tree.body, file, "")


def without_args(functions: Iterable[Function]) -> list[Function]:
    """Functions with two or more arguments and no section on them.

    A method may point to the class that describes it: "See `Class`."
    """
    known = list(functions)
    described = {one.name for one in known if "Args:" in one.docstring}

    def is_described(one: Function) -> bool:
        pointer = POINTER.match(one.docstring)
        name = one.name.rpartition(".")[2]
        return one.name in described or bool(pointer and f"{pointer[1]}.{name}" in described)

    return [one for one in known if one.arguments >= 2 and not is_described(one)]


def lacks_raises(function: Function) -> bool:
    """Whether a function that raises does not say so."""
    return function.raises and "Raises:" not in function.docstring


def nounless_entries(root: Path, file: Path) -> Iterator[str]:
    """Entries of docstring sections that name no thing."""
    for node in ast.walk(ast.parse((root / file).read_text())):
        if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Module):
            text = ast.get_docstring(node, clean=False) or ""
            start = getattr(node, "lineno", 1)
            for section in SECTIONS:
                if section in text:
                    for line in text.split(section, 1)[1].splitlines():
                        if NOUNLESS.match(line):
                            yield f"{file}:{start}: {line.strip()}"


def banned_forms(root: Path, file: Path) -> Iterator[str]:
    """Lines with a form that house rules ban."""
    for number, line in enumerate((root / file).read_text().splitlines(), 1):
        if found := BANNED.search(line):
            yield f"{file}:{number}: {found.group()!r} in {line.strip()!r}"


def _functions(body: list[ast.stmt], file: Path, prefix: str) -> Iterator[Function]:
    for node in body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            yield from _functions(node.body, file, f"{prefix}{node.name}.")
        if not isinstance(node, ast.FunctionDef) or _is_private(node) or _is_overload(node):
            continue
        given = node.args
        names = [one.arg for one in (*given.posonlyargs, *given.args, *given.kwonlyargs)]
        count = len([name for name in names if name not in ("self", "cls")])
        count += bool(given.vararg) + bool(given.kwarg)
        text = ast.get_docstring(node) or ""
        yield Function(f"{file}:{node.lineno}", prefix + node.name, count, _raises(node), text)


def _is_private(node: ast.FunctionDef) -> bool:
    return node.name.startswith("_") and node.name != "__init__"


def _is_overload(node: ast.FunctionDef) -> bool:
    return any("overload" in ast.unparse(one) for one in node.decorator_list)


def _raises(node: ast.AST) -> bool:
    """Whether the statements of a function itself, not of functions inside it, raise an error."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.Lambda | ast.ClassDef):
            continue
        if (isinstance(child, ast.Raise) and child.exc is not None) or _raises(child):
            return True
    return False
