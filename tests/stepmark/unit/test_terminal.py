"""The command prints nothing that a terminal obeys, and its modules are the installed ones."""

import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import stepmark
from stepmark import Engine, On, Retry, Section, SqliteStore, Step, Wait, Workflow
from stepmark.cli import main
from stepmark.errors import printable

# What moves the cursor, names the window, hides a link, or turns the writing round: C0, DEL, C1, U+2028 and
# its kin, the marks of direction, and what takes no room.
EVIL = "".join(
    map(chr, [*range(1, 32), *range(127, 160), *range(0x200B, 0x2010), *range(0x2028, 0x202F)])
) + ("".join(map(chr, [*range(0x2060, 0x2070), 0xAD, 0x61C, 0xFEFF, 0xE0001])) + "\x1b]0;owned\x07\x1b[2J")
FORGED = "w\nforged\torder\tWAITING\tmain: all is well"


@dataclass
class Evil(Workflow, name="evil\x1b[2J"):
    """Its words come from elsewhere."""

    text: str = EVIL
    keys: dict[str, str] = field(default_factory=lambda: {EVIL: EVIL, "é": "日本 🎉"})

    def definition(self) -> Section:
        return Section(
            Wait(f"w{EVIL}", On(f"on{EVIL}", None), On("fail", None)),
            Step(f"fail{EVIL}", self.fail, retry=Retry(attempts=1)),
        )

    def fail(self) -> None:
        raise LookupError(EVIL)


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "evil", sys.modules[Evil.__module__])
    engine = Engine([Evil], store=SqliteStore("w.db"))
    for workflow_id in (f"a{EVIL}", FORGED):
        engine.start(Evil(), workflow_id=workflow_id)
    engine.callback(FORGED, "fail")
    return "sqlite:w.db"


def is_harmless(text: str) -> bool:
    return all(line.isprintable() for line in text.replace("\t", " ").split("\n"))


COMMANDS: dict[str, tuple[str, ...]] = {
    "list": ("list",),
    "show": ("show", f"a{EVIL}", "evil:Evil"),
    "show parked": ("show", FORGED),
    "check": ("check", "evil:Other", "--all"),
    "retry": ("retry", FORGED, "evil:Evil", "--here"),
    "move": ("move", FORGED, "main", f"w{EVIL}", "evil:Evil"),
    "cancel": ("cancel", FORGED, "evil:Evil"),
    "diagram": ("diagram", "evil:Evil", "--workflow-id", FORGED),
    "nobody": ("show", f"nobody{EVIL}"),
    "no module": ("check", f"no{EVIL}:Evil"),
    "no statement": ("move", FORGED, "main", f"nowhere{EVIL}", "evil:Evil"),
    "another class": ("cancel", FORGED, "evil:Other"),
    "no list": ("list", "--name", EVIL),
}


@dataclass
class Other(Workflow, name="other"):
    def definition(self) -> Section:
        return Section(Step("x", lambda: None))


@pytest.mark.parametrize("what", COMMANDS)
def test_nothing_that_a_terminal_obeys_is_printed(
    what: str, store: str, capfd: pytest.CaptureFixture[str]
) -> None:
    name, *rest = COMMANDS[what]
    main((name, "--store", store, *rest))
    out, err = capfd.readouterr()
    assert out or err or what == "no list"
    assert is_harmless(out)
    assert is_harmless(err)
    if name in {"list", "check"}:
        assert not any(line.startswith("forged") for line in out.splitlines())


@pytest.mark.parametrize("arguments", [("list", "--status", EVIL), (f"{EVIL}",), ("list", f"--x{EVIL}")])
def test_what_is_wrong_with_the_command_line_is_said_so_too(
    arguments: tuple[str, ...], capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(arguments)
    out, err = capfd.readouterr()
    assert is_harmless(out + err)


def test_json_says_the_same_as_before(store: str, capsys: pytest.CaptureFixture[str]) -> None:
    main(("show", "--store", store, f"a{EVIL}", "evil:Evil"))
    out = capsys.readouterr().out
    shown = json.loads(out)
    assert shown["workflowId"] == f"a{EVIL}"
    assert shown["state"] == {"text": EVIL, "keys": {EVIL: EVIL, "é": "日本 🎉"}}
    assert "日本 🎉" in out


def test_describe_prints_a_class_so_too(store: str, capsys: pytest.CaptureFixture[str]) -> None:
    del store
    assert main(("describe", "evil:Evil")) == 0
    out = capsys.readouterr().out
    assert is_harmless(out)
    assert json.loads(out)["statements"][0]["name"] == f"w{EVIL}"


def test_a_text_is_changed_only_where_it_must_be() -> None:
    for text in ("", "request-7", "é 日本 🎉", "a\\b"):
        assert printable(text) == text
    assert printable("a\x1b[2J\x9b\u202e\n\ud800") == r"a\x1b[2J\x9b\u202e\n\ud800"


# -- modules --------------------------------------------------------------------------------------------

FLOW = """
from dataclasses import dataclass
import sibling
from stepmark import Section, Step, Workflow

@dataclass
class Flow(Workflow, name=sibling.NAME):
    def definition(self) -> Section:
        return Section(Step("a", self.run))

    def run(self) -> None: ...
"""
SHADOWS = (
    "json",
    "argparse",
    "dataclasses",
    "typing",
    "sqlite3",
    "asyncio",
    "logging",
    "pydantic",
    "pydantic_core",
)
AS_COMMAND = "import sys; from stepmark.cli import main; sys.exit(main())"
# how the interpreter is told what to run; the script of the command has its own folder first, as -P has none
WAYS: dict[str, tuple[str, ...]] = {
    "-m": ("-m", "stepmark"),
    "-m together with others": ("-W", "ignore::DeprecationWarning:m", "-Bm", "stepmark"),
    "-m and its module in one": ("-mstepmark",),
    "-m of the module": ("-m", "stepmark.cli"),
    "-P -m": ("-P", "-m", "stepmark"),
    "the command": ("-P", "-c", AS_COMMAND),
}


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    environment["PYTHONPATH"] = str(Path(stepmark.__file__).parents[1])
    command = [sys.executable, *arguments]
    # The interpreter and the files are this test's own.
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)  # noqa: S603


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in SHADOWS:
        (tmp_path / f"{name}.py").write_text("raise SystemExit('taken for the installed one')")
    (tmp_path / "flow.py").write_text(FLOW)
    (tmp_path / "sibling.py").write_text("NAME = 'of the sibling'")
    return tmp_path


@pytest.mark.parametrize("way", WAYS)
def test_no_module_of_the_working_directory_is_taken_for_an_installed_one(way: str, folder: Path) -> None:
    if way in {"the command", "-P -m"}:  # Python itself runs what `-m stepmark` finds first
        (folder / "stepmark.py").write_text("raise SystemExit('taken for the installed one')")
    done = run(folder, *WAYS[way], "describe", "flow:Flow")
    assert (done.returncode, done.stderr) == (0, "")
    described: dict[str, Any] = json.loads(done.stdout)
    assert described["workflow"] == "of the sibling"


def test_another_program_finds_its_modules_where_it_did(folder: Path) -> None:
    """Only the command changes where it looks: a program that uses the library is its own master."""
    for name in SHADOWS:
        (folder / f"{name}.py").unlink()
    (folder / "program.py").write_text(
        "import sys; first = sys.path[0]\nimport stepmark\nprint(sys.path[0] == first)"
    )
    assert run(folder, "-m", "program", "-m", "stepmark").stdout == "True\n"
    assert run(folder, "program.py", "-m", "stepmark").stdout == "True\n"
    assert re.fullmatch(r"stepmark \S+\n", run(folder, "-m", "stepmark", "--version").stdout)


@pytest.mark.parametrize("encoding", ["cp1252", "ascii", "utf-8"])
@pytest.mark.parametrize("command", ["list", "show", "check", "diagram"])
def test_a_terminal_may_lack_letters(store: str, command: str, encoding: str, tmp_path: Path) -> None:
    engine = Engine([Polyglot], store=SqliteStore("w.db"))
    engine.start(Polyglot(), workflow_id="日本")
    given = {
        "list": ("list", "--store", store),
        "show": ("show", "--store", store, "日本", "polyglot:Polyglot"),
        "check": ("check", "--store", store, "--all", "polyglot:Fewer"),
        "diagram": ("diagram", "polyglot:Polyglot"),
    }[command]
    output = (tmp_path / "output").open("w+", encoding=encoding, newline="")
    with pytest.MonkeyPatch.context() as patch, output:
        patch.setitem(sys.modules, "polyglot", sys.modules[Polyglot.__module__])
        patch.setattr(sys, "stdout", output)
        assert main(given) == (1 if command == "check" else 0)
    text = (tmp_path / "output").read_text(encoding=encoding)
    if command == "show":
        assert json.loads(text)["state"]["text"] == "é 日本 🎉"
        assert ("日本" in text) is (encoding == "utf-8")
        assert ("é" in text) is (encoding != "ascii")
    else:
        assert ("warten 日本" in text) is (encoding == "utf-8")
        assert ("warten \\u65e5\\u672c" in text) is (encoding != "utf-8")


@dataclass
class Polyglot(Workflow, name="polyglot"):
    """Its words are of several languages."""

    text: str = "é 日本 🎉"

    def definition(self) -> Section:
        return Section(Wait("warten 日本", On("go", None)))


@dataclass
class Fewer(Workflow, name="polyglot"):
    """The same without them."""

    text: str = ""

    def definition(self) -> Section:
        return Section(Wait("wait", On("go", None)))
