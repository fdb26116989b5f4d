"""Wrong code does not type-check, good code does."""

import re
from pathlib import Path

import pytest
from mypy import api

ROOT = Path(__file__).parents[3]
EXAMPLES = Path(__file__).with_name("examples.py.txt").read_text()


@pytest.mark.timeout(300)
def test_mypy_finds_every_wrong_line_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "examples.py"
    path.write_text(EXAMPLES)
    arguments = [
        "--strict",
        "--config-file",
        str(ROOT / "pyproject.toml"),
        "--cache-dir",
        str(tmp_path / "cache"),
    ]
    printed, problems, _ = api.run([*arguments, str(path)])
    assert not problems
    found = {int(number) for number in re.findall(r"examples\.py:(\d+): error", printed)}
    lines = EXAMPLES.splitlines()
    wrong = {number for number, line in enumerate(lines, 1) if line.endswith("# wrong")}
    assert len(wrong) > 30
    assert found == wrong, "\n".join(
        [f"not found: {number}: {lines[number - 1]}" for number in sorted(wrong - found)] + [printed]
    )
