"""Ask one company whether it knows the caller: SOURCE says which, and each has a function of this code.

The state machine calls them side by side.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from conversation.observability import logger
from conversation.sources.lookup import LookupAnswer, LookupEvent, answer_lookup, import_own_company
from conversation.tracing import tracer

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext

import_own_company()  # now, while Lambda lends a whole core; the handler's call finds it imported


@logger.inject_lambda_context
@tracer.capture_lambda_handler(capture_response=False)
def lambda_handler(event: LookupEvent, _context: LambdaContext) -> LookupAnswer:
    """Answer MATCH with the identity, or NO_MATCH. Raises SourceUnavailable."""
    company = import_own_company()
    return answer_lookup(company.source, company.secret_type, company.look_up, event)
