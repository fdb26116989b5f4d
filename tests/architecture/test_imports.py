"""Imports point one way: functions → conversation, and nothing deployed knows what is not."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.template import REPOSITORY

NOT_DEPLOYED = {"local", "tests", "benchmarks"}

# What the modules under a folder must not import, by the first part of a module's name.
FORBIDDEN = {
    "functions": NOT_DEPLOYED
    | {"functions", "boto3", "botocore", "httpx"},  # AWS and HTTP are a layer's work
    "layers/conversation": NOT_DEPLOYED | {"functions", "journeys", "stepmark"},
    "layers/stepmark": NOT_DEPLOYED | {"functions", "conversation", "journeys"},
    "layers/journeys": NOT_DEPLOYED | {"functions"},
    "local": {"functions", "tests", "benchmarks"},
    "benchmarks": {"tests"},
}


READERS = {"environ", "environb", "getenv"}


def modules(folder: str) -> list[Path]:
    return sorted((REPOSITORY / folder).rglob("*.py"))


def imports(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Every imported module's name and line, wherever in the file the import stands."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node.lineno
        elif isinstance(node, ast.ImportFrom):
            yield "." * node.level + (node.module or ""), node.lineno
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in {
            "__import__",
            "importlib.import_module",
        }:
            name = node.args[0]  # another expression than a text: the program's user names the module
            yield str(name.value) if isinstance(name, ast.Constant) else "", node.lineno


@pytest.mark.parametrize("folder", [folder for folder in FORBIDDEN if (REPOSITORY / folder).exists()])
def test_imports_point_one_way(folder: str) -> None:
    found = modules(folder)
    assert found, f"{folder} holds no module: the test looks at nothing"
    wrong = [
        f"{path.relative_to(REPOSITORY)}:{line} imports {name}"
        for path in found
        for name, line in imports(ast.parse(path.read_text()))
        if name.partition(".")[0] in FORBIDDEN[folder]
    ]
    assert wrong == []


@pytest.mark.parametrize(
    "line",
    [
        "import local.stack",
        "from local import stack",
        "def f():\n    import local",
        "__import__('local.ivr')",
    ],
)
def test_an_import_is_found_wherever_it_stands(line: str) -> None:
    assert [name.partition(".")[0] for name, _ in imports(ast.parse(line))] == ["local"]


@pytest.mark.parametrize("folder", ["functions", "layers"])
def test_only_settings_read_the_environment(folder: str) -> None:
    readers = {
        str(path.relative_to(REPOSITORY))
        for path in modules(folder)
        for node in ast.walk(ast.parse(path.read_text()))
        if (isinstance(node, ast.Attribute) and node.attr in READERS)
        or (isinstance(node, ast.ImportFrom) and node.module == "os" and node.names[0].name in READERS)
    }
    settings = {"layers/conversation/conversation/settings.py"}
    assert readers == (settings if folder == "layers" else set())
