"""Whatever an IVR sends as the caller's number becomes E.164, withheld, or a refusal: nothing else."""

import re

import phonenumbers
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from conversation.errors import InvalidRequest
from conversation.phone_numbers import MAXIMUM_LENGTH, to_e164

E164 = re.compile(r"\+[1-9]\d{1,14}")
REGIONS = sorted(phonenumbers.SUPPORTED_REGIONS)


def outcome(raw: str, region: str) -> str | None:
    """What becomes of the text: a number, None, or the word for a refusal. Other errors come through."""
    try:
        return to_e164(raw, region)
    except InvalidRequest:
        return "refused"


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


@pytest.mark.parametrize(
    "raw",
    ["Private Number", "unknown caller", "Anonymous Call", '"Anonymous" <sip:anonymous@anonymous.invalid>'],
)
def test_withheld_in_words_of_their_own(raw: str) -> None:
    assert to_e164(raw, "US") is None


@pytest.mark.parametrize("raw", ["0", "+0", "000", "266696687", "8656696"])
def test_withheld_as_digits_that_are_no_number(raw: str) -> None:
    assert to_e164(raw, "US") is None


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
        "whatsapp:+33612345678",
        "number 3175550100",
        "mailto:jean@example.com",
        "tel:7042;phone-context=example.com",
        "+33612345678/+33612345679",
        "\ud800",
        "\x00",
        "☎",
        "1" * MAXIMUM_LENGTH,
        "+33612345678" + " " * MAXIMUM_LENGTH,
    ],
)
def test_what_is_neither_a_number_nor_withheld_is_refused(raw: str) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        to_e164(raw, "US")
    assert raw.strip() not in str(refusal.value)


def test_the_refusal_says_what_to_send() -> None:
    with pytest.raises(InvalidRequest, match=r"callerNumber must be E\.164, a tel: or sip: URI .* region FR"):
        to_e164("hello", "FR")


ANYTHING = st.one_of(
    st.text(max_size=MAXIMUM_LENGTH + 5),
    st.from_regex(
        r"(tel|sip|sips|TEL):[+]?[0-9().-]{0,20}(;[a-z=+0-9-]{0,20}){0,2}(@[a-z.:;]{0,12})?", fullmatch=True
    ),
    st.from_regex(r"[+]?[0-9 ()./;x#*-]{0,30}", fullmatch=True),
    st.text("+0123456789;:@=ext phone-context sip tel,.", max_size=60),
)


@given(raw=ANYTHING, region=st.sampled_from(REGIONS))
@example(raw="+49" + "1" * 15, region="DE")
def test_any_text_is_e164_or_withheld_or_refused(raw: str, region: str) -> None:
    result = outcome(raw, region)
    assert result is None or result == "refused" or E164.fullmatch(result)


@given(raw=ANYTHING, region=st.sampled_from(REGIONS), other=st.sampled_from(REGIONS))
@example(raw="000000000000", region="AR", other="US")
@example(raw="+540000000000000", region="AR", other="US")
def test_what_is_e164_stays_as_it_is_in_every_region(raw: str, region: str, other: str) -> None:
    once = outcome(raw, region)
    if once not in {None, "refused"}:
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
