"""Which of a company's records are the caller's: each is judged by itself, a bad one spoils no other."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from conversation.sources.identity import Identity, clean, clean_id

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from conversation.sources.client import SourceClient

# A number's text, beyond which nobody looks for a number in it.
_MAX_NUMBER_LENGTH = 255
# DynamoDB and JSON carry numbers up to some size; how many exactly there are matters to nobody by then.
_MAX_CANDIDATES = 1_000_000


class InvalidField(Exception):
    """The record may be the caller's, and cannot be used. `field` is a path such as `name.given`."""

    def __init__(self, field: str) -> None:
        super().__init__(field)
        self.field = field


class Record(NamedTuple):
    """A company's record, or a part of one, whose fields are read as what they should be.

        record.text("first_name")

    Fields that nobody asks for may hold anything. Every method raises InvalidField.
    """

    fields: Mapping[str, object]
    path: str = ""

    def id(self, name: str) -> str:
        """Read a customer's id: text that stays as it is."""
        return self._cleaned(clean_id, name, self.fields.get(name))

    def text(self, name: str) -> str:
        """Read a text such as a name, empty when it is null or missing."""
        value = self.fields.get(name)
        return "" if value is None else self._cleaned(clean, name, value)

    def segment(self, name: str) -> str:
        """Read what kind of customer it is; that only advises, so what is no text is empty."""
        value = self.fields.get(name)
        return self._cleaned(clean, name, value) if isinstance(value, str) else ""

    def part(self, name: str) -> Record:
        """Read an object within the record, empty when it is null or missing."""
        value = self.fields.get(name)
        if not isinstance(value, dict | None):
            raise InvalidField(self.path + name)
        return Record(value or {}, f"{self.path}{name}.")

    def _cleaned(self, clean_it: Callable[[str], str], name: str, value: object) -> str:
        if not isinstance(value, str):
            raise InvalidField(self.path + name)
        try:
            return clean_it(value)
        except ValueError:
            # Without its text: an error may be logged, and this is a customer.
            raise InvalidField(self.path + name) from None


class Customer(NamedTuple):
    """A record that is in order, in our words."""

    customer_id: str
    first_name: str
    last_name: str
    segment: str


def find_caller(
    client: SourceClient,
    number: str,
    records: Iterable[tuple[str, object]],
    number_field: str,
    read: Callable[[Record], Customer],
    *,
    bare_digits: bool = False,
    unsent: int = 0,
) -> Identity | None:
    """Make one identity of the records with the caller's number (E.164); None when there are none.

        find_caller(client, number, [("0", record)], "phone", read)

    A record comes with its place in the answer. `read` makes a Customer of it, or raises InvalidField.
    `bare_digits` takes a record's number for one with its country code, though it has no plus sign. `unsent`
    is how many more records there are at the company. Raises SourceUnavailable when no record in order is
    the caller's, but one of the others may have been.
    """
    customers: dict[str, list[Customer]] = {}
    broken: str | None = None
    for place, record in records:
        try:
            customer = _read_if_callers(client, number, record, number_field, read, bare_digits=bare_digits)
        except InvalidField as error:
            broken = broken if broken is not None else ".".join(filter(None, (place, error.field)))
            continue
        if customer is not None:
            customers.setdefault(customer.customer_id, []).append(customer)
    if not customers:
        if broken is not None:
            raise client.malformed(broken)
        if unsent:
            raise client.unavailable("did not send all the records that it has")
        return None
    candidates = min(len(customers) + unsent, _MAX_CANDIDATES)
    segments = {customer.segment for same in customers.values() for customer in same}
    segment = segments.pop() if len(segments) == 1 and not unsent else ""
    if candidates > 1:
        return Identity(client.source, "", "", "", segment, candidates)
    [(customer_id, same)] = customers.items()
    first_name, last_name = (_agreed(names) for names in zip(*(one[1:3] for one in same), strict=True))
    return Identity(client.source, customer_id, first_name, last_name, segment)


def _read_if_callers(
    client: SourceClient,
    number: str,
    record: object,
    number_field: str,
    read: Callable[[Record], Customer],
    *,
    bare_digits: bool,
) -> Customer | None:
    if not isinstance(record, dict):
        raise InvalidField("")
    theirs = record.get(number_field)
    if not isinstance(theirs, str):
        raise InvalidField(number_field)
    if not _is_same_number(client, theirs, number, bare_digits=bare_digits):
        return None
    return read(Record(record))


def _is_same_number(client: SourceClient, theirs: str, number: str, *, bare_digits: bool) -> bool:
    # Nearly every record: it takes no library to see that.
    if theirs == number or (bare_digits and f"+{theirs}" == number):
        return True
    from conversation.phone_numbers import read_record_number  # noqa: PLC0415 - 37 ms that most lookups save

    read = None
    if len(theirs) <= _MAX_NUMBER_LENGTH:
        read = read_record_number(theirs, bare=bare_digits)
    if read is None:
        client.counted["LookupUnreadableNumber"] += 1
        return False
    return read == (read_record_number(number) or number)


def _agreed(names: Iterable[str]) -> str:
    """Return the name that all records of one customer agree on, if they have one."""
    different = set(filter(None, names))
    return different.pop() if len(different) == 1 else ""
