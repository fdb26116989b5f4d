"""The requests of the README and the docs, pasted into a shell in their order, are answered as they say.

Below each request stand the status and the answer: `# 200 {"status": "SUCCESS", …}`. An object with `…` may
have more members; `or` is between answers of which one has to come; `soon:` is before one that a reader has
to ask for until it is so.
"""

import json
import os
import re
import shutil
import subprocess
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pytest

from local import processes
from local.background import CALLER, CUSTOMER
from local.companies import Behaviour, Companies
from local.demo.story import LATENCIES
from local.emulator.stack import Stack

PAGES = (
    "README.md",
    "docs/ivr-developers.md",
)  # in this order: the second goes on with the first's variables

SOON_SECONDS = 60
REQUEST_SECONDS = 60
REST = "…"
ANSWER = re.compile(r"(?P<soon>soon: )?(?P<status>\d{3}) (?P<documents>.+)", re.DOTALL)
# What each request is run with: the status comes in a line of its own after the answer.
CURL = r"""curl() { command curl --silent --show-error --write-out '\n%{http_code}' "$@"; }"""


@dataclass(frozen=True)
class Example:
    """A request as a reader would paste it, after the lines that set variables, and what answers it."""

    script: str
    soon: bool
    status: int
    documents: list[Any]


def examples(readme: str) -> list[Example]:
    """Every curl of the README's `sh` blocks, in order; each has to have an answer below it."""
    found: list[Example] = []
    setting: list[str] = []
    for block in re.findall(r"^```sh\n(.*?)^```", readme, re.DOTALL | re.MULTILINE):
        if not re.search(r"^curl ", block, re.MULTILINE):
            continue
        # A command with the lines that continue it, and the comment below.
        for command, comment in re.findall(r"^([^#\n](?:.*\\\n)*.*\n)((?:#.*\n)*)", block, re.MULTILINE):
            if not command.startswith("curl "):
                setting.append(command)
                continue
            answer = ANSWER.fullmatch(re.sub(r"^#\s*", "", comment, flags=re.MULTILINE).strip())
            assert answer, f"{command}has no answer below it, but {comment!r}"
            found.append(
                Example(
                    script="\n".join([CURL, *setting, command]),
                    soon=answer["soon"] is not None,
                    status=int(answer["status"]),
                    documents=documents(answer["documents"]),
                )
            )
    return found


def documents(text: str) -> list[Any]:
    """The JSON documents in a text with `or` between them."""
    text = text.replace(f"{REST}}}", f'"{REST}": null}}')
    return [json.loads(document) for document in re.split(r"(?<=\}) or (?=\{)", text)]


def fits(answer: Any, printed: Any) -> bool:
    """Whether an answer is what the README prints, with more members only where it has a `…`."""
    if isinstance(answer, str) and isinstance(printed, str) and printed.endswith(REST):
        return answer.startswith(printed.removesuffix(REST))
    if not (isinstance(answer, dict) and isinstance(printed, dict)):
        return bool(answer == printed)
    names = printed.keys() - {REST}
    known = answer.keys() >= names if REST in printed else answer.keys() == names
    return known and all(fits(answer[name], printed[name]) for name in names)


def send(example: Example, stack: Stack, variables: Mapping[str, str]) -> tuple[int, Any]:
    done = subprocess.run(  # noqa: S603 - the README is ours
        ["/usr/bin/env", "bash", "-c", example.script],
        env={**os.environ, "API": stack.api_url, "KEY": stack.api_key, **variables},
        capture_output=True,
        text=True,
        check=False,
        timeout=REQUEST_SECONDS,
    )
    assert done.returncode == 0, done.stderr
    body, _, status = done.stdout.rpartition("\n")
    return int(status), json.loads(body)


def check(example: Example, stack: Stack, variables: dict[str, str]) -> None:
    """Send a request until it is answered as printed; a workflow's id is what a reader copies by hand."""
    give_up_at = time.monotonic() + SOON_SECONDS
    while True:
        status, answer = send(example, stack, variables)
        if status == example.status and any(fits(answer, printed) for printed in example.documents):
            variables.update({"WORKFLOW": answer["workflowId"]} if "workflowId" in answer else {})
            return
        request = example.script.rpartition("curl ")[2]
        assert example.soon, f"curl {request}answers {status} {answer}"
        assert time.monotonic() < give_up_at, f"curl {request}after {SOON_SECONDS} s: {status} {answer}"
        time.sleep(0.2)


@pytest.mark.timeout(300)
@pytest.mark.usefixtures("ivr")  # whose functions are warm
def test_the_requests_are_answered_as_it_says(stack: Stack, companies: Companies) -> None:
    assert shutil.which("curl"), "install curl: this test sends the README's requests as a reader would"
    companies.know("gamma", {CALLER: CUSTOMER})
    # The two others answer at once, unlike after `make up`: the emulator would start further environments of
    # theirs for the second call, while the first keeps those that are warm.
    companies.behave("gamma", by_number={CALLER: Behaviour(latency=LATENCIES["gamma"])})
    readme = "\n".join((processes.REPOSITORY / page).read_text() for page in PAGES)
    for conversation_id in set(re.findall(r'-d \'\{"conversationId": "(.*?)"', readme)):
        readme = readme.replace(conversation_id, str(uuid.uuid4()))
    requests = examples(readme)
    assert any("/journeys/" in request.script for request in requests)
    assert len(requests) == len(re.findall(r"^curl ", readme, re.MULTILINE))
    variables: dict[str, str] = {}
    for request in requests:
        check(request, stack, variables)


@pytest.mark.parametrize(
    ("answer", "printed", "fit"),
    [
        ({"a": 1, "b": {"c": [2]}}, '{"b": {"c": [2]}, "a": 1}', True),
        ({"a": 1, "b": 2}, '{"a": 1, …}', True),
        ({"a": 1}, '{"a": 1, …}', True),
        ({"a": {"b": 1, "c": 2}}, '{"a": {"b": 1, …}}', True),
        ({"a": 1, "b": 2}, '{"a": 1}', False),
        ({"a": 1}, '{"a": 1, "b": null}', False),
        ({"b": 2}, '{"a": 1, …}', False),
        ({"a": 2}, '{"a": 1, …}', False),
        ({"a": {"b": 1, "c": 2}}, '{"a": {"b": 1}, …}', False),
        ({"a": ["b", "c"]}, '{"a": ["b"]}', False),
        ({"a": None}, '{"a": {…}}', False),
        ({"a": "b~c"}, '{"a": "b~…"}', True),
        ({"a": "c~b"}, '{"a": "b~…"}', False),
    ],
)
def test_an_answer_fits_what_is_printed(answer: object, printed: str, fit: bool) -> None:
    (document,) = documents(printed)
    assert fits(answer, document) is fit


def test_a_request_without_an_answer_is_found() -> None:
    with pytest.raises(AssertionError, match="no answer"):
        examples("```sh\ncurl $API/conversations/c1\n```\n")
