"""The first state of a workflow, as it comes from outside and as a store keeps it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import TypeAdapter, ValidationError

from stepmark.core.payloads import faults_of
from stepmark.core.state import codec_of
from stepmark.errors import PayloadRefused

if TYPE_CHECKING:
    from stepmark.definition.workflow import Workflow


def workflow_from_json[W: Workflow](cls: type[W], text: str) -> W:
    """Make a workflow with the fields that a JSON object has, as strictly as a payload is read.

        workflow = workflow_from_json(Approval, '{"user": "ada"}')

    Raises PayloadRefused, whose `brief` says what is wrong without quoting the values.
    """
    try:
        workflow: W = TypeAdapter(cls).validate_json(text, strict=True)
    except ValidationError as error:
        faults, brief = faults_of(error)
        raise PayloadRefused(faults, brief=brief) from error
    return workflow


def state_to_json(workflow: Workflow) -> str:
    """The fields of a workflow as a store would keep them; StateError names the one that can't be stored.

    size = len(state_to_json(Approval(user="ada")).encode())
    """
    return codec_of(type(workflow)).store(workflow).text
