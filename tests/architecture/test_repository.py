"""Rules about the repository's files: what is pinned, what the README must not forget, what no file names."""

import os
import re
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.architecture.deployment import DOCUMENT, SOURCES
from tests.support.template import REPOSITORY

REQUIREMENTS = [
    *(REPOSITORY / "requirements").glob("*.txt"),
    *(REPOSITORY / "layers").glob("*/requirements.txt"),
]

# Taken apart, or this file would be found by its own search.
REGISTRIES = ["pypi" + ".org", "pythonhosted" + ".org", "npmjs" + ".org", "--index" + "-url", "/simple" + "/"]
MACHINE_PATH = re.compile(r"""(?<![\w.$}/-])/(?:work|root|home|Users|var/tmp)/""")


def tracked_files() -> list[Path]:
    """What git has, or would have after the next `git add`."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],  # noqa: S607 - git of the PATH
        cwd=REPOSITORY,
        check=True,
        capture_output=True,
        text=True,
    ).stdout.splitlines()
    return [path for name in listed if (path := REPOSITORY / name).is_file()]


@pytest.mark.parametrize("path", REQUIREMENTS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_every_requirement_is_pinned_with_a_hash(path: Path) -> None:
    text = path.read_text().replace("\\\n", " ")
    lines = [line.split(" #")[0].strip() for line in text.splitlines() if not line.lstrip().startswith("#")]
    requirements = [line for line in lines if line]
    assert requirements
    for requirement in requirements:
        assert re.match(r"[A-Za-z0-9._-]+(\[[\w,-]+\])?==\S+ .*--hash=sha256:[0-9a-f]{64}", requirement)


def test_every_requirement_file_has_what_it_is_made_from() -> None:
    assert len(REQUIREMENTS) > 1
    assert [path for path in REQUIREMENTS if not path.with_suffix(".in").exists()] == []


@pytest.mark.parametrize("kind", ["Parameters", "Outputs"])
def test_the_page_on_deploying_names_every_parameter_and_output(kind: str) -> None:
    """Of the companies' own, which are all alike, those of one company stand for the others."""
    page = (REPOSITORY / "docs/deploying.md").read_text()
    companies = re.compile("|".join(source.capitalize() for source in SOURCES))
    assert [name for name in DOCUMENT[kind] if f"`{companies.sub('Alpha', name)}`" not in page] == []


def test_no_file_names_a_machine_or_a_registry() -> None:
    found = []
    for path in tracked_files():
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), start=1):
            if MACHINE_PATH.search(line) or any(registry in line for registry in REGISTRIES):
                found.append(f"{path.relative_to(REPOSITORY)}:{number}: {line.strip()[:80]}")
    assert found == []


def test_a_machine_path_is_found() -> None:
    assert MACHINE_PATH.search("see /home" + "/me/project")
    assert not MACHINE_PATH.search("GET /workflows/{id}, $HOME/" + "work/main, functions/home/app.py")


def test_ci_runs_what_the_readme_tells_people_to_run() -> None:
    lines = (REPOSITORY / ".ci/run").read_text().splitlines()
    assert re.search(r"^make test\b", (REPOSITORY / "README.md").read_text(), re.MULTILINE)
    assert [line for line in lines if line.startswith("make ")] == [
        "make test",
        "make test-long",
        "make lint",
    ]
    assert os.access(REPOSITORY / ".ci/run", os.X_OK)


@pytest.mark.parametrize(
    ("changelog", "version_file"),
    [("CHANGELOG.md", "VERSION"), ("layers/stepmark/CHANGELOG.md", "layers/stepmark/stepmark/version.py")],
)
def test_the_newest_release_in_a_changelog_is_the_version(changelog: str, version_file: str) -> None:
    version = re.search(r"\d+\.\d+\.\d+", (REPOSITORY / version_file).read_text())
    assert version is not None
    releases = re.findall(
        r"^## \[(\d+\.\d+\.\d+)\] - \d{4}-\d\d-\d\d$", (REPOSITORY / changelog).read_text(), re.MULTILINE
    )
    assert releases[0] == version[0]
    assert releases == sorted(
        releases, key=lambda each: [int(part) for part in each.split(".")], reverse=True
    )


def test_the_public_hosts_ci_calls_ours_and_nothing_else() -> None:
    workflow = yaml.safe_load((REPOSITORY / ".github/workflows/ci.yml").read_text())
    (job,) = workflow["jobs"].values()
    assert [step["run"] for step in job["steps"] if "run" in step] == [".ci/run"]
    used = [step["uses"] for step in job["steps"] if "uses" in step]
    assert all(re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40}", name) for name in used), "pinned by commit"
    assert workflow["permissions"] == {"contents": "read"}


def test_the_hooks_run_the_linters_that_make_lint_runs() -> None:
    (repo,) = yaml.safe_load((REPOSITORY / ".pre-commit-config.yaml").read_text())["repos"]
    makefile = (REPOSITORY / "Makefile").read_text()
    checked = re.search(r"^CHECKED := (.*)$", makefile, re.MULTILINE)
    assert checked is not None
    assert repo["repo"] == "local", "of the pinned versions"
    for hook in repo["hooks"]:
        tool, _, arguments = hook["entry"].removeprefix(".venvs/development/bin/").partition(" ")
        assert f"$(DEVELOPMENT)/{tool} " in makefile
        assert tool != "mypy" or arguments == checked[1]


PAGES = sorted([*REPOSITORY.glob("*.md"), *(REPOSITORY / "docs").rglob("*.md")])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_every_link_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)]+)\)", page.read_text()):
        name, _, anchor = target.partition("#")
        led_to = (page.parent / name).resolve() if name else page
        assert led_to.exists(), target
        if anchor and led_to.suffix == ".md":
            titles = re.findall(r"^#+ (.*)$", led_to.read_text(), re.MULTILINE)
            anchors = [re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles]
            assert anchor in anchors, target


def test_every_page_can_be_found_from_the_readme() -> None:
    linked = set(re.findall(r"\]\((docs/[^)#]+)", (REPOSITORY / "README.md").read_text()))
    index = (REPOSITORY / "docs/decisions/README.md").read_text()
    pages = {str(page.relative_to(REPOSITORY)) for page in (REPOSITORY / "docs").glob("*.md")}
    assert pages <= linked
    decisions = {page.name for page in (REPOSITORY / "docs/decisions").glob("*.md")} - {"README.md"}
    assert decisions == set(re.findall(r"\]\(([\w-]+\.md)\)", index))


def test_every_test_that_a_guarantee_names_exists() -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)`", (REPOSITORY / "docs/guarantees.md").read_text())
    assert len(named) >= 20
    assert [name for name in named if not (REPOSITORY / name).exists()] == []


def test_every_output_that_a_page_names_in_a_command_exists() -> None:
    for page in PAGES:
        for block in re.findall(r"^```sh\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE):
            named = set(re.findall(r"<(\w+(?:Arn|Url|Id|Name))>", block))
            # The page on adding a company adds an output first: its own test follows it.
            missing = set() if page.name == "add-a-company.md" else named - DOCUMENT["Outputs"].keys()
            assert missing == set(), page.name


def test_every_shell_block_of_a_page_is_a_shells() -> None:
    for page in PAGES:
        for block in re.findall(r"^```sh\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE):
            text = re.sub(r"<(\w+)>", r"\1", block).replace("…", "x")
            parsed = subprocess.run(["bash", "-n"], input=text, text=True, capture_output=True, check=False)  # noqa: S607 - bash of the PATH
            assert parsed.returncode == 0, f"{page.name}: {parsed.stderr}"
