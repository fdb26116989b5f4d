"""Who a caller is, in the words of the IVR, whichever company knew it."""

import unicodedata
from dataclasses import dataclass

# Step Functions ends an execution whose state grows past 256 KB, and no Catch can prevent it.
MAX_TEXT_LENGTH = 1_000
# Normalization sorts runs of combining marks in quadratic time, so what is far too long is not normalized.
_MAX_UNNORMALIZED_LENGTH = 4 * MAX_TEXT_LENGTH

# Letters by Unicode's book, and blank to the eye: names are made of nothing with them.
_BLANK_LETTERS = frozenset("\u115f\u1160\u2800\u3164\uffa0")
# Controls, invisible format characters (those of writing direction among them) and halves of surrogate pairs.
_INVISIBLE_CATEGORIES = frozenset({"Cc", "Cf", "Cs"})
_JOINERS = frozenset("\u200c\u200d")
# Persian, the Indian scripts and others need joiners between two letters; all that do come after this.
_FIRST_OF_JOINING_SCRIPTS = "\u0600"


@dataclass(frozen=True, slots=True)
class Identity:
    """A customer of one company. Texts are empty where the company keeps none.

    `candidates` counts the customers with the caller's number. With more than one the id and the names are
    empty: nobody can tell yet which of them calls.
    """

    source: str
    customer_id: str
    first_name: str
    last_name: str
    segment: str
    candidates: int = 1

    def as_map(self) -> dict[str, str | int]:
        """Make the flat map that the state machine writes and the HTTP API shows."""
        return {
            "source": self.source,
            "customerId": self.customer_id,
            "displayName": f"{self.first_name} {self.last_name}".strip(),
            "firstName": self.first_name,
            "lastName": self.last_name,
            "segment": self.segment,
            "candidates": self.candidates,
        }


def clean(text: str) -> str:
    r"""Make a text fit for an ear and a screen: NFC, nothing invisible, white space of any kind as one space.

        clean("  Jean\u202e\tDupont\x00")    # "Jean Dupont"

    Raises ValueError when more than 1,000 characters remain.
    """
    if not (text.isascii() and text.isprintable()):
        text = "".join(map(_visible, text))
        text = "".join(c for i, c in enumerate(text) if c not in _JOINERS or _joins(text[i - 1 : i + 2]))
    text = " ".join(text.split())
    if len(text) <= _MAX_UNNORMALIZED_LENGTH:
        text = unicodedata.normalize("NFC", text)
    if len(text) > MAX_TEXT_LENGTH:
        raise ValueError(f"has more than {MAX_TEXT_LENGTH:,} characters")
    return text


def clean_id(text: str) -> str:
    """Make a customer's id fit for storing: NFC, and trimmed.

    Raises ValueError when it is empty, or when more would have to change: that would be another's id.
    """
    cleaned = clean(text)
    if not cleaned or cleaned != unicodedata.normalize("NFC", text.strip()):
        raise ValueError("is not a valid id")
    return cleaned


def _visible(character: str) -> str:
    if character.isspace() or character in _BLANK_LETTERS:
        return " "
    if character in _JOINERS or unicodedata.category(character) not in _INVISIBLE_CATEGORIES:
        return character
    return ""


def _joins(three: str) -> bool:
    """Tell whether the joiner in the middle is between two letters or marks of a script with joiners."""
    return len(three) == 3 and all(  # noqa: PLR2004 - it says three
        character >= _FIRST_OF_JOINING_SCRIPTS and unicodedata.category(character)[0] in "LM"
        for character in (three[0], three[2])
    )
