"""Whatever an IVR sends as the caller's number becomes E.164, withheld, or a refusal: nothing else."""

import re

import phonenumbers
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from conversation.phone_numbers import MAX_LENGTH, read_caller
from conversation.record import UNUSABLE_NUMBER, WITHHELD_NUMBER

E164 = re.compile(r"\+[1-9]\d{1,14}")
REGIONS = sorted(phonenumbers.SUPPORTED_REGIONS)


def to_e164(raw: str, region: str) -> str | None:
    """What becomes of a string: a number, None when it is withheld, or `unusable`."""
    caller = read_caller(raw, region)
    assert (caller.number is None) == (caller.reason in {WITHHELD_NUMBER, UNUSABLE_NUMBER})
    return "unusable" if caller.reason == UNUSABLE_NUMBER else caller.number


@pytest.mark.parametrize(
    "raw",
    [
        "+33612345678",
        "  +33612345678 ",
        "+33 6 12 34 56 78",
        "+33 (0)6 12 34 56 78",
        "+33-6-12-34-56-78",
        "+33.6.12.34.56.78",
        "06 12 34 56 78",
        "0612345678",
        "0033612345678",
        "+33612345678 ext 105",
        "tel:+33612345678",
        "TEL:+33612345678",
        "tel:+33-6-12-34-56-78",
        "tel:+33612345678;ext=105",
        "tel:+33612345678;npdi;rn=+331",
        "tel:0612345678",
        "sip:+33612345678@carrier.example",
        "SIP:+33612345678@carrier.example",
        "sips:+33612345678@carrier.example:5061;transport=tls",
        "sip:+33612345678;npdi@carrier.example",
        "sip:0612345678@carrier.example;user=phone",
        "sip:+33612345678@[2001:db8::1]:5060",
        "sip:%2B33612345678@carrier.example",
        "sip:+33612345678:secret@carrier.example",
        '"Jean Dupont" <sip:+33612345678@carrier.example>',
        "<tel:+33612345678>",
        "\u202a+33612345678\u202c",
        "＋３３６１２３４５６７８",  # noqa: RUF001 - full-width digits, as some handsets in Japan send
    ],
)
def test_one_french_number_in_every_form(raw: str) -> None:
    assert to_e164(raw, "FR") == "+33612345678"


@pytest.mark.parametrize(
    ("raw", "region", "expected"),
    [
        ("(317) 555-0100", "US", "+13175550100"),
        ("1 317 555 0100", "US", "+13175550100"),
        ("011 33 6 12 34 56 78", "US", "+33612345678"),
        ("1-800-FLOWERS", "US", "+18003569377"),
        ("020 7946 0018", "GB", "+442079460018"),
        ("06 1234 5678", "IT", "+390612345678"),  # Italy keeps its leading zero
        ("+800 1234 5678", "US", "+80012345678"),  # freephone of no country
    ],
)
def test_a_national_number_belongs_to_the_default_region(raw: str, region: str, expected: str) -> None:
    assert to_e164(raw, region) == expected


@pytest.mark.parametrize(
    "raw",
    [
        "tel:0612345678;phone-context=+33",
        "tel:612345678;Phone-Context=+33",
        "tel:0612345678;ext=105;phone-context=+33",
        "sip:0612345678;phone-context=+33@carrier.example;user=phone",
        "tel:+33612345678;phone-context=+1",  # a global number needs none (RFC 3966)
    ],
)
def test_the_uri_says_which_country_a_local_number_is_of(raw: str) -> None:
    """Read without its phone-context, the number would be somebody else's in the default region."""
    assert to_e164(raw, "US") == "+33612345678"


@pytest.mark.parametrize(
    "word",
    [
        "anonymous", "restricted", "unknown", "private", "unavailable", "blocked", "withheld", "",
        "+266696687", "+7378742833", "+2562533", "+86282452253", "+8656696",
    ],
)  # fmt: skip
@pytest.mark.parametrize(
    "form", ["{}", " {} ", "tel:{}", "sip:{}@anonymous.invalid", "SIP:{};user=phone@host"]
)
@pytest.mark.parametrize("region", ["US", "FR", "DE"])
def test_withheld_in_every_form(word: str, form: str, region: str) -> None:
    assert to_e164(form.format(word), region) is None
    assert to_e164(form.format(word).upper(), region) is None


WITHHELD_PHRASES = [
    "Private Number", "private_number", "PRIVATE NAME", "unknown caller", "unknown-caller", "caller unknown",
    "Unknown, caller", "Anonymous Call", "No Caller ID", "no-caller-id", "no_caller_id", "NoCallerID",
    "No number", "not-available", "not_available", "NotAvailable", "Number not available", "id unavailable",
    "Caller ID unavailable", "caller id blocked", "number withheld", "withheld number", "out of area",
    "Out-Of-Area", "confidential", "not provided", "N/A", "\u202aanonymous\u202c",
    "anonymous@anonymous.invalid", "anonymous.invalid", "@anonymous.invalid",
    "sip:anonymous.invalid", "sips:anonymous.invalid:5061",
    '"Anonymous" <sip:anonymous@anonymous.invalid>', "<sip:anonymous.invalid>",
    "sip:anonymous%40anonymous.invalid@carrier.example",
]  # fmt: skip


@pytest.mark.parametrize("raw", WITHHELD_PHRASES)
@pytest.mark.parametrize("region", ["US", "FR"])
def test_withheld_in_words_of_their_own(raw: str, region: str) -> None:
    assert to_e164(raw, region) is None
    assert to_e164(f" {raw.upper()} ", region) is None


@pytest.mark.parametrize("raw", ["0", "+0", "000", "266696687", "8656696", "sip:86282452253@carrier.example"])
def test_withheld_as_digits_that_are_no_number(raw: str) -> None:
    assert to_e164(raw, "US") is None


@pytest.mark.parametrize(
    "raw",
    [
        "0000000000",
        "000-000-0000",
        "(000) 000-0000",
        "000.000.0000",
        "+0000000000",
        "+1 000 000 0000",
        "+10000000000",
        "+33 000000000",
        "+52 1 000 000 0000",
        "tel:0000000000",
        "tel:+1-000-000-0000;ext=5",
        "tel:0000000000;phone-context=+1",
        "sip:0000000000@carrier.example",
        "sip:+10000000000@carrier.example;user=phone",
    ],
)
def test_zeros_are_a_withheld_number_everywhere(raw: str) -> None:
    assert {to_e164(raw, region) for region in REGIONS} == {None}


@pytest.mark.parametrize("raw", ["10000000000", "sip:33000000000@carrier.example", "0033000000000"])
def test_zeros_after_a_country_code_without_its_plus_are_withheld(raw: str) -> None:
    assert to_e164(raw, "US") is None


def test_a_number_that_ends_in_zeros_is_a_number() -> None:
    assert {to_e164("+33100000000", region) for region in REGIONS} == {"+33100000000"}


@pytest.mark.parametrize(
    "raw",
    [
        "+5215512345678",
        "+52 1 55 1234 5678",
        "+52 55 1234 5678",
        "tel:+52-1-55-1234-5678",
        "tel:15512345678;phone-context=+52",
        "sip:+5215512345678@carrier.example",
        "sip:5215512345678@carrier.example",
        "005215512345678",
    ],
)
@pytest.mark.parametrize("region", ["US", "FR", "MX"])
def test_a_mexican_mobile_with_the_former_1(raw: str, region: str) -> None:
    assert to_e164(raw, region) == "+525512345678"


def test_a_1_without_the_country_code_is_not_taken_for_the_mexican_one() -> None:
    """It may as well be +1 551 234 5678, in New Jersey."""
    assert to_e164("15512345678", "MX") == "unusable"


@pytest.mark.parametrize(
    "raw",
    [
        "sip:33612345678@carrier.example;user=phone",
        "SIPS:33612345678@carrier.example",
        "sip:33-6-12-34-56-78@carrier.example",
        '"Jean Dupont" <sip:33612345678@carrier.example>',
        "sip:0033612345678@carrier.example",
        "tel:0033612345678",
        "tel:0033-6-12-34-56-78;ext=105",
        "0033612345678",
        "00 33 6 12 34 56 78",
        "0033 (0)6 12 34 56 78",
    ],
)
def test_e164_without_its_plus(raw: str) -> None:
    assert to_e164(raw, "US") == "+33612345678"


@pytest.mark.parametrize(
    ("raw", "region", "expected"),
    [
        ("sip:3175550100@carrier.example", "US", "+13175550100"),  # not +31 75550100, in the Netherlands
        ("sip:13175550100@carrier.example", "US", "+13175550100"),
        ("sip:0612345678@carrier.example", "FR", "+33612345678"),
        ("sip:33612345678@carrier.example", "DE", "+4933612345678"),
    ],
)
def test_a_national_number_wins_over_e164_without_its_plus(raw: str, region: str, expected: str) -> None:
    assert to_e164(raw, region) == expected


@pytest.mark.parametrize(
    "raw",
    [
        "33612345678",  # may be a mistyped national number
        "tel:33612345678",
        "sip:498930@carrier.example",  # an extension, not +49 8930
        "sip:99912345678@carrier.example",  # no such country
    ],
)
def test_other_digits_do_not_get_a_plus(raw: str) -> None:
    assert to_e164(raw, "US") == "unusable"


def test_a_real_number_that_spells_a_word_is_a_number() -> None:
    """(737) 874-2833 is in Austin; only with a plus sign are these digits RESTRICTED."""
    assert to_e164("7378742833", "US") == "+17378742833"


@pytest.mark.parametrize(
    "raw",
    [
        "hello",
        "not a number",
        "+",
        "+1",
        "911",
        "12",
        "+49" + "1" * 15,  # possible in Germany, but E.164 ends at fifteen digits
        "+999123456789",
        "sip:carrier.example",
        "sip:jean.dupont@carrier.example",
        "sip:jean.dupont.33612345678@carrier.example",
        "hello +33612345678",
        "abc+33612345678",
        "Jean Dupont 317 555 0100",
        "client:+33612345678",
        "number 3175550100",
        "unknown 3175550100",
        "anonymous 266696687",
        "hello 0",
        "Jean Dupont",
        "Jean +33612345678",
        "No",
        "Caller",
        "caller id",
        "Caller ID: number",
        "private eye",
        "-",
        "mailto:jean@example.com",
        "tel:7042;phone-context=example.com",
        "+33612345678/+33612345679",
        "\ud800",
        "\x00",
        "☎",
        "1" * MAX_LENGTH,
    ],
)
def test_what_is_neither_a_number_nor_withheld_is_unusable(raw: str) -> None:
    assert to_e164(raw, "US") == "unusable"


ANYTHING = st.one_of(
    st.text(max_size=MAX_LENGTH + 5),
    st.from_regex(
        r"(tel|sip|sips|TEL):[+]?[0-9().-]{0,20}(;[a-z=+0-9-]{0,20}){0,2}(@[a-z.:;]{0,12})?", fullmatch=True
    ),
    st.from_regex(r"[+]?[0-9 ()./;x#*-]{0,30}", fullmatch=True),
    st.text("+0123456789;:@=ext phone-context sip tel,.", max_size=60),
    st.from_regex(r"(\+|00|sips?:|tel:)(521)?[0-9 -]{6,14}(@host)?", fullmatch=True),
    st.lists(st.sampled_from([*WITHHELD_PHRASES, "caller", "id", "_", "-", "0", "+33612345678"])).map(
        "".join
    ),
)


@given(raw=ANYTHING, region=st.sampled_from(REGIONS))
@example(raw="+49" + "1" * 15, region="DE")
def test_any_text_is_e164_or_withheld_or_refused(raw: str, region: str) -> None:
    result = to_e164(raw, region)
    assert result is None or result == "unusable" or E164.fullmatch(result)


@given(
    zeros=st.from_regex(r"[0 .()-]*0[0 .-]*", fullmatch=True),
    form=st.sampled_from(["{}", "tel:{}", "sip:{}@host"]),
    region=st.sampled_from(REGIONS),
)
def test_zeros_in_any_grouping_are_withheld(zeros: str, form: str, region: str) -> None:
    assert to_e164(form.format(zeros)[:MAX_LENGTH], region) is None


@given(
    words=st.lists(st.sampled_from(["caller", "ID", "number", "name", "Call"]), max_size=4),
    word=st.sampled_from(["unknown", "Private", "withheld", "blocked", "not available"]),
    place=st.integers(0, 4),
    separator=st.sampled_from([" ", "-", "_", ", ", ""]),
    region=st.sampled_from(REGIONS),
)
def test_nouns_and_separators_do_not_change_a_withheld_word(
    words: list[str], word: str, place: int, separator: str, region: str
) -> None:
    assert to_e164(separator.join([*words[:place], word, *words[place:]]), region) is None


@given(raw=ANYTHING, region=st.sampled_from(REGIONS), other=st.sampled_from(REGIONS))
@example(raw="000000000000", region="AR", other="US")
@example(raw="+540000000000000", region="AR", other="US")
def test_what_is_e164_stays_as_it_is_in_every_region(raw: str, region: str, other: str) -> None:
    once = to_e164(raw, region)
    if once not in {None, "unusable"}:
        assert once is not None
        assert to_e164(once, other) == once
        assert to_e164(f"tel:{once};ext=7", other) == once
        assert to_e164(f"sip:{once}@carrier.example", other) == once


@pytest.mark.parametrize("region", REGIONS)
def test_the_example_number_of_every_country(region: str) -> None:
    number = phonenumbers.example_number(region)
    assert number is not None
    expected = phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)
    national = phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.NATIONAL)
    assert to_e164(expected, "US") == expected
    assert to_e164(national, region) == expected
