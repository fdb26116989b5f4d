"""What `make` is told runs nothing but what the Makefile says, and what it installs runs nothing at all.

Each test works on a copy whose tools are stubs that write down what they are called with.
"""

import re
import shutil
import string
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.support.template import REPOSITORY

TARGETS = ("help", "gate", "deploy", "e2e")
STUB = '#!/bin/bash\nprintf "%s\\n" "${0##*/}" "$@" >> "$CALLS"\n'
LONGEST = "a" * 128
NAMES = ("meanwhile", "a", "Z9", "my-stack-2", "a--", LONGEST)
ALLOWED = string.ascii_letters + string.digits + "-"


class Checkout:
    """A copy of the Makefile in which everything is installed already, as stubs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.calls = folder / "calls"
        self.canary = folder / "canary"
        folder.mkdir(exist_ok=True)
        shutil.copy(REPOSITORY / "Makefile", folder)
        shutil.copytree(REPOSITORY / "requirements", folder / "requirements")
        for tool in ("uv/bin/uv", "development/bin/python", "sam/bin/sam"):
            stub = folder / ".venvs" / tool
            stub.parent.mkdir(parents=True)
            stub.write_text(STUB)
            stub.chmod(0o755)
        for environment in ("development", "sam", "emulator", "runtime"):
            (folder / ".venvs" / environment).mkdir(exist_ok=True)
            (folder / ".venvs" / environment / ".installed").touch()

    def make(self, *arguments: str, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(  # noqa: S603 - what make does with it is the question
            ["make", "--no-print-directory", *arguments],  # noqa: S607
            check=False,
            capture_output=True,
            text=True,
            cwd=self.folder,
            env={"PATH": "/usr/local/bin:/usr/bin:/bin", "CALLS": str(self.calls), **(env or {})},
        )

    def called(self) -> list[str]:
        """What the stubs were called with, one argument a line; forgotten afterwards."""
        if not self.calls.exists():
            return []
        lines = self.calls.read_text().splitlines()
        self.calls.unlink()
        return lines


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    return Checkout(tmp_path_factory.mktemp("makefile") / "checkout")


def hostile(canary: str) -> Iterator[str]:
    """Names that are none, most of which would create the canary if anything expanded them."""
    touch = f"touch {canary}"
    yield from (
        f"$(shell {touch})",
        f"${{shell {touch}}}",
        f"a$(shell {touch})",
        f"$(info )$(shell {touch})",
        f"$(eval X := $(shell {touch}))",
        f"$(eval $(shell {touch}))meanwhile",
        f"$(file >{canary},x)",
        f"$(if $(shell {touch}),a,b)",
        f"$(error $(shell {touch}))",
        f"$(call dotted,$(shell {touch}),a)",
        f"$(or $(STACK),$(shell {touch}))",
        f"$$({touch})",
        f"$({touch})",
        f"$$$$({touch})",
        f"`{touch}`",
        f"a;{touch}",
        f"a; {touch} #",
        f"a&&{touch}",
        f"a&{touch}&",
        f"a||{touch}",
        f"a|{touch}",
        f"a\n{touch}",
        f"a\n\t{touch}\n",
        f"a\r\n{touch}",
        f"a\n$(shell {touch})",
        f"a';{touch};'",
        f'a";{touch};"',
        f'"$({touch})"',
        f"a>{canary}",
        f"a>>{canary}",
        f"<({touch})",
        f"a) $(shell {touch}",
        f"a,$(shell {touch})",
        f"a\\\n{touch}",
        f"a # {touch}",
        f"a --parameter-overrides AlphaUrl=$({touch})",
        "$(STACK)",
        "${STACK}",
        "$(value STACK)",
        "$(HOME)",
        "$",
        "$$",
        "--help",
        "-n",
        "-",
        "a b",
        "a ",
        "a\t",
        "a\nb",
        "1a",
        "my_stack",
        "my.stack",
        "a=b",
        "STACK:=b",
        "../a",
        "~",
        "*",
        "%",
        "a%",
        "é",
        "aé",
        "\uff41",  # a full-width a
        "a\u200b",
        "a\u00a0",
        LONGEST + "a",
        LONGEST * 20,
    )
    for character in map(chr, range(1, 128)):
        if character not in ALLOWED:
            yield f"a{character}b"
            yield f"a{character}{touch}"


@pytest.mark.parametrize("given", ["on the command line", "by the environment"])
def test_a_name_that_is_none_is_refused_and_runs_nothing(given: str, checkout: Checkout) -> None:
    values = list(hostile(str(checkout.canary)))
    assert len(values) > 150
    for number, value in enumerate(values):
        targets = TARGETS if number < 20 else ("deploy",)
        for target in targets:
            for dry in ([], ["-n"]):
                if given == "on the command line":
                    finished = checkout.make(*dry, target, f"STACK={value}")
                else:
                    finished = checkout.make(*dry, target, env={"STACK": value})
                assert finished.returncode == 2, (target, value)
                assert "STACK must be a stack's name" in finished.stderr, (target, value)
                assert finished.stdout == "", (target, value)
                assert not checkout.canary.exists(), (target, value)
                assert checkout.called() == [], (target, value)


@pytest.mark.parametrize("given", ["on the command line", "by the environment"])
@pytest.mark.parametrize("name", NAMES)
def test_a_stack_is_deployed_under_its_name(name: str, given: str, checkout: Checkout) -> None:
    if given == "on the command line":
        finished = checkout.make("deploy", f"STACK={name}")
    else:
        finished = checkout.make("deploy", env={"STACK": name})
    assert finished.returncode == 0, finished.stderr
    assert checkout.called() == ["python", "-m", "operations.deploy", name]


@pytest.mark.parametrize("target", ["gate", "deploy"])
@pytest.mark.parametrize(
    ("given", "said"), [("1", ["--first"]), ("", []), ("0", []), ("$(shell touch x)", [])]
)
def test_a_first_deployment_is_one_that_is_said_to_be(
    given: str, said: list[str], target: str, checkout: Checkout
) -> None:
    assert checkout.make(target, f"FIRST={given}").returncode == 0
    assert checkout.called() == ["python", "-m", f"operations.{target}", "meanwhile", *said]


@pytest.mark.parametrize("arguments", [[], ["STACK="], ["STACK= "]])
def test_without_a_name_it_is_meanwhile(arguments: list[str], checkout: Checkout) -> None:
    assert checkout.make("gate", *arguments).returncode == 0
    assert checkout.called() == ["python", "-m", "operations.gate", "meanwhile"]


def test_the_tests_get_the_name(checkout: Checkout) -> None:
    """By their environment; the stub of pytest is asked what it got."""
    python = checkout.folder / ".venvs/development/bin/python"
    python.write_text('#!/bin/bash\nprintf "%s\\n" "$STACK" > "$CALLS"\n')
    try:
        assert checkout.make("e2e", "STACK=my-stack").returncode == 0
        assert checkout.called() == ["my-stack"]
    finally:
        python.write_text(STUB)


def test_the_name_of_the_checkouts_folder_runs_nothing(tmp_path: Path) -> None:
    hostile_folder = Checkout(tmp_path / 'a"; touch canary; "$(touch canary)`touch canary`')
    assert hostile_folder.make("deploy").returncode == 0
    assert hostile_folder.called()[-1] == "meanwhile"
    assert not list(tmp_path.rglob("canary"))


def test_every_installation_takes_wheels_alone_and_checks_hashes(checkout: Checkout) -> None:
    """What is built from its source runs its authors' code, with the rights of whoever installs it."""
    environments = (
        "uv/bin/uv",
        *(f"{path.stem}/.installed" for path in (REPOSITORY / "requirements").glob("*.in")),
    )
    planned = checkout.make("-n", "-B", *(f".venvs/{name}" for name in environments)).stdout
    installations = re.findall(r"^.*pip install .*$", planned, re.MULTILINE)
    assert len(installations) >= len(environments) - 1
    locking = checkout.make("-n", "lock").stdout.replace("\\\n", " ")
    compilations = re.findall(r"pip compile [^;]*", locking)
    assert len(compilations) == 2
    for command in (*installations, *compilations):
        assert "--only-binary :all:" in command
        assert "hashes" in command


def scripts() -> list[Path]:
    return [REPOSITORY / ".ci/run", *REPOSITORY.glob("layers/*/Makefile")]


@pytest.mark.parametrize("path", scripts(), ids=lambda path: f"{path.parent.name}/{path.name}")
def test_no_other_script_installs_anything_else(path: Path) -> None:
    for command in re.findall(r"pip install .*", path.read_text().replace("\\\n", " ")):
        assert "--only-binary :all:" in command
        assert "--require-hashes" in command
        assert "--no-compile" in command, (
            "compileall leaves pip's bytecode that looks fresh, and it goes stale"
        )


@pytest.mark.parametrize("path", scripts()[1:], ids=lambda path: path.parent.name)
def test_a_layers_bytecode_is_compiled_anew(path: Path) -> None:
    (command,) = re.findall(r"-m compileall .*", path.read_text())
    assert {"-f", "--invalidation-mode", "unchecked-hash"} <= set(command.split())
    assert "$(ARTIFACTS_DIR)" not in path.read_text(), "make would expand what is in SAM's path"
