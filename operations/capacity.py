"""`make capacity`: how many conversations and journeys a second a stack takes, and which limit binds first.

    python -m operations.capacity    # the tables in docs/operations.md

Computed from the parameters of template.yaml and from AWS's documented quotas, for conversations and
companies as docs/costs.md has them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from stepmark.dynamodb import SHARDS

from conversation.sources.lookup import BUDGET_SECONDS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

_TEMPLATE = Path(__file__).parent.parent / "template.yaml"


@dataclass(frozen=True)
class Quota:
    """What AWS gives an account in one region unless it is asked for more, and the page that says so."""

    value: int
    what: str
    page: str


READ_ON = "27 November 2026"
FUNCTIONS = Quota(
    1_000,
    "functions at once; 10 or 50 in a new account until AWS raises it",
    "lambda/latest/dg/gettingstarted-limits.html",
)
UNRESERVED = Quota(
    100,
    "functions at once that can't be reserved",
    "lambda/latest/dg/configuration-concurrency.html",
)
_REQUESTS_OF_ONE = Quota(
    10,
    "requests a second that one execution environment serves",
    "lambda/latest/dg/gettingstarted-limits.html",
)
_NEW_ENVIRONMENTS = Quota(
    1_000,
    "more execution environments of a function within ten seconds",
    "lambda/latest/dg/scaling-behavior.html",
)
_GATEWAY = Quota(
    10_000,
    "requests a second to API Gateway; 2,500 in thirteen regions, Milan, Zurich and Spain among them",
    "apigateway/latest/developerguide/limits.html",
)
_STARTS = Quota(
    6_000,
    "starts a second of Express executions",
    "step-functions/latest/dg/service-quotas.html",
)
_NEW_TABLE = Quota(
    4_000,
    "writes a second to a new table, or to an index of it; then twice what it had before, every 30 minutes",
    "amazondynamodb/latest/developerguide/on-demand-capacity-mode.html",
)
_TABLE = Quota(
    40_000,
    "writes a second to a table",
    "amazondynamodb/latest/developerguide/ServiceQuotas.html",
)
_PARTITION = Quota(
    1_000,
    "writes a second to a partition of a table or an index",
    "amazondynamodb/latest/developerguide/bp-partition-key-design.html",
)
_SCHEDULES = Quota(
    250,
    "new schedules a second; 5,000 in eleven regions",
    "scheduler/latest/UserGuide/scheduler-quotas.html",
)
QUOTAS = (
    FUNCTIONS,
    UNRESERVED,
    _REQUESTS_OF_ONE,
    _NEW_ENVIRONMENTS,
    _GATEWAY,
    _STARTS,
    _NEW_TABLE,
    _TABLE,
    _PARTITION,
    _SCHEDULES,
)

# One conversation: a start and four reads, the first of which waits for the answer (docs/costs.md).
READS = 4
REQUESTS = 1 + READS
# tests/integration/test_identification_costs.py counts these.
WRITES = 5
COMPANY_SECONDS = 1.0
_LOOKUP_SECONDS = COMPANY_SECONDS + 0.1
_WAIT_SECONDS = COMPANY_SECONDS + 0.3  # what a conversation takes until it can be read
# Shorter requests hold an environment for as long as if they took this.
_SHORTEST_SECONDS = 1 / _REQUESTS_OF_ONE.value

# One journey: `retention` with a decision. tests/integration/test_journey_costs.py counts these.
JOURNEY_REQUESTS = 3
JOURNEY_WRITES = 8
JOURNEY_RUNS = 5
_INDEX_WRITES = 12  # docs/costs.md
_CRM_SECONDS = 1.0


@dataclass(frozen=True)
class Limit:
    """How many a second something lets through: what it is, what there is of it, what one of them takes."""

    a_second: float
    what: str
    has: str
    takes: str


def conversations(parameters: Mapping[str, str], functions: int = FUNCTIONS.value) -> list[Limit]:
    """The limits to conversations a second, the first to bind first.

    conversations(defaults())[0].what   # "`ReadRateLimit`"

    `functions` is the account's own quota, as `aws lambda get-account-settings` tells it.
    """
    reads, requests = (int(parameters[name]) for name in ("ReadRateLimit", "ThrottlingRateLimit"))
    jump = _NEW_ENVIRONMENTS.value
    limits = [
        Limit(reads / READS, "`ReadRateLimit`", f"{reads:,} reads a second", f"{READS} reads"),
        Limit(
            requests / REQUESTS,
            "`ThrottlingRateLimit`",
            f"{requests:,} requests a second",
            f"{REQUESTS} requests",
        ),
        *_functions(parameters, functions),
        Limit(
            jump / _LOOKUP_SECONDS,
            "Lambda, when they come within ten seconds",
            f"{jump:,} more lookups at once of each company",
            f"{_LOOKUP_SECONDS:g} s",
        ),
        _shared(_NEW_TABLE, WRITES, "DynamoDB, a new `ConversationTable`", "writes"),
        _shared(_TABLE, WRITES, "DynamoDB, `ConversationTable`", "writes"),
        _shared(_GATEWAY, REQUESTS, "API Gateway", "requests"),
        _shared(_STARTS, 1, "Step Functions", "start"),
    ]
    return sorted(limits, key=lambda limit: limit.a_second)


def journeys(parameters: Mapping[str, str]) -> list[Limit]:
    """The limits to conversations a second that each have a journey, beside those of `conversations`."""
    requests = int(parameters["ThrottlingRateLimit"])
    together = REQUESTS + JOURNEY_REQUESTS
    seconds = (JOURNEY_RUNS - 1) * _SHORTEST_SECONDS + _CRM_SECONDS
    index = SHARDS * _PARTITION.value
    limits = [
        Limit(
            requests / together,
            "`ThrottlingRateLimit`",
            f"{requests:,} requests a second",
            f"{together} requests",
        ),
        Limit(
            run_journey_at_once() / seconds,
            "`run_journey`; more than that wait in its queue",
            f"{run_journey_at_once()} functions at once",
            f"{seconds:g} s, with a CRM that takes {_CRM_SECONDS:g} s",
        ),
        _shared(
            _SCHEDULES, 1, "EventBridge Scheduler, for those that wait longer than 15 minutes", "new schedule"
        ),
        _shared(_NEW_TABLE, _INDEX_WRITES, "DynamoDB, the index of a new `WorkflowTable`", "writes"),
        _shared(_NEW_TABLE, JOURNEY_WRITES, "DynamoDB, a new `WorkflowTable`", "writes"),
        Limit(
            index / _INDEX_WRITES,
            f"DynamoDB, the {SHARDS} partition keys of the index",
            f"{index:,} writes a second",
            f"{_INDEX_WRITES} writes",
        ),
    ]
    return sorted(limits, key=lambda limit: limit.a_second)


def _shared(quota: Quota, takes: int, what: str, unit: str) -> Limit:
    plural = unit if unit.endswith("s") else f"{unit}s"
    return Limit(quota.value / takes, what, f"{quota.value:,} {plural} a second", f"{takes} {unit}")


def _functions(parameters: Mapping[str, str], functions: int) -> Iterator[Limit]:
    companies = number_of_companies()
    lookups, readers = (int(parameters[f"{name}ReservedConcurrency"]) for name in ("Lookup", "Reader"))
    reading = _WAIT_SECONDS + (READS - 1) * _SHORTEST_SECONDS
    taken = companies * lookups + readers + (run_journey_at_once() if parameters["Journeys"] == "on" else 0)
    free = max(functions - taken, 0)
    seconds = _SHORTEST_SECONDS + (0 if readers else reading)
    asking = 0 if lookups else companies * _LOOKUP_SECONDS
    yield Limit(
        free / (seconds + asking),
        "Lambda",
        f"{free:,} functions at once, beside what is reserved and `run_journey`'s",
        f"{seconds + asking:.2g} s of functions",
    )
    if lookups:
        yield Limit(
            lookups / _LOOKUP_SECONDS,
            "`LookupReservedConcurrency`",
            f"{lookups:,} functions at once for each company",
            f"{_LOOKUP_SECONDS:g} s",
        )
    else:
        hanging = seconds + asking - _LOOKUP_SECONDS + BUDGET_SECONDS
        yield Limit(
            free / hanging,
            "Lambda, while one company hangs",
            f"the same {free:,} functions",
            f"{hanging:.2g} s of functions",
        )
    if readers:
        yield Limit(
            readers / reading,
            "`ReaderReservedConcurrency`",
            f"{readers:,} functions at once",
            f"{reading:g} s",
        )


def waiting_readers(parameters: Mapping[str, str]) -> int:
    """How many functions readers can hold at once who all wait for as long as they may.

    waiting_readers(defaults())   # 600
    """
    waiting = int(parameters["ReadRateLimit"]) * int(parameters["MaxWaitSeconds"])
    return min(waiting, int(parameters["ReaderReservedConcurrency"]) or waiting)


# --- the template -----------------------------------------------------------------------------------------


class _Loader(yaml.SafeLoader):
    """YAML in which CloudFormation's functions are what they are called with."""


def _argument(loader: yaml.SafeLoader, _tag: str, node: yaml.Node) -> Any:
    if isinstance(node, yaml.ScalarNode):
        return loader.construct_scalar(node)
    if isinstance(node, yaml.SequenceNode):
        return loader.construct_sequence(node, deep=True)
    return loader.construct_mapping(node, deep=True)  # type: ignore[arg-type]


_Loader.add_multi_constructor("!", _argument)


@cache
def _template() -> Any:
    return _Loader(_TEMPLATE.read_text()).get_single_data()


def defaults() -> dict[str, str]:
    """The template's parameters that have a default, with that."""
    declared = _template()["Parameters"].items()
    return {name: str(parameter["Default"]) for name, parameter in declared if "Default" in parameter}


def number_of_companies() -> int:
    """How many companies are asked."""
    _, companies, _ = _template()["Resources"]["Fn::ForEach::Companies"]
    return len(companies)


def run_journey_at_once() -> int:
    """How many functions run journeys at most."""
    event = _template()["Resources"]["RunJourneyFunction"]["Properties"]["Events"]["Wakeups"]
    return int(event["Properties"]["ScalingConfig"]["MaximumConcurrency"])


# --- the page ---------------------------------------------------------------------------------------------


def tables() -> str:
    """What docs/operations.md says of a stack with the template's own parameters, in Markdown."""
    parameters = defaults()
    ten, fifty = (
        _rate(next(_functions({**parameters, "Journeys": "off"}, functions)).a_second)
        for functions in (10, 50)
    )
    return "\n".join(
        [
            *_table("conversations", conversations(parameters)),
            "",
            f"Readers who all wait for as long as they may hold {waiting_readers(parameters):,} functions",
            "(`ReadRateLimit` times `MaxWaitSeconds`). The 10 or 50 functions of a new account last for",
            f"{ten} or {fifty} conversations a second, without journeys.",
            "",
            *_table("journeys", journeys(parameters)),
            "",
            f"AWS's quotas, for an account and region, as its pages had them on {READ_ON}:",
            "",
            "| quota | | page |",
            "|---:|---|---|",
            *(
                f"| {q.value:,} | {q.what} | [{_name(q)}](https://docs.aws.amazon.com/{q.page}) |"
                for q in QUOTAS
            ),
        ]
    )


def _table(unit: str, limits: Iterable[Limit]) -> Iterator[str]:
    yield f"| {unit} a second | limit | has | one takes |"
    yield "|---:|---|---|---|"
    for limit in limits:
        yield f"| {_rate(limit.a_second)} | {limit.what} | {limit.has} | {limit.takes} |"


def _rate(a_second: float) -> str:
    small = a_second < 10 and a_second != int(a_second)  # noqa: PLR2004 - two digits
    return f"{a_second:,.1f}" if small else f"{a_second:,.0f}"


def _name(quota: Quota) -> str:
    return quota.page.rpartition("/")[2].removesuffix(".html")


if __name__ == "__main__":
    print(tables())
