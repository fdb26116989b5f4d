"""Caller numbers as IVRs send them, and customers' as companies keep them, turned into E.164."""

from __future__ import annotations

import re
import unicodedata
from typing import TYPE_CHECKING, NamedTuple

import phonenumbers
from phonenumbers import CountryCodeSource, PhoneNumber, PhoneNumberFormat, PhoneNumberType, ValidationResult

from conversation.record import UNUSABLE_NUMBER, WITHHELD_NUMBER
from conversation.sip_addresses import Address, parse_addresses

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

MAX_LENGTH = 255
_MAX_E164_LENGTH = 16  # a plus sign and fifteen digits; some national plans have longer numbers

# What platforms put where a number should be when the caller withholds it.
_WITHHELD_WORDS = (
    "anonymous", "anonymous.invalid", "asserted", "blocked", "confidential", "hidden", "invalid", "n/a",
    "no caller", "no id", "no name", "no number", "none", "not available", "not provided", "null",
    "out of area", "private", "restricted", "suppressed", "unavailable", "undefined", "unknown", "withheld",
)  # fmt: skip

# Platforms write `No Caller ID`, `no-caller-id` and `NoCallerID`, and group digits as variously.
_SEPARATORS = re.compile(r"[\s,._()-]+")

# Nouns may stand on both sides, as in `private number` and `caller ID unavailable`; RFC 3323 lets a host or a
# token follow `anonymous`.
_NOUNS = "(?:caller|call|id|name|number)*"
_WORDS = "|".join(re.escape(_SEPARATORS.sub("", word)) for word in _WITHHELD_WORDS)
_WITHHELD = re.compile(f"{_NOUNS}(?:{_WORDS}){_NOUNS}(?:@.+)?")
_ANONYMOUS_USER = re.compile(r"anonymous[._-].*", re.IGNORECASE | re.DOTALL)
_ANONYMOUS_HOST = "anonymous.invalid"

# The same words typed on a telephone's keys: ANONYMOUS is 266696687, RESTRICTED 7378742833, and so on.
_KEYPAD = str.maketrans("abcdefghijklmnopqrstuvwxyz", "22233344455566677778889999")
_WITHHELD_DIGITS = frozenset(
    word.translate(_KEYPAD)
    for word in ("anonymous", "blocked", "private", "restricted", "unavailable", "unknown", "withheld")
)

# Marks of writing direction and the like, which cannot be seen and which copying brings along.
_INVISIBLE = re.compile(r"[\u00ad\u061c\u180e\u200b-\u200f\u202a-\u202e\u2060-\u2064\u2066-\u2069\ufeff]")
# What stands for ASCII's signs elsewhere, beside all spaces, dashes and digits.
_BY_CATEGORY = {"Pd": "-"}
_AS_ASCII = {
    **dict.fromkeys("\uff0b\ufe62\u207a", "+"),
    **dict.fromkeys("\uff0e", "."),
    **dict.fromkeys("\u2212\uff5e", "-"),
    "\uff08": "(",
    "\uff09": ")",
}

# A number, from its first character to its last: whatever else stands in a text makes it something else.
# Two signs in a row, or one at the end, stand for digits that somebody has hidden.
_NUMBER = re.compile(
    r"(?!.*[./~-]\s*[./~-])(?!.*[/~-]\s*$)[\s(\[]*(?P<plus>\+*)[\s(\[]*\d[\d\s()\[\]./~-]*", re.DOTALL
)
# A mere x or # between digits hides one; as an extension it stands apart.
_EXTENSION = re.compile(
    r"(?:[\s,.;]*(?:extension|extn|ext|xtn|int)[\s.:]*|[\s,.;]+[x#][\s.:]*|;\s*ext\s*=\s*|[,;]+\s*)\d{1,15}#?\s*",
    re.IGNORECASE,
)
# 1-800-FLOWERS: digits, then seven letters or more, with something between. One letter alone is a mask.
_VANITY = re.compile(r"\+?[\d\s().-]*\d[\s().-]+(?P<letters>[A-Za-z][A-Za-z\s.-]*)")
_VANITY_LETTERS = 7
_MASKS = frozenset("nxyz")  # as in 1-800-NXX-XXXX

# A host's address in digits, and what a spreadsheet makes of a number.
_IPV4 = re.compile(r"\d{1,3}(?:\.\d{1,3}){3}")
_DECIMAL = re.compile(r"(?<=\d{7})\.0$")

# What stands before a country code, in what a reader has made of it: +, 00, and sometimes both.
_INTERNATIONAL_PREFIX = re.compile(r"[\s(\[]*(?:\+[\s+(\[]*)?(?:0[\s)\]]*0[\s)\]]*)?")

# Shorter SIP users are a switchboard's extensions: 498930 is hardly a number in Germany.
_E164_WITHOUT_PLUS = re.compile(r"[1-9]\d{7,14}")

# What is shorter, and no valid number, is an extension, a service or a slip, wherever its length is possible.
_SHORTEST_GUESS = 7

# Mexico did away with the 1 before the ten digits of a mobile in 2019; carriers still send it.
_MEXICO = 52
_FORMER_MEXICAN_MOBILES = range(10_000_000_000, 20_000_000_000)


class Caller(NamedTuple):
    """Who calls, as far as the number says.

    number: E.164, or None and then `reason` is WITHHELD_NUMBER or UNUSABLE_NUMBER. verification: what the
    carrier says of the number (STIR/SHAKEN's verstat): "passed", "failed" or "none".
    """

    number: str | None
    reason: str | None
    verification: str


def read_caller(raw: str, default_region: str) -> Caller:
    """Read what an IVR sends as the caller's number; no string is an error.

        read_caller("tel:+33612345678;ext=105", "FR").number            # "+33612345678"
        read_caller('"Jean" <sip:+33612345678@carrier.example>', "FR").number   # "+33612345678"
        read_caller("06 12 34 56 78", "FR").number                      # "+33612345678"
        read_caller("Caller ID unavailable", "FR").reason               # "WITHHELD_NUMBER"
        read_caller("sip:jean.dupont@carrier.example", "FR").reason     # "UNUSABLE_NUMBER"

    `default_region` is an ISO 3166 code such as `FR`, for numbers without a country code. Of several readings
    the one that is valid there wins. Digits without a plus sign are E.164 when they begin with 00 or with the
    region's own country code, and a SIP user of eight or more also with another country's, if they are no
    national number: trunks leave the plus sign out. Where nothing is valid, a number counts when its length
    is possible in its country: which ranges are in use changes faster than any pinned list, and turning a
    real caller away costs more than three lookups for nobody.

    A display name is never read: the caller writes it.
    """
    text = _INVISIBLE.sub("", raw).strip()
    if not text or _is_withheld_word(text):
        return Caller(None, WITHHELD_NUMBER, "none")
    verification = "none"
    # The first value says who calls; beside an account a network may assert its number as a tel: URI.
    for place, address in enumerate(parse_addresses(text)):
        if place and address.is_sip:
            break
        verification = _verification(address)
        number = "" if _is_withheld(address) else _number_of(address, default_region)
        if number is not None:
            return Caller(number or None, None if number else WITHHELD_NUMBER, verification)
    return Caller(None, UNUSABLE_NUMBER, verification)


def read_record_number(text: str, *, bare: bool = False) -> str | None:
    """Read a customer's number as a company keeps it: E.164, or None when it does not say its country.

        read_record_number("+33 (0)6 39 98 00 01")          # "+33639980001"
        read_record_number("0033639980001")                 # "+33639980001"
        read_record_number("0639980001")                    # None: it may be of any country
        read_record_number("33639980001", bare=True)        # "+33639980001"

    bare: the company's documented format is digits that begin with the country code, without a plus sign.
    """
    address = next(parse_addresses(_INVISIBLE.sub("", text)), None)
    if address is None or not address.user:
        return None
    number = _without_extension(_plain(address.user))
    found = _NUMBER.fullmatch(number)
    if found is None:
        return None
    digits = _digits(number)
    says_country = bool(found["plus"]) or digits.startswith("00")
    if not says_country and (not bare or digits.startswith("0")):
        return None
    e164 = _best([_international(number)]) or None
    group = re.split(r"\D", number, maxsplit=1)[0]
    if e164 is None or says_country or group == digits:
        return e164
    # Grouped, they may be a national number, such as 479-234-5678: then the country code is no group.
    return e164 if group == str(phonenumbers.parse(e164).country_code) else None


def _is_withheld(address: Address) -> bool:
    if address.host == _ANONYMOUS_HOST or address.host.endswith(f".{_ANONYMOUS_HOST}"):
        return True
    if address.user is None:
        return _is_withheld_word(address.host)
    if not address.user or _is_withheld_word(address.user) or _ANONYMOUS_USER.fullmatch(address.user):
        return True
    bare = _SEPARATORS.sub("", _plain(address.user))
    digits = bare.removeprefix("+")
    return re.fullmatch("0+", digits) is not None or (bare != digits and digits in _WITHHELD_DIGITS)


def _number_of(address: Address, region: str) -> str | None:
    """E.164, "" for zeros or a withheld word as digits, None when there is no number."""
    text = _without_extension(_plain(address.user or ""))
    if address.context and not text.startswith("+"):
        return _of_context(text, address.context)
    vanity = None if address.is_sip else _VANITY.fullmatch(text)
    if vanity is not None:
        return _of_letters(text, vanity["letters"], region)
    found = _NUMBER.fullmatch(text)
    if found is None or _IPV4.fullmatch(text):
        return None
    digits = _digits(text)
    if not found["plus"]:
        readings = list(_without_plus(text, region, is_sip=address.is_sip))
    elif digits.startswith("0") and not digits.startswith("00"):
        # No country code begins so: a plus sign was put before a national number.
        readings = [number for number in [_possible(text.lstrip("+ "), region)] if _is_valid(number)]
    else:
        readings = [_international(text)]
    spells_a_word = digits in _WITHHELD_DIGITS
    best = _best(readings, valid_only=spells_a_word)
    return "" if best is None and spells_a_word else best


def _of_context(text: str, context: str) -> str | None:
    """A local number of the country, or area, that its phone-context names (RFC 3966)."""
    if not _NUMBER.fullmatch(text):
        return None
    digits = _digits(text)
    # Some write the context's own code before the number too.
    whole = _possible(f"+{digits}", None) if f"+{digits}".startswith(context) else None
    return _best([whole if _is_valid(whole) else None, _possible(f"{text};phone-context={context}", None)])


def _of_letters(text: str, letters: str, region: str) -> str | None:
    letters = re.sub(r"[^A-Za-z]", "", letters).casefold()
    if len(letters) < _VANITY_LETTERS or len(set(letters)) == 1 or set(letters) <= _MASKS:
        return None
    number = _possible(text, region)
    is_free = number is not None and phonenumbers.number_type(number) == PhoneNumberType.TOLL_FREE
    return _best([number]) if is_free else None


def _international(text: str) -> PhoneNumber | None:
    """Read a number that says its country: with a plus sign, or with 00."""
    return _possible(f"+{_INTERNATIONAL_PREFIX.sub('', text, count=1)}", None)


def _without_plus(text: str, region: str, *, is_sip: bool) -> Iterator[PhoneNumber | None]:
    """The readings of digits without a plus sign, the likeliest first."""
    digits = _digits(text)
    national = _possible(text, region)
    if digits.startswith("00"):
        # Where 00 is no prefix for calls abroad, it may begin one that is: 001 in Korea, 0011 in Australia.
        source = None if national is None else national.country_code_source
        if source == CountryCodeSource.FROM_NUMBER_WITH_IDD:
            yield national
        yield _international(text)
        yield national
        return
    if len(digits) < _SHORTEST_GUESS and not _is_valid(national):
        return
    is_of_region = digits.startswith(str(phonenumbers.country_code_for_region(region)))
    readings = [national]
    if (is_of_region or is_sip) and _E164_WITHOUT_PLUS.fullmatch(digits):
        readings.insert(0 if is_of_region else 1, _possible(f"+{digits}", None))
    yield from readings


def _best(numbers: Iterable[PhoneNumber | None], *, valid_only: bool = False) -> str | None:
    """E.164 of the first valid number, or else of the first possible one; "" when it is of zeros."""
    read = [number for number in numbers if number is not None]
    sure = [number for number in read if not number.national_number or phonenumbers.is_valid_number(number)]
    best = next(iter(sure if valid_only else sure or read), None)
    if best is None:
        return None
    return _e164(best) if best.national_number else ""


def _is_valid(number: PhoneNumber | None) -> bool:
    return number is not None and phonenumbers.is_valid_number(number)


def _possible(text: str, region: str | None) -> PhoneNumber | None:
    """Read a number whose length is possible, or one of zeros only."""
    number = _parse(text, region)
    if number is None or not number.national_number:
        return number
    # A second look: of two trunk prefixes the first one only drops one, and leaves what is no number.
    again = _parse(_e164(number), region)
    return number if again is not None and _e164(again) == _e164(number) else None


def _parse(text: str, region: str | None) -> PhoneNumber | None:
    try:
        number = phonenumbers.parse(text, region, keep_raw_input=True)
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
    return number if len(_e164(number)) <= _MAX_E164_LENGTH else None


def _e164(number: PhoneNumber) -> str:
    return phonenumbers.format_number(number, PhoneNumberFormat.E164)


def _plain(text: str) -> str:
    """Write digits, spaces, dashes, dots and plus signs of any script as ASCII has them."""
    plain = "".join(map(_plain_character, text)).strip()
    # Before the plus sign, a switchboard's prefix for an outside line.
    return _DECIMAL.sub("", re.sub(r"^0+\s*\+", "+", plain))


def _plain_character(character: str) -> str:
    if character.isspace():
        return " "
    if character.isascii():
        return character
    if character in _AS_ASCII:
        return _AS_ASCII[character]
    if character.isdecimal():
        return str(unicodedata.decimal(character))
    return _BY_CATEGORY.get(unicodedata.category(character), character)


def _without_extension(text: str) -> str:
    ends = [found.start() for found in _EXTENSION.finditer(text) if found.end() == len(text)]
    return text[: ends[0]] if ends else text


def _digits(text: str) -> str:
    return "".join(character for character in text if character.isdecimal())


def _is_withheld_word(text: str) -> bool:
    plain = unicodedata.normalize("NFKC", text.partition(";")[0])
    word = _SEPARATORS.sub("", plain).casefold().removeprefix("+")
    return _WITHHELD.fullmatch(word) is not None


def _verification(address: Address) -> str:
    """What the carrier says of the number; the worst, where it says several things."""
    said = [verstat.casefold() for verstat in address.verstat]
    if any(one.startswith("tn-validation-failed") for one in said):
        return "failed"
    passed = [re.fullmatch("tn-validation-passed(-[abc])?", one) is not None for one in said]
    return "passed" if passed and all(passed) else "none"
