"""The wheel of stepmark, as `python -m build` makes it, runs its README on every Python that it is for."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.stepmark.docs.test_readme import BLOCKS

REPOSITORY = Path(__file__).parents[3]
LIBRARY = REPOSITORY / "layers/stepmark"
UV = REPOSITORY / ".venvs/uv/bin/uv"
PINS = REPOSITORY / "layers/dependencies/requirements.txt"
RUN_README = """
import json, sys
import stepmark
for block in json.loads(sys.stdin.read()):
    exec(compile(block, "README.md", "exec"))
print(stepmark.__version__, stepmark.__file__)
"""


def run(*command: str | Path, cwd: Path, given: str = "") -> str:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(  # noqa: S603 - our own commands
        list(command), cwd=cwd, env=environment, input=given, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout.strip()


def interpreter_of(version: str) -> Path | None:
    """A Python of that version, on the PATH or one of pyenv's, which may not be on it."""
    on_path = shutil.which(f"python{version}")
    pyenv = sorted((Path.home() / ".pyenv/versions").glob(f"{version}.*/bin/python"))
    for candidate in [*([Path(on_path)] if on_path else []), *pyenv]:
        asked: list[str | Path] = [
            candidate,
            "-c",
            "import sys; print(sys.executable)",
        ]  # behind pyenv's own script
        tried = subprocess.run(asked, capture_output=True, text=True, check=False)  # noqa: S603
        if tried.returncode == 0:
            return Path(tried.stdout.strip())
    return None


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy: what a build leaves behind is not to lie in the checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    shutil.copytree(LIBRARY, folder / "stepmark", ignore=shutil.ignore_patterns("__pycache__"))
    building = "import hatchling.build, sys; print(hatchling.build.build_wheel(sys.argv[1]))"
    name = run(sys.executable, "-c", building, str(folder), cwd=folder / "stepmark").splitlines()[-1]
    return folder / name


@pytest.mark.timeout(300)
@pytest.mark.parametrize("version", ["3.12", "3.13", "3.14"])
def test_the_wheel_runs_its_readme(version: str, wheel: Path, tmp_path: Path) -> None:
    interpreter = interpreter_of(version)
    if interpreter is None:
        assert version != "3.13"  # which the project itself runs on
        pytest.skip(f"no Python {version} here")
    run(UV, "venv", "--quiet", "--python", interpreter, "installed", cwd=tmp_path)
    into = ("--python", "installed", "--only-binary", ":all:")
    run(UV, "pip", "install", "--quiet", *into, "--constraint", PINS, wheel, cwd=tmp_path)
    python = tmp_path / "installed/bin/python"
    said = run(python, "-c", RUN_README, cwd=tmp_path, given=json.dumps(BLOCKS))
    assert said.endswith(f"installed/lib/python{version}/site-packages/stepmark/__init__.py")
    assert run(tmp_path / "installed/bin/stepmark", "--version", cwd=tmp_path).startswith("stepmark ")


def test_the_wheel_holds_the_library_alone(wheel: Path) -> None:
    names = run(sys.executable, "-m", "zipfile", "--list", str(wheel), cwd=wheel.parent)
    files = [line.split()[0] for line in names.splitlines()[1:]]
    expected = {
        f"stepmark/{path.relative_to(LIBRARY / 'stepmark')}" for path in (LIBRARY / "stepmark").rglob("*.py")
    }
    assert {name for name in files if ".dist-info/" not in name} == expected | {"stepmark/py.typed"}
