"""The state machine's writes one at a time, each exactly as the definition has it.

    machine = Machine(cloud)
    machine.conclude("6c5c", "FAILED", now)   # True: the write's condition held

Step Functions asks the companies side by side. These let a test choose the order.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from conversation import timestamps
from tests.support.cloud import Cloud


@dataclass(frozen=True)
class Machine:
    """The update tasks of the state machine; `now` is the moment when the state is entered."""

    cloud: Cloud
    start_id: str | None = None  # of the conversation that has the id now, unless it says otherwise

    def identify(self, conversation_id: str, identity: Mapping[str, str], now: datetime) -> bool:
        """Let a source's match count; False when it comes second or too late."""
        state = self._state("Identify the caller")
        return self._write(state, _answer(conversation_id, identity["source"], "MATCH", identity), now)

    def keep(self, conversation_id: str, identity: Mapping[str, str], now: datetime) -> bool:
        """Keep a source's match that did not count."""
        state = self._state("Keep another match")
        return self._write(state, _answer(conversation_id, identity["source"], "MATCH", identity), now)

    def match(self, conversation_id: str, identity: Mapping[str, str], now: datetime) -> None:
        """Do what the machine does with one company's match."""
        if not self.identify(conversation_id, identity, now):
            self.keep(conversation_id, identity, now)

    def record(self, conversation_id: str, source: str, outcome: str, now: datetime) -> bool:
        """Record NO_MATCH or UNAVAILABLE."""
        return self._write(self._state("Record the answer"), _answer(conversation_id, source, outcome), now)

    def conclude(self, conversation_id: str, conclusion: str, now: datetime) -> bool:
        """Write NOT_FOUND or FAILED at the end."""
        data = {"conversationId": conversation_id, "conclusion": conclusion}
        return self._write(self._state("Conclude"), data, now)

    def _state(self, name: str) -> Mapping[str, Any]:
        [state] = [state for found, state in _states(self.cloud.definition) if found == name]
        return state

    def _write(self, state: Mapping[str, Any], data: Mapping[str, Any], now: datetime) -> bool:
        """Make the write for the start that the conversation has now, unless `data` names another."""
        item = self.cloud.item(data["conversationId"]) or {}
        data = {**data, "startId": self.start_id or item.get("startId", {"S": "none"})["S"]}
        context = {"State": {"EnteredTime": timestamps.to_text(now)}}
        parameters = _resolve(state["Parameters"], data, context)
        try:
            self.cloud.dynamodb.update_item(**parameters)
        except self.cloud.dynamodb.exceptions.ConditionalCheckFailedException:
            return False
        return True


def _answer(
    conversation_id: str, source: str, outcome: str, identity: Mapping[str, str] | None = None
) -> dict[str, Any]:
    answer = {"outcome": outcome, "identity": identity}
    return {"conversationId": conversation_id, "source": source, "lookup": {"answer": answer}}


def _states(definition: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for name, state in definition["States"].items():
        yield name, state
        if "ItemProcessor" in state:
            yield from _states(state["ItemProcessor"])


def _resolve(template: Any, data: Mapping[str, Any], context: Mapping[str, Any]) -> Any:
    """Fill in a payload template: `"name.$": "$.path"` of the state's data, `$$.path` of the context."""
    if not isinstance(template, dict):
        return template
    resolved = {}
    for name, value in template.items():
        if name.endswith(".$"):
            as_text = value.startswith("States.Format('{}', ")
            path = value.removeprefix("States.Format('{}', ").removesuffix(")")
            found: Any = context if path.startswith("$$.") else data
            for part in path.lstrip("$.").split("."):
                found = found[part]
            resolved[name.removesuffix(".$")] = str(found) if as_text else found
        else:
            resolved[name] = _resolve(value, data, context)
    return resolved
