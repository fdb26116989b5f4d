"""Caller numbers as IVRs send them, turned into E.164."""

import re
from urllib.parse import unquote

import phonenumbers

from conversation.errors import InvalidRequest

MAXIMUM_LENGTH = 255
_MAXIMUM_E164_LENGTH = 16  # a plus sign and fifteen digits; some national plans have longer numbers

# What platforms put where a number should be when the caller withholds it.
_WITHHELD_WORDS = frozenset(
    {
        "", "anonymous", "asserted", "blocked", "hidden", "invalid", "n/a", "no-caller-id", "nocallerid",
        "none", "not available", "null", "private", "restricted", "suppressed", "unavailable", "undefined",
        "unknown", "withheld",
    }
)  # fmt: skip

# As in `private number` and `unknown caller`.
_NOUN_OF_A_WITHHELD_WORD = re.compile(r"\s+(number|caller|call)$", re.IGNORECASE)

# phonenumbers looks for a number anywhere in a text; what IVRs send is one, so it begins like one.
# Before it may stand what cannot be seen: marks of writing direction, say, that copying brought along.
_BEGINS_LIKE_A_NUMBER = re.compile(
    r"[\s\u200b-\u200f\u202a-\u202e\u2066-\u2069\ufeff]*[+\uff0b(\uff08\[]*\s*\d"
)

# The same words typed on a telephone's keys: ANONYMOUS is 266696687, RESTRICTED 7378742833, and so on.
_KEYPAD = str.maketrans("abcdefghijklmnopqrstuvwxyz", "22233344455566677778889999")
_WITHHELD_DIGITS = frozenset(
    word.translate(_KEYPAD)
    for word in ("anonymous", "blocked", "private", "restricted", "unavailable", "unknown", "withheld")
)


def to_e164(raw: str, default_region: str) -> str | None:
    """Turn a caller number into E.164, or None when the caller withholds it.

        to_e164("tel:+33612345678;ext=105", "FR")        # "+33612345678"
        to_e164("sip:+33612345678@carrier.example", "FR")  # "+33612345678"
        to_e164("06 12 34 56 78", "FR")                  # "+33612345678"
        to_e164("anonymous", "FR")                       # None

    `default_region` is an ISO 3166 code such as `FR`, for numbers without a country code. A number counts
    when its length is possible in its country: which ranges are in use changes faster than any pinned list,
    and turning a real caller away costs more than three lookups for nobody.

    Raises InvalidRequest when the text is neither a number nor a way of withholding one.
    """
    if len(raw) > MAXIMUM_LENGTH:
        raise InvalidRequest(f"callerNumber must have at most {MAXIMUM_LENGTH} characters")
    text = _without_uri(_without_display_name(raw.strip()))
    word = text.partition(";")[0].strip()
    word = _NOUN_OF_A_WITHHELD_WORD.sub("", word)
    if word.casefold() in _WITHHELD_WORDS:
        return None
    digits = "".join(character for character in word if character.isdecimal())
    if word.startswith("+") and digits in _WITHHELD_DIGITS:
        return None
    number = _parse(text, default_region) if _BEGINS_LIKE_A_NUMBER.match(text) else None
    if number is None and (digits in _WITHHELD_DIGITS or (digits and not digits.strip("0"))):
        return None
    if number is None:
        raise InvalidRequest(
            "callerNumber must be E.164, a tel: or sip: URI with a number, a national number of the "
            f"region {default_region}, or a word such as anonymous"
        )
    return number


def _without_display_name(text: str) -> str:
    """Take the URI out of what a SIP header holds: `"Anonymous" <sip:anonymous@anonymous.invalid>`."""
    _, bracket, rest = text.partition("<")
    return rest.partition(">")[0].strip() if bracket else text


def _without_uri(text: str) -> str:
    """Take the number out of a `sip:` URI, and what looks like a number out of a `tel:` URI."""
    scheme, colon, rest = text.partition(":")
    match scheme.casefold() if colon else "":
        case "sip" | "sips":
            user, _, _password = unquote(rest.partition("@")[0]).partition(":")
            return _subscriber(user)
        case "tel":
            return _subscriber(rest)
        case _:
            return text


def _subscriber(text: str) -> str:
    """Keep a URI's number and, for a local one, the context that says of which country it is (RFC 3966)."""
    number, *parameters = (part.strip() for part in text.split(";"))
    for parameter in parameters:
        name, _, context = parameter.partition("=")
        if name.casefold() == "phone-context" and context.startswith("+") and not number.startswith("+"):
            return f"{number};phone-context={context}"
    return number


def _parse(text: str, default_region: str) -> str | None:
    number = _e164(text, default_region)
    # A second look: of two trunk prefixes the first one only drops one, and leaves what is no number.
    return number if number is not None and _e164(number, default_region) == number else None


def _e164(text: str, default_region: str) -> str | None:
    try:
        number = phonenumbers.parse(text, default_region)
    except phonenumbers.NumberParseException:
        return None
    if phonenumbers.is_possible_number_with_reason(number) != phonenumbers.ValidationResult.IS_POSSIBLE:
        return None
    formatted = phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)
    return formatted if len(formatted) <= _MAXIMUM_E164_LENGTH else None
