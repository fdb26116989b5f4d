"""docs/add-a-company.md, followed to the letter in a copy of the repository, adds a company that is asked.

Above each block of the page that belongs into a file stands where: `Create` a file, or `In` a file `above` or
`below` a line, or at the end of one. No such line goes with a company: the page can be followed again.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from local import processes
from local.processes import REPOSITORY

PAGE = (REPOSITORY / "docs/add-a-company.md").read_text()
BLOCK = re.compile(
    r"(?P<above>(?:(?!```)[^\n]+\n)*)\n*^```(?P<language>\w+)\n(?P<content>.*?)^```$",
    re.DOTALL | re.MULTILINE,
)
PLACE = re.compile(
    r"(?:Create `(?P<created>[^`]+)`"
    r"|In `(?P<changed>[^`]+)`, (?P<how>above|below) the line `(?P<line>[^`]+)`, add"
    r"|In `(?P<extended>[^`]+)`, at the end of the line that begins with `(?P<beginning>[^`]+)`, add):$"
)
SECONDS = 600


@dataclass(frozen=True)
class Step:
    """A block of the page and where it goes: `how` is create, above, below or end."""

    path: str
    how: str
    line: str
    content: str


def steps() -> Iterator[Step]:
    """The page's steps, in order; a block without a place is an error, unless it is for a shell."""
    blocks = list(BLOCK.finditer(PAGE))
    assert 2 * len(blocks) == len(re.findall("^```", PAGE, re.MULTILINE))
    for block in blocks:
        if block["language"] == "sh":
            continue
        place = PLACE.search(" ".join(block["above"].split()))
        assert place, f"nothing says where this goes: {block['content']}"
        path = place["created"] or place["changed"] or place["extended"]
        how = place["how"] or ("create" if place["created"] else "end")
        yield Step(path, how, place["line"] or place["beginning"] or "", block["content"])


def follow(step: Step, repository: Path) -> None:
    """Do what the page says, or fail where a reader would be at a loss."""
    file = repository / step.path
    if step.how == "create":
        assert not file.exists()
        file.write_text(step.content)
        return
    lines = file.read_text().splitlines(keepends=True)
    is_meant = str.startswith if step.how == "end" else str.__eq__
    found = [number for number, line in enumerate(lines) if is_meant(line.strip(), step.line)]
    assert len(found) == 1, f"{step.path} has the line {step.line!r} {len(found)} times"
    [at] = found
    if step.how == "end":
        lines[at] = lines[at].rstrip("\n") + step.content
    else:
        lines.insert(at if step.how == "above" else at + 1, step.content)
    file.write_text("".join(lines))


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what git has, changed as the page says."""
    copy = tmp_path_factory.mktemp("add-a-company") / "repository"
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    listed = subprocess.run(command, cwd=REPOSITORY, check=True, capture_output=True, text=True)  # noqa: S603
    for name in filter(None, listed.stdout.split("\0")):
        if (REPOSITORY / name).is_file():  # not what was deleted and not yet committed
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(REPOSITORY / name, copy / name)
    (copy / ".venvs").symlink_to((REPOSITORY / ".venvs").resolve())
    for step in steps():
        follow(step, copy)
    subprocess.run(["git", "init", "--quiet"], cwd=copy, check=True)  # noqa: S607 - git of the PATH
    return copy


def environment(repository: Path) -> dict[str, str]:
    """What commands in the copy run with: nothing leads them back to this repository."""
    imports = (".", "layers/conversation", "layers/journeys", "layers/stepmark")
    return {
        "PATH": os.environ["PATH"],
        "HOME": os.environ["HOME"],
        "LANG": "C.UTF-8",
        "PYTHONUNBUFFERED": "1",
        "PYTHONPATH": os.pathsep.join(str(repository / path) for path in imports),
    }


def test_the_page_touches_what_it_says(repository: Path) -> None:
    """One module with its test, one item, its lines in the template."""
    del repository
    assert [(step.how, step.path) for step in steps() if step.path != "template.yaml"] == [
        ("create", "layers/conversation/conversation/sources/delta.py"),
        ("create", "tests/unit/conversation/sources/test_delta.py"),
        ("above", "statemachine/identify_caller.asl.json"),
    ]


@pytest.mark.timeout(SECONDS)
@pytest.mark.parametrize("tests", ["tests/architecture", "tests/unit/conversation/sources/test_delta.py"])
def test_the_tests_that_the_page_names_are_content(tests: str, repository: Path) -> None:
    """Run as the Makefile does, which would first see to the environments."""
    assert f"make {'-'.join(tests.split('/')[:2]).replace('tests', 'test')}\n" in PAGE
    done = subprocess.run(  # noqa: S603 - our own tests
        [sys.executable, "-m", "pytest", tests, "-q", "-p", "no:cacheprovider"],
        cwd=repository,
        env={name: value for name, value in environment(repository).items() if name != "PYTHONPATH"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-5_000:]


@pytest.mark.timeout(SECONDS)
def test_a_caller_is_identified_by_the_new_company(repository: Path, tmp_path: Path) -> None:
    [secret] = re.findall(r"--secret-id <DeltaSecretArn> --secret-string '(.*)'$", PAGE, re.MULTILINE)
    log = tmp_path / "fourth-company.log"
    command = [
        sys.executable,
        "-m",
        "tests.support.fourth_company",
        str(tmp_path),
        secret.replace("…", "t0ken"),
    ]
    with processes.running(command, log=log, env=environment(repository), cwd=repository) as running:
        assert running.wait(SECONDS) == 0, processes.tail(log, 40)
    known, unknown = json.loads(log.read_text().splitlines()[-1])

    assert known["status"] == "SUCCESS"
    assert known["identity"] == {
        "source": "delta",
        "customerId": "D-7",
        "displayName": "Ada Lovelace",
        "firstName": "Ada",
        "lastName": "Lovelace",
        "segment": "gold",
        "candidates": 1,
    }
    others = dict.fromkeys(("alpha", "beta", "gamma"), "NO_MATCH")
    assert known["sources"] == {**others, "delta": "MATCH"}
    assert (unknown["status"], unknown["sources"]) == ("NOT_FOUND", {**others, "delta": "NO_MATCH"})
