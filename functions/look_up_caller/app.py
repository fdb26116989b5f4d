"""Ask one company whether it knows the caller: SOURCE says which, and each has a function of this code.

The state machine calls them side by side.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from conversation.cold_start import prepare
from conversation.observability import logger
from conversation.sources.lookup import (
    LookupAnswer,
    LookupEvent,
    answer_lookup,
    import_own_company,
    read_own_secret,
)

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext

import_own_company()  # now, when it costs least; the handler's call finds it imported
prepare(read_own_secret)


@logger.inject_lambda_context
def lambda_handler(event: LookupEvent, _context: LambdaContext) -> LookupAnswer:
    """Answer MATCH with the identity, or NO_MATCH. Raises SourceUnavailable."""
    company = import_own_company()
    return answer_lookup(company.source, company.secret_type, company.look_up, event)
