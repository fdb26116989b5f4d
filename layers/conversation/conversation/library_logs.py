"""What libraries log of their work is kept out of every log: it holds callers' numbers, secrets and tokens.

urllib3 logs paths at DEBUG, botocore the bodies of requests and answers, Secrets Manager's among them, and
httpx and its successor, which a company's module may bring, whole URLs at INFO. A level on a library's logger
keeps that out until somebody sets the level of one further down (`urllib3.connectionpool`,
`botocore.parsers`); so whatever they log below WARNING loses its text where records are made, before any
handler sees it.
"""

import logging
from typing import Any

LIBRARIES = frozenset({
    "asyncio", "boto3", "botocore", "h11", "h2", "hpack", "httpcore", "httpcore2", "httpx",
    "httpx2", "urllib3",
})  # fmt: skip
WITHHELD = "withheld, it may hold a caller's number or a credential"


def silence() -> None:
    """Keep the libraries' records below WARNING out of every log, whatever level is set where."""
    for name in LIBRARIES:
        logging.getLogger(name).setLevel(logging.WARNING)
    make = logging.getLogRecordFactory()
    if getattr(make, "withholds", False):
        return

    def make_without_text(*arguments: Any, **named: Any) -> logging.LogRecord:
        record = make(*arguments, **named)
        if record.levelno < logging.WARNING and record.name.partition(".")[0] in LIBRARIES:
            record.msg, record.args = WITHHELD, None
            record.exc_info = record.exc_text = record.stack_info = None
        return record

    make_without_text.withholds = True  # type: ignore[attr-defined]
    logging.setLogRecordFactory(make_without_text)
