"""Ask alpha whether it knows the caller; the state machine calls this beside the other companies' lookups."""

from __future__ import annotations

from typing import TYPE_CHECKING

from conversation.observability import logger
from conversation.sources import alpha
from conversation.sources.lookup import LookupAnswer, LookupEvent, answer_lookup
from conversation.tracing import tracer

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext


@logger.inject_lambda_context
@tracer.capture_lambda_handler(capture_response=False)
def lambda_handler(event: LookupEvent, _context: LambdaContext) -> LookupAnswer:
    """Answer MATCH with the identity, or NO_MATCH. Raises SourceUnavailable."""
    return answer_lookup("alpha", alpha.Secret, alpha.look_up, event)
