"""The built layers and what the Lambda runtime brings along are all that the functions need."""

import subprocess

import pytest

from local import stack
from local.processes import BUILD, REPOSITORY

# An environment with boto3 and what it needs, like the runtime's own.
RUNTIME = REPOSITORY / ".venvs/runtime/bin/python"
LAYERS = ("DependenciesLayer", "ConversationLayer")
FUNCTIONS = sorted(path.parent.name for path in (REPOSITORY / "functions").glob("*/app.py"))


@pytest.fixture(scope="module")
def layers(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The layers' folders after `sam build`, as Lambda puts them on the path."""
    with stack.sole_builder():
        stack.build(tmp_path_factory.mktemp("build"))
    return [str(BUILD / "sam/build" / layer / "python") for layer in LAYERS]


def run(code: str, path: list[str]) -> subprocess.CompletedProcess[str]:
    """Run code in a Python that sees `path`, the runtime's packages, and nothing of this repository."""
    return subprocess.run(  # noqa: S603
        [RUNTIME, "-I", "-c", f"import sys; sys.path[:0] = {path!r}; {code}"],
        check=False,
        capture_output=True,
        text=True,
        cwd="/",
        env={"AWS_DEFAULT_REGION": "eu-west-1", "POWERTOOLS_SERVICE_NAME": "test", "LANG": "C.UTF-8"},
    )


@pytest.mark.parametrize("function", FUNCTIONS)
def test_the_layers_hold_what_a_function_imports(function: str, layers: list[str]) -> None:
    finished = run(
        "import app; assert callable(app.lambda_handler)", [*layers, f"{REPOSITORY}/functions/{function}"]
    )
    assert finished.returncode == 0, finished.stderr


@pytest.mark.parametrize("layer", LAYERS)
def test_no_layer_is_made_up_for_by_something_else(layer: str, layers: list[str]) -> None:
    """Without one of the layers a function fails: the test above would notice what is missing."""
    others = [path for path in layers if layer not in path]
    finished = run("import app", [*others, f"{REPOSITORY}/functions/lookup_alpha"])
    assert finished.returncode != 0
    assert "ModuleNotFoundError" in finished.stderr


def test_the_layers_bring_nothing_that_the_runtime_has(layers: list[str]) -> None:
    """A second boto3 would take the place of the runtime's own."""
    found = [run(f"import {name}; print({name}.__file__)", layers).stdout for name in ("boto3", "botocore")]
    assert all(".venvs/runtime" in path for path in found)


@pytest.mark.parametrize("layer", LAYERS)
def test_every_module_of_a_layer_is_compiled(layer: str, layers: list[str]) -> None:
    (path,) = [path for path in layers if layer in path]
    code = (
        "import importlib.util, pathlib; "
        f"modules = list(pathlib.Path({path!r}).rglob('*.py')); "
        "compiled = importlib.util.cache_from_source; "
        "missing = [str(m) for m in modules if not pathlib.Path(compiled(str(m))).exists()]; "
        "print(len(modules), missing[:5])"
    )
    count, _, missing = run(code, []).stdout.partition(" ")
    assert int(count) > 10
    assert missing.strip() == "[]"
