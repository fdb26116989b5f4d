"""Conversations open at once, up to 2,000: each gets its own caller's identity, and none is lost.

Through the real handlers of the API and the store, under moto. The state machine's part is its own writes,
read from its definition and run directly, in a random order over all conversations: moto would need some
25,000 threads to interpret 2,000 executions at once. The interpreted state machine is the matter of
test_every_combination.py, and the lookups at once of test_companies_over_http.py.
"""

import random
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest

from conversation import timestamps
from tests.support.cloud import SOURCES, TABLE, Cloud, deployed, identity
from tests.support.machine import Machine

AT_ONCE = 16


def knowing(index: int) -> set[str]:
    """Who knows a caller: nobody, one company, two of them or all, in turn."""
    return {source for bit, source in enumerate(SOURCES) if index % 8 & 1 << bit}


class Execution:
    """One conversation's execution: three branches in any order, and the conclusion after the last."""

    def __init__(self, machine: Machine, index: int) -> None:
        self.machine = machine
        self.index = index
        self.left = set(SOURCES)
        self.lock = threading.Lock()

    def run_branch(self, source: str) -> None:
        conversation_id = f"call-{self.index}"
        if source in knowing(self.index):
            customer = identity(source, f"customer-{self.index}")
            self.machine.match(conversation_id, customer, timestamps.now())
        else:
            self.machine.record(conversation_id, source, "NO_MATCH", timestamps.now())
        with self.lock:
            self.left.remove(source)
            is_last = not self.left
        if is_last and not knowing(self.index):
            self.machine.conclude(conversation_id, "NOT_FOUND", timestamps.now())


def statuses_in_table(cloud: Cloud) -> Counter[str]:
    counted: Counter[str] = Counter()
    for page in cloud.dynamodb.get_paginator("scan").paginate(TableName=TABLE):
        counted.update(item["status"]["S"] for item in page["Items"])
    return counted


@pytest.mark.timeout(600)  # 2,000 take a minute and a half on two cores that have nothing else to do
@pytest.mark.parametrize("count", [200, pytest.param(2_000, marks=pytest.mark.long)])
def test_each_caller_gets_its_own_identity(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    # The deadline is far: writing 2,000 conversations takes moto longer than a call would wait.
    with deployed({"LookupDeadlineSeconds": "1000"}) as cloud, ThreadPoolExecutor(AT_ONCE) as threads:
        cloud.kill_executions(monkeypatch)
        started = threads.map(lambda index: cloud.start(f"call-{index}", f"+3367{index:07}"), range(count))
        assert Counter(answer.status for answer in started) == {202: count}
        assert statuses_in_table(cloud) == {"ONGOING": count}
        machine = Machine(cloud)
        executions = [Execution(machine, index) for index in range(count)]
        branches = [(execution, source) for execution in executions for source in SOURCES]
        random.Random(2026).shuffle(branches)  # noqa: S311 - the same order in every run
        for branch in [threads.submit(execution.run_branch, source) for execution, source in branches]:
            branch.result()
        answers = list(threads.map(lambda index: cloud.read(f"call-{index}"), range(count)))
        assert len(cloud.executions()) == count
    for index, answer in enumerate(answers):
        document, matches = answer.body, knowing(index)
        assert document["conversationId"] == f"call-{index}"
        assert document["callerNumber"] == f"+3367{index:07}"
        assert document["status"] == ("SUCCESS" if matches else "NOT_FOUND")
        found = dict(document["otherMatches"])
        if document["identity"] is not None:
            found[document["identity"]["source"]] = document["identity"]
        assert found == {source: identity(source, f"customer-{index}") for source in matches}
        assert set(document["sources"].values()) <= {"MATCH", "NO_MATCH"}
