"""Every example of the README runs as it stands there."""

import importlib
import re
import shlex
import sys
from pathlib import Path
from types import ModuleType

import pytest
import stepmark
from stepmark.cli import main

README = (Path(stepmark.__file__).parents[1] / "README.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
COMMANDS = re.findall(r"^\$ stepmark (.*)$", README, re.MULTILINE)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory with the README's first example as a module."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.delitem(sys.modules, "approval", raising=False)
    (tmp_path / "approval.py").write_text(BLOCKS[0])
    return tmp_path


@pytest.mark.usefixtures("folder")
def test_the_python_examples_run_in_order() -> None:
    module = ModuleType("readme")
    for block in BLOCKS:
        exec(compile(block, "README.md", "exec"), vars(module))  # noqa: S102 - our own README
    assert len(BLOCKS) == 9
    module.engine.close()


def test_a_saga_of_three_bookings_is_short() -> None:
    (saga,) = (block for block in BLOCKS if "class Trip" in block)
    assert len(saga.splitlines()) <= 35


def test_the_commands_run(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    approval = importlib.import_module("approval")
    store = stepmark.SqliteStore(folder / "workflows.db")
    stepmark.Engine([approval.Approval], store=store).start(
        approval.Approval(user="ada"), workflow_id="request-7"
    )
    assert len(COMMANDS) == 5
    for command in COMMANDS:
        assert main(shlex.split(command)) == 0
        assert "request-7" in capsys.readouterr().out or command.startswith(("check", "describe", "diagram"))


def test_the_readme_names_every_module() -> None:
    package = Path(stepmark.__file__).parent
    modules = {path.name for path in package.rglob("*.py")}
    alike = {
        "__init__.py",
        "statements.py",
        "handlers.py",
        "workflow.py",
        "retry.py",
    }  # definition/ says it all
    stores = {"protocol.py", "memory.py", "sqlite.py"}
    assert modules - set(re.findall(r"`(\w+\.py)`", README)) == alike | stores
    folders = {path.name for path in package.iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert folders == set(re.findall(r"`(\w+)/`", README)) - {"stepmark"}
