"""Who a caller is, in the words of the IVR, whichever company knew it."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Identity:
    """A customer of one company. Texts are empty where the company keeps none."""

    source: str
    customer_id: str
    first_name: str
    last_name: str
    segment: str

    def as_map(self) -> dict[str, str]:
        """Make the flat map that the state machine writes and the HTTP API shows."""
        return {
            "source": self.source,
            "customerId": self.customer_id,
            "displayName": f"{self.first_name} {self.last_name}".strip(),
            "firstName": self.first_name,
            "lastName": self.last_name,
            "segment": self.segment,
        }


def is_same_number(theirs: str, ours: str) -> bool:
    """Compare two numbers with their country codes by digits: companies write them in their own ways."""
    return _digits(theirs) == _digits(ours)


def _digits(number: str) -> str:
    return "".join(character for character in number if character.isdecimal())
