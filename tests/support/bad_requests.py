"""Requests for the retention journey that fit its types nowhere, for tests that send many of them."""

from hypothesis import strategies as st

from journeys.retention import YEAR_SECONDS
from tests.support.template import Template

# What a deployment lists unless its operator says otherwise.
OFFERS = tuple(
    offer.strip() for offer in Template.load().document["Parameters"]["RetentionOffers"]["Default"].split(",")
)

json_values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)

_FIELDS = {"offer", "answer_within_seconds"}


def _is_good(field: tuple[str, object]) -> bool:
    match field:
        case ("offer", str(text)):
            return text in {"", *OFFERS}
        case ("answer_within_seconds", int(seconds)):
            return type(seconds) is int and 1 <= seconds <= YEAR_SECONDS
        case _:
            return False


_a_bad_field = (
    st.tuples(st.sampled_from(sorted(_FIELDS)), json_values)
    | st.tuples(st.just("answer_within_seconds"), st.integers(-(10**30), 10**30))
    | st.tuples(st.just("offer"), st.text(min_size=1).filter(lambda offer: offer not in OFFERS))
    | st.tuples(st.sampled_from(["conversation_id", "segment", "decision", "crm_note"]), st.text())
    | st.tuples(st.text(), json_values)
).filter(lambda field: not _is_good(field))

bad_fields = st.builds(
    lambda good, bad: {**good, bad[0]: bad[1]},
    st.fixed_dictionaries(
        {}, optional={"offer": st.sampled_from(OFFERS), "answer_within_seconds": st.integers(1, YEAR_SECONDS)}
    ),
    _a_bad_field,
)
"""One field at least is no field of the journey, or has a value that it can't have."""


def _is_decision(payload: object) -> bool:
    return isinstance(payload, dict) and all(isinstance(payload.get(name), str) for name in ("by", "reason"))


bad_decisions = (
    json_values | st.fixed_dictionaries({"by": json_values, "reason": json_values | st.just("x")})
).filter(lambda payload: not _is_decision(payload))
"""No supervisor's decision."""
