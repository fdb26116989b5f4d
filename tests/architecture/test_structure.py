"""What keeps the code such that one can hold it in the head: counted, so that it can't grow unseen."""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.support.template import REPOSITORY

FOLDERS = ("functions", "layers", "local", "benchmarks", "operations", "tests")
STEPMARK = REPOSITORY / "layers/stepmark/stepmark"
# What others may import of stepmark: all else may move.
PUBLIC = {"stepmark", "stepmark.testing", "stepmark.dynamodb", "stepmark.sqs"}

MAX_FLOORS = 9  # of stepmark: a module stands on what it imports, also for type checkers alone
# Lines of a function, a class and a module at most.
SIZES = {
    "layers/stepmark": (40, 300, 450),
    "layers/journeys": (40, 300, 450),
    "layers/conversation": (50, 310, 490),
    "functions": (40, 300, 450),
}


def module_name(path: Path) -> str:
    """The name that a module is imported by."""
    parts = path.relative_to(REPOSITORY).with_suffix("").parts
    parts = parts[2:] if parts[0] == "layers" else parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {
    module_name(path): path
    for folder in FOLDERS
    for path in sorted((REPOSITORY / folder).rglob("*.py"))
    if "build" not in path.parts
}


def imported(path: Path) -> Iterator[str]:
    """The modules of this repository that one imports, wherever the import stands."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                deeper = f"{node.module}.{alias.name}"
                yield deeper if deeper in MODULES else node.module
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


@cache
def imports_of(name: str) -> frozenset[str]:
    return frozenset(other for other in imported(MODULES[name]) if other in MODULES and other != name)


def circle_from(name: str) -> list[str] | None:
    """A way over imports from a module back to itself."""
    ways, seen = [[name]], {name}
    while ways:
        way = ways.pop()
        for other in imports_of(way[-1]):
            if other == name:
                return [*way, name]
            if other not in seen:
                seen.add(other)
                ways.append([*way, other])
    return None


def test_no_import_goes_in_a_circle() -> None:
    circles = [circle for name in MODULES if (circle := circle_from(name)) is not None]
    assert circles == []


@cache
def floor_of(name: str) -> int:
    mine = [other for other in imports_of(name) if other.split(".")[0] == "stepmark"]
    return 1 + max((floor_of(other) for other in mine), default=0)


def test_stepmark_is_no_higher_than_its_floors() -> None:
    floors = {name: floor_of(name) for name in MODULES if name.split(".")[0] == "stepmark"}
    assert max(floors.values()) <= MAX_FLOORS, {n: f for n, f in floors.items() if f > MAX_FLOORS}


def test_the_core_of_stepmark_knows_no_store_thread_or_clock() -> None:
    outside = {"threading", "time", "socket", "os", "sqlite3", "concurrent.futures", "asyncio", "botocore"}
    for path in (STEPMARK / "core").rglob("*.py"):
        tree = ast.parse(path.read_text())
        names = {n.module or "" for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)}
        names |= {a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
        deeper = {name for name in names if name.startswith(("stepmark.runtime", "stepmark.stores"))}
        assert not deeper | (names & outside), path.name


@pytest.mark.parametrize("folder", SIZES)
def test_what_is_deployed_is_made_of_short_parts(folder: str) -> None:
    max_function, max_class, max_module = SIZES[folder]
    long: dict[str, int] = {}
    for path in (path for path in MODULES.values() if path.is_relative_to(REPOSITORY / folder)):
        text, where = path.read_text(), str(path.relative_to(REPOSITORY))
        if len(text.splitlines()) > max_module:
            long[where] = len(text.splitlines())
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or 0) - node.lineno + 1
                if lines > (max_class if isinstance(node, ast.ClassDef) else max_function):
                    long[f"{where}: {node.name}"] = lines
    assert long == {}


def test_others_import_the_public_names_of_stepmark_alone() -> None:
    deeper = {
        f"{path.relative_to(REPOSITORY)}: {name}"
        for name_of, path in MODULES.items()
        if name_of.split(".")[0] in {"functions", "journeys", "conversation", "local", "operations"}
        for name in imported(path)
        if name.split(".")[0] == "stepmark" and name not in PUBLIC
    }
    assert deeper == set()
