"""The built layers and what the Lambda runtime brings along are all that the functions need."""

import py_compile
import subprocess
from collections.abc import Iterator
from importlib.util import MAGIC_NUMBER, cache_from_source, source_hash
from pathlib import Path

import pytest

from local.emulator import deployment
from local.processes import BUILD, REPOSITORY
from tests.architecture.deployment import FUNCTIONS, Function

# An environment with boto3 and what it needs, like the runtime's own.
RUNTIME = REPOSITORY / ".venvs/runtime/bin/python"
LAYERS = sorted({layer for function in FUNCTIONS for layer in function.layers})
NEEDED_BY = {layer: next(each for each in FUNCTIONS if layer in each.layers) for layer in LAYERS}


@pytest.fixture(scope="module")
def layers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The layers' folders after `sam build`, as Lambda puts them on the path, by their names."""
    with deployment.build_lock():  # until the last test has looked at them
        deployment.build(tmp_path_factory.mktemp("build"))
        yield {layer: str(BUILD / "sam/build" / layer / "python") for layer in LAYERS}


def run(code: str, path: list[str], source: str = "") -> subprocess.CompletedProcess[str]:
    """Run code in a Python that sees `path`, the runtime's packages, and nothing of this repository."""
    return subprocess.run(  # noqa: S603 - the interpreter and code of this test
        [RUNTIME, "-I", "-c", f"import sys; sys.path[:0] = {path!r}; {code}"],
        check=False,
        capture_output=True,
        text=True,
        cwd="/",
        env={
            "AWS_DEFAULT_REGION": "eu-west-1",
            "POWERTOOLS_SERVICE_NAME": "test",
            "SOURCE": source,
            "LANG": "C.UTF-8",
        },
    )


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda function: function.name)
def test_the_layers_hold_what_a_function_imports(function: Function, layers: dict[str, str]) -> None:
    path = [layers[layer] for layer in function.layers]
    path.append(f"{REPOSITORY}/functions/{function.folder}")
    finished = run("import app; assert callable(app.lambda_handler)", path, function.source)
    assert finished.returncode == 0, finished.stderr


@pytest.mark.parametrize("layer", LAYERS)
def test_no_layer_is_made_up_for_by_something_else(layer: str, layers: dict[str, str]) -> None:
    """Without one of the layers a function fails: the test above would notice what is missing."""
    function = NEEDED_BY[layer]
    others = [layers[other] for other in function.layers if other != layer]
    finished = run("import app", [*others, f"{REPOSITORY}/functions/{function.folder}"], function.source)
    assert finished.returncode != 0
    assert "ModuleNotFoundError" in finished.stderr


def test_the_layers_bring_nothing_that_the_runtime_has(layers: dict[str, str]) -> None:
    """A second boto3 would take the place of the runtime's own."""
    path = list(layers.values())
    found = [run(f"import {name}; print({name}.__file__)", path).stdout for name in ("boto3", "botocore")]
    assert all(".venvs/runtime" in path for path in found)


@pytest.mark.parametrize("layer", LAYERS)
def test_every_module_of_a_layer_is_compiled(layer: str, layers: dict[str, str]) -> None:
    """Bytecode of this very source, which Python takes unseen: any other is compiled at each cold start."""
    modules = list(Path(layers[layer]).rglob("*.py"))
    assert len(modules) > 10
    assert [str(module) for module in modules if not is_compiled(module)] == []


@pytest.mark.parametrize("layer", LAYERS)
def test_a_layer_holds_no_bytecode_without_its_source(layer: str, layers: dict[str, str]) -> None:
    sources = {cache_from_source(str(module)) for module in Path(layers[layer]).rglob("*.py")}
    assert [str(file) for file in Path(layers[layer]).rglob("*.pyc") if str(file) not in sources] == []


def is_compiled(module: Path) -> bool:
    """Whether the bytecode beside a module is bound to its source's hash and not to its time (PEP 552)."""
    compiled = Path(cache_from_source(str(module)))
    if not compiled.exists():
        return False
    unchecked_hash = (1).to_bytes(4, "little")
    return compiled.read_bytes()[:16] == MAGIC_NUMBER + unchecked_hash + source_hash(module.read_bytes())


def test_what_counts_as_compiled(tmp_path: Path) -> None:
    module = tmp_path / "module.py"
    module.write_text("number = 1")
    assert not is_compiled(module)
    for mode in py_compile.PycInvalidationMode:
        py_compile.compile(str(module), invalidation_mode=mode)
        assert is_compiled(module) == (mode is py_compile.PycInvalidationMode.UNCHECKED_HASH)
    py_compile.compile(str(module), invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH)
    module.write_text("number = 2")
    assert not is_compiled(module)
