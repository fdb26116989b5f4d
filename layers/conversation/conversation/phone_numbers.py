"""Caller numbers as IVRs send them, turned into E.164."""

import re
from urllib.parse import unquote

import phonenumbers
from phonenumbers import CountryCodeSource, PhoneNumber, PhoneNumberFormat, ValidationResult

from conversation.errors import InvalidRequest

MAXIMUM_LENGTH = 255
_MAXIMUM_E164_LENGTH = 16  # a plus sign and fifteen digits; some national plans have longer numbers

# What platforms put where a number should be when the caller withholds it.
_WITHHELD_WORDS = (
    "anonymous", "anonymous.invalid", "asserted", "blocked", "confidential", "hidden", "invalid", "n/a",
    "no caller", "no id", "no name", "no number", "none", "not available", "not provided", "null",
    "out of area", "private", "restricted", "suppressed", "unavailable", "undefined", "unknown", "withheld",
)  # fmt: skip

# Platforms write `No Caller ID`, `no-caller-id` and `NoCallerID`, and group digits as variously.
_SEPARATORS = re.compile(r"[\s,._()-]+")

# Nouns may stand on both sides, as in `private number` and `caller ID unavailable`, and a host after them.
_NOUNS = "(caller|call|id|name|number)*"
_WORDS = "|".join(re.escape(_SEPARATORS.sub("", word)) for word in _WITHHELD_WORDS)
_WITHHELD = re.compile(f"{_NOUNS}({_WORDS}){_NOUNS}(@.+)?")

# The same words typed on a telephone's keys: ANONYMOUS is 266696687, RESTRICTED 7378742833, and so on.
_KEYPAD = str.maketrans("abcdefghijklmnopqrstuvwxyz", "22233344455566677778889999")
_WITHHELD_DIGITS = frozenset(
    word.translate(_KEYPAD)
    for word in ("anonymous", "blocked", "private", "restricted", "unavailable", "unknown", "withheld")
)

# Marks of writing direction and the like, which cannot be seen and which copying brings along.
_INVISIBLE = re.compile(r"[\u200b-\u200f\u202a-\u202e\u2066-\u2069\ufeff]")

# phonenumbers looks for a number anywhere in a text; what IVRs send is one, so it begins like one.
_BEGINS_LIKE_A_NUMBER = re.compile(r"\s*[+\uff0b(\uff08\[]*\s*\d")

# Shorter SIP users are a switchboard's extensions: 498930 is hardly a number in Germany.
_E164_WITHOUT_PLUS = re.compile(r"[1-9]\d{7,14}")

# Mexico did away with the 1 before the ten digits of a mobile in 2019; carriers still send it.
_MEXICO = 52
_FORMER_MEXICAN_MOBILES = range(10_000_000_000, 20_000_000_000)


def to_e164(raw: str, default_region: str) -> str | None:
    """Turn a caller number into E.164, or None when the caller withholds it.

        to_e164("tel:+33612345678;ext=105", "FR")        # "+33612345678"
        to_e164("sip:+33612345678@carrier.example", "FR")  # "+33612345678"
        to_e164("06 12 34 56 78", "FR")                  # "+33612345678"
        to_e164("anonymous", "FR")                       # None
        to_e164("Caller ID unavailable", "FR")           # None
        to_e164("000-000-0000", "US")                    # None

    `default_region` is an ISO 3166 code such as `FR`, for numbers without a country code. Digits that are no
    number there are read as E.164 when they begin with 00, or when they are a SIP user of at least eight:
    trunks leave the plus sign out. A number counts when its length is possible in its country: which ranges
    are in use changes faster than any pinned list, and turning a real caller away costs more than three
    lookups for nobody.

    Raises InvalidRequest when the text is neither a number nor a way of withholding one.
    """
    if len(raw) > MAXIMUM_LENGTH:
        raise InvalidRequest(f"callerNumber must have at most {MAXIMUM_LENGTH} characters")
    uri = _without_display_name(_INVISIBLE.sub("", raw).strip())
    text = _without_uri(uri)
    word = text.partition(";")[0].strip()
    bare = _SEPARATORS.sub("", word).casefold()
    if not word or _WITHHELD.fullmatch(bare):
        return None
    digits = bare.removeprefix("+")
    if re.fullmatch("0+", digits) or (bare.startswith("+") and digits in _WITHHELD_DIGITS):
        return None
    number = _parse(text, default_region)
    if number is None and digits in _WITHHELD_DIGITS:
        return None
    if number is None and word.startswith("00"):
        number = _parse(f"+{word[2:]}", default_region)
    elif number is None and _is_sip(uri) and _E164_WITHOUT_PLUS.fullmatch(bare):
        number = _parse(f"+{bare}", default_region)
    if number is None:
        raise InvalidRequest(
            "callerNumber must be E.164, a tel: or sip: URI with a number, a national number of the "
            f"region {default_region}, or a word such as anonymous"
        )
    return _e164(number) if number.national_number else None


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


def _is_sip(uri: str) -> bool:
    return uri.casefold().startswith(("sip:", "sips:"))


def _parse(text: str, default_region: str) -> PhoneNumber | None:
    number = _possible(text, default_region)
    if number is None or not number.national_number:
        return number
    # A second look: of two trunk prefixes the first one only drops one, and leaves what is no number.
    again = _possible(_e164(number), default_region)
    return number if again is not None and _e164(again) == _e164(number) else None


def _possible(text: str, default_region: str) -> PhoneNumber | None:
    """Read a number whose length is possible, or one of zeros only."""
    if not _BEGINS_LIKE_A_NUMBER.match(text):
        return None
    try:
        number = phonenumbers.parse(text, default_region, keep_raw_input=True)
    except phonenumbers.NumberParseException:
        return None
    # Without a country code, 1 and ten digits may as well be a number of the United States: no guessing.
    says_country = number.country_code_source != CountryCodeSource.FROM_DEFAULT_COUNTRY
    national = number.national_number or 0
    if number.country_code == _MEXICO and says_country and national in _FORMER_MEXICAN_MOBILES:
        number.national_number = national - _FORMER_MEXICAN_MOBILES.start
    if not number.national_number:
        return number
    if phonenumbers.is_possible_number_with_reason(number) != ValidationResult.IS_POSSIBLE:
        return None
    return number if len(_e164(number)) <= _MAXIMUM_E164_LENGTH else None


def _e164(number: PhoneNumber) -> str:
    return phonenumbers.format_number(number, PhoneNumberFormat.E164)


def read_record_number(text: str, *, bare: bool = False) -> str | None:
    """Read a company's record of a number as E.164; None when it does not say of which country it is.

    read_record_number("0033 6 39 98 00 01")         # "+33639980001"
    read_record_number("33639980001", bare=True)     # "+33639980001"
    read_record_number("06 39 98 00 01")             # None
    """
    written = " ".join(_INVISIBLE.sub("", text).split())
    if written.startswith("00"):
        written = f"+{written[2:]}"
    elif bare and re.fullmatch(r"[1-9][\d\s./-]*", written):
        written = f"+{written}"
    if not re.match(r"[\s(\[]*[+\uff0b]", written):
        return None
    number = _parse(written, "ZZ")
    return _e164(number) if number is not None and number.national_number else None
