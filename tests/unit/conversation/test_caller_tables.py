"""What a hundred strings mean in ten regions, and every country's numbers in every form.

The values of NATIONAL follow from the numbering plans by these rules: the reading that is valid wins; the
region's own country code is tried before the national reading, another's only for SIP users or after 00;
where nothing is valid, a length that is possible in the region counts, nationally first.
"""

import random
from collections.abc import Iterator

import phonenumbers
import pytest
from hypothesis import given
from hypothesis import strategies as st
from phonenumbers import PhoneNumberFormat, PhoneNumberType

from conversation.phone_numbers import MAX_LENGTH, read_caller, read_record_number
from conversation.record import UNUSABLE_NUMBER

TEN_REGIONS = ("US", "GB", "DE", "FR", "IT", "MX", "BR", "AU", "IN", "CN")

EVERYWHERE: dict[str, list[str]] = {
    "+12025550143": [
        "sip:+12025550143",
        "<sip:+12025550143@x",
        "<sip:+12025550143@carrier.example?From=sip:+12025550199@x>",
        "<sip:+12025550143%3Bnpdi@carrier.example>",
        "+12025550143.0",
        "+12025550143",
        "+1 202 555 0143",
        "+1 (202) 555-0143",
        "+1.202.555.0143",
        "tel:+1-202-555-0143",
        "tel:+12025550143;ext=5",
        "tel:%2B12025550143",
        "sip:+12025550143@carrier.example",
        "sips:+12025550143:secret@10.0.0.1:5061",
        "sip:%2B12025550143;user=phone@x",
        "+12025550143@192.0.2.10",
        "+12025550143;verstat=TN-Validation-Passed-A",
        "whatsapp:+12025550143",
        '"Jean <+12025550199>" <sip:+12025550143@carrier.example>',
        '"a \\" <sip:+12025550199@x>" <sip:+12025550143@x>',
        "+12025550199 <sip:+12025550143@x>",
        '"A" <sip:+12025550143@x>, "B" <sip:+12025550199@x>',
        "sip:+12025550143@x, <tel:+12025550199>",
        "<tel:+12025550143>;tag=1",
        "+1\u202f202\u202f555\u202f0143",
        "+1\u2011202\u2011555\u20110143",
        "\u202a+12025550143\u202c",
        "\uff0b\uff11\uff12\uff10\uff12\uff15\uff15\uff15\uff10\uff11\uff14\uff13",
        "++12025550143",
        "+0012025550143",
    ],
    "withheld": [
        "",
        "anonymous",
        "Anonymous",
        "Private Number",
        "Caller ID unavailable",
        "+266696687",
        "sip:anonymous@anonymous.invalid",
        "anonymous.1a2b@anonymous.invalid",
        "sip:c8oqz84zk7z@anonymous.invalid",
        "<sip:anonymous@anonymous.invalid>;tag=1",
        '"Anonymous" <sip:anonymous@anonymous.invalid>',
        "0000000000",
        "+10000000000",
        "tel:anonymous",
        "sip:anonymous.7@carrier.example",
    ],
    "unusable": [
        "192.168.178.20",
        "tel:192.168.178.20",
        "sip:192.168.178.20@carrier.example",
        "sip:192.168.178.20;x=+12025550199@carrier.example",
        "1-800-NXX-XXXX",
        "201 Hampton",
        "317-JEAN-DUP",
        "<tel:+12025550199> <sip:+12025550143@carrier.example>",
        "<mailto:jean@corp.example>, <tel:+12025550199>",
        "<sip:+120255501",
        "sip:192.168.178.20",
        "sip:10.0.0.1:5060",
        "sip:carrier.example",
        "+1202555XXXX",
        "+1-202-XXX-XXXX",
        "+120255501**",
        "+1202555####",
        "sip:user1001@x",
        "sip:jean.dupont@carrier.example",
        "client:alice",
        "1000a",
        "hello",
        "messenger:12025550143",
        '"Jean <sip:+12025550199@x>',
        "Evil <sip:+12025550199@x <sip:+12025550143@x>",
        "+12025550143/+12025550199",
        "2025550143 or 2025550199",
        "sip:+12025550199@evil@carrier.example",
        "+",
    ],
}
# In the order of TEN_REGIONS.
NATIONAL = {
    "2025550143": """
        +12025550143 +442025550143 +492025550143 unusable +392025550143
        +522025550143 +552025550143 +612025550143 +912025550143 +862025550143
    """,
    "(202) 555-0143": """
        +12025550143 +442025550143 +492025550143 unusable +392025550143
        +522025550143 +552025550143 +612025550143 +912025550143 +862025550143
    """,
    "1 202 555 0143": """
        +12025550143 unusable +4912025550143 unusable +3912025550143
        unusable +5512025550143 unusable +9112025550143 +8612025550143
    """,
    "sip:2025550143@carrier.example": """
        +12025550143 +442025550143 +492025550143 +2025550143 +392025550143
        +522025550143 +552025550143 +612025550143 +912025550143 +862025550143
    """,
    "sip:12025550143@carrier.example": """
        +12025550143 +12025550143 +12025550143 +12025550143 +12025550143
        +12025550143 +12025550143 +12025550143 +12025550143 +12025550143
    """,
    "0612345678": """
        +10612345678 +44612345678 +49612345678 +33612345678 +390612345678
        +520612345678 +55612345678 +61612345678 +91612345678 +86612345678
    """,
    "06 12 34 56 78": """
        +10612345678 +44612345678 +49612345678 +33612345678 +390612345678
        +520612345678 +55612345678 +61612345678 +91612345678 +86612345678
    """,
    "(06) 12345678": """
        +10612345678 +44612345678 +49612345678 +33612345678 +390612345678
        +520612345678 +55612345678 +61612345678 +91612345678 +86612345678
    """,
    "06.12.34.56.78": """
        +10612345678 +44612345678 +49612345678 +33612345678 +390612345678
        +520612345678 +55612345678 +61612345678 +91612345678 +86612345678
    """,
    "tel:0612345678": """
        +10612345678 +44612345678 +49612345678 +33612345678 +390612345678
        +520612345678 +55612345678 +61612345678 +91612345678 +86612345678
    """,
    "02079460018": """
        unusable +442079460018 +492079460018 unusable +3902079460018
        unusable +552079460018 +612079460018 +912079460018 +862079460018
    """,
    "020 7946 0018": """
        unusable +442079460018 +492079460018 unusable +3902079460018
        unusable +552079460018 +612079460018 +912079460018 +862079460018
    """,
    "07400123456": """
        unusable +447400123456 +497400123456 unusable +3907400123456
        unusable +557400123456 +617400123456 +917400123456 +867400123456
    """,
    "447400123456": """
        unusable +447400123456 +49447400123456 unusable +39447400123456
        unusable unusable +61447400123456 +91447400123456 +86447400123456
    """,
    "sip:447400123456@carrier.example": """
        +447400123456 +447400123456 +49447400123456 +447400123456 +447400123456
        +447400123456 +447400123456 +447400123456 +447400123456 +447400123456
    """,
    "491713920012": """
        unusable unusable +491713920012 unusable +39491713920012
        unusable unusable +61491713920012 +91491713920012 +86491713920012
    """,
    "49 171 3920012": """
        unusable unusable +491713920012 unusable +39491713920012
        unusable unusable +61491713920012 +91491713920012 +86491713920012
    """,
    "sip:491713920012@carrier.example": """
        +491713920012 +491713920012 +491713920012 +491713920012 +491713920012
        +491713920012 +491713920012 +491713920012 +491713920012 +491713920012
    """,
    "01713920012": """
        unusable +441713920012 +491713920012 unusable +3901713920012
        unusable +551713920012 +611713920012 +911713920012 +861713920012
    """,
    "0171/3920012": """
        unusable +441713920012 +491713920012 unusable +3901713920012
        unusable +551713920012 +611713920012 +911713920012 +861713920012
    """,
    "33612345678": """
        unusable unusable +4933612345678 +33612345678 +3933612345678
        unusable +5533612345678 unusable +9133612345678 +8633612345678
    """,
    "sip:33612345678@carrier.example": """
        +33612345678 +33612345678 +4933612345678 +33612345678 +3933612345678
        +33612345678 +33612345678 +33612345678 +33612345678 +33612345678
    """,
    "0033612345678": """
        +33612345678 +33612345678 +33612345678 +33612345678 +33612345678
        +33612345678 +33612345678 +33612345678 +33612345678 +33612345678
    """,
    "00 33 6 12 34 56 78": """
        +33612345678 +33612345678 +33612345678 +33612345678 +33612345678
        +33612345678 +33612345678 +33612345678 +33612345678 +33612345678
    """,
    "01133612345678": """
        +33612345678 unusable +491133612345678 unusable unusable
        unusable unusable unusable +911133612345678 unusable
    """,
    "525512345678": """
        unusable unusable +49525512345678 unusable +39525512345678
        +525512345678 unusable +61525512345678 +91525512345678 +86525512345678
    """,
    "5512345678": """
        +15512345678 +445512345678 +495512345678 unusable +395512345678
        +525512345678 +5512345678 +615512345678 +915512345678 +865512345678
    """,
    "sip:5215512345678@carrier.example": """
        +525512345678 +525512345678 +495215512345678 +525512345678 +525512345678
        +525512345678 +525512345678 +525512345678 +525512345678 +525512345678
    """,
    "5511961234567": """
        unusable unusable +495511961234567 unusable unusable
        unusable +5511961234567 unusable +915511961234567 unusable
    """,
    "11961234567": """
        +11961234567 unusable +4911961234567 unusable +3911961234567
        unusable +5511961234567 unusable +9111961234567 +8611961234567
    """,
    "61412345678": """
        unusable unusable +4961412345678 unusable +3961412345678
        unusable +5561412345678 +61412345678 +9161412345678 +8661412345678
    """,
    "0412345678": """
        +10412345678 +44412345678 +49412345678 +33412345678 +390412345678
        +520412345678 +55412345678 +61412345678 +91412345678 +86412345678
    """,
    "919123456789": """
        unusable unusable +49919123456789 unusable +39919123456789
        unusable unusable +61919123456789 +919123456789 +86919123456789
    """,
    "9123456789": """
        +19123456789 +449123456789 +499123456789 unusable +399123456789
        +529123456789 +559123456789 +619123456789 +919123456789 +869123456789
    """,
    "8613800138000": """
        unusable unusable +498613800138000 unusable unusable
        unusable unusable unusable +918613800138000 +8613800138000
    """,
    "13800138000": """
        +13800138000 unusable +4913800138000 unusable +3913800138000
        unusable +5513800138000 unusable +9113800138000 +8613800138000
    """,
    "393912345678": """
        unusable unusable +49393912345678 unusable +393912345678
        unusable unusable +61393912345678 +91393912345678 +86393912345678
    """,
    "3912345678": """
        +13912345678 +443912345678 +493912345678 unusable +393912345678
        +523912345678 +553912345678 +613912345678 +913912345678 +863912345678
    """,
    "0612345678 x5": """
        +10612345678 +44612345678 +49612345678 +33612345678 +390612345678
        +520612345678 +55612345678 +61612345678 +91612345678 +86612345678
    """,
    "sip:07400123456@carrier.example": """
        unusable +447400123456 +497400123456 unusable +3907400123456
        unusable +557400123456 +617400123456 +917400123456 +867400123456
    """,
}


def meaning(text: str, region: str) -> str:
    caller = read_caller(text, region)
    return caller.number or ("unusable" if caller.reason == UNUSABLE_NUMBER else "withheld")


def test_the_table_is_as_large_as_it_says() -> None:
    assert sum(map(len, EVERYWHERE.values())) + len(NATIONAL) >= 100


@pytest.mark.parametrize(
    ("text", "expected"), [(text, meant) for meant, texts in EVERYWHERE.items() for text in texts]
)
def test_what_means_the_same_everywhere(text: str, expected: str) -> None:
    assert {region: meaning(text, region) for region in TEN_REGIONS} == dict.fromkeys(TEN_REGIONS, expected)


@pytest.mark.parametrize("text", NATIONAL)
def test_what_the_region_decides(text: str) -> None:
    assert [meaning(text, region) for region in TEN_REGIONS] == NATIONAL[text].split()


# --- every country's own numbers ----------------------------------------------------------------------------


def _examples() -> Iterator[tuple[str, phonenumbers.PhoneNumber]]:
    for region in sorted(phonenumbers.SUPPORTED_REGIONS):
        seen = set()
        for kind in (PhoneNumberType.FIXED_LINE, PhoneNumberType.MOBILE):
            number = phonenumbers.example_number_for_type(region, kind)
            if number is not None and phonenumbers.is_valid_number(number) and str(number) not in seen:
                seen.add(str(number))
                yield region, number


EXAMPLES = list(_examples())
HOSTILE = '"Jean \\\\ \\" <sip:+12025550199@evil.example>, +12025550199"'


def _e164(number: phonenumbers.PhoneNumber) -> str:
    written = phonenumbers.format_number(number, PhoneNumberFormat.E164)
    # Mexico's 1 before a mobile is of the past: what the library may still show with it is the same number.
    return f"+52{written[4:]}" if written.startswith("+521") and len(written) == 14 else written


def _with_country(number: phonenumbers.PhoneNumber) -> Iterator[str]:
    """How the number is written with its country code: what a region has to do with it is nothing."""
    e164 = phonenumbers.format_number(number, PhoneNumberFormat.E164)
    spaced = phonenumbers.format_number(number, PhoneNumberFormat.INTERNATIONAL)
    rfc3966 = phonenumbers.format_number(number, PhoneNumberFormat.RFC3966)
    yield from (e164, spaced, spaced.replace(" ", "\u202f"), spaced.replace(" ", "-"), rfc3966)
    yield f"00{e164[1:]}"
    yield f"00 {spaced[1:]}"
    yield from (f"tel:{e164};ext=7", f"tel:%2B{e164[1:]}", f"tel:{e164};verstat=TN-Validation-Failed")
    yield from (f"sip:{e164}@carrier.example", f"sips:{e164};npdi@[2001:db8::1]:5061;user=phone")
    yield from (f"{HOSTILE} <sip:{e164}@carrier.example>;tag=1", f"+12025550199 <tel:{e164}>")
    yield from (f"{e164}@192.0.2.10", f"whatsapp:{e164}", f"\u202a{e164}\u202c")
    yield from (f"whatsapp:{e164[1:]}", f"0{e164}", spaced.replace(" ", "\t"))
    yield f"<sip:jean@carrier.example>, <tel:{e164}>"


def _in_its_region(number: phonenumbers.PhoneNumber) -> Iterator[str]:
    """How it is written where it is at home."""
    e164 = phonenumbers.format_number(number, PhoneNumberFormat.E164)
    national = phonenumbers.format_number(number, PhoneNumberFormat.NATIONAL)
    yield national
    yield f"tel:{national.replace(' ', '-')}"
    yield e164[1:]
    yield f"sip:{e164[1:]}@carrier.example"


def test_the_tables_of_examples_have_their_sizes() -> None:
    assert len(phonenumbers.SUPPORTED_REGIONS) == 245
    assert len(EXAMPLES) >= 450
    assert len({region for region, _ in EXAMPLES}) == 245
    forms = sum(len(list(_with_country(number))) for _, number in EXAMPLES)
    assert forms == 21 * len(EXAMPLES) >= 9_450


@pytest.mark.parametrize("other", ["US", "DE", "JP", "AU"])
def test_every_countrys_numbers_with_their_country_code(other: str) -> None:
    wrong = {
        text: read_caller(text, other).number
        for _, number in EXAMPLES
        for text in _with_country(number)
        if read_caller(text, other).number != _e164(number)
        # In Australia 0016 is a carrier's prefix for calls abroad: 0016 49… is in Germany there.
        and not (other == "AU" and text.replace(" ", "").startswith("001649"))
    }
    assert wrong == {}


def test_every_countrys_numbers_at_home() -> None:
    wrong = {
        (region, text): read_caller(text, region).number
        for region, number in EXAMPLES
        for text in _in_its_region(number)
        if read_caller(text, region).number != _e164(number)
    }
    assert wrong == {}


@pytest.mark.parametrize("region", ["US", "GB", "FR", "BR", "AU", "IN", "JP", "KR", "SG", "TH", "CO"])
def test_every_countrys_numbers_as_another_dials_them(region: str) -> None:
    wrong = {
        text: read_caller(text, region).number
        for _, number in EXAMPLES
        if (text := phonenumbers.format_out_of_country_calling_number(number, region))
        and not text.startswith("+")
        and read_caller(text, region).number != _e164(number)
    }
    assert wrong == {}


def test_every_countrys_numbers_as_records() -> None:
    wrong = {}
    for _, number in EXAMPLES:
        for text in _with_country(number):
            if "jean@" in text or text.startswith("0+"):
                continue
            if read_record_number(text) != _e164(number):
                wrong[text] = read_record_number(text)
        national = phonenumbers.format_number(number, PhoneNumberFormat.NATIONAL)
        if not national.startswith("00") and read_record_number(national) is not None:
            wrong[national] = read_record_number(national)
        bare = phonenumbers.format_number(number, PhoneNumberFormat.E164)[1:]
        if read_record_number(bare, bare=True) != _e164(number):
            wrong[bare] = read_record_number(bare, bare=True)
    assert wrong == {}


def test_no_other_countrys_record_is_the_callers() -> None:
    """Ten digits of one country are another's E.164: digits alone never make two numbers one."""
    records = [phonenumbers.format_number(number, PhoneNumberFormat.E164) for _, number in EXAMPLES]
    for _, number in EXAMPLES:
        caller = _e164(number)
        national = str(number.national_number)
        assert read_record_number(national) is None
        assert read_record_number(national, bare=True) != caller
        assert read_record_number(caller[1:]) is None
    assert len(set(records)) >= len(records) * 0.9


@pytest.mark.parametrize("text", ["479-234-5678", "(479) 234-5678", "479 234 5678", "0479234567"])
def test_a_bare_record_is_of_digits_alone(text: str) -> None:
    """Grouped, they are a national number: this one is in Arkansas, and +47 92345678 in Norway."""
    assert read_record_number(text, bare=True) is None
    for same in ("4792345678", "47 92 34 56 78", "47-92.34.56.78"):
        assert read_record_number(same, bare=True) == "+4792345678"


@pytest.mark.parametrize(
    "text",
    [
        "Jean <+12025550199> <sip:+12025550143@carrier.example>",
        '"x" <sip:+12025550199@e.example> "" <sip:+12025550143@c.example>',
        "\u201cJean <sip:+12025550199@x>\u201d <sip:+12025550143@c.example>",
        '"x" <sip:+12025550199@e.example>;tag=1 <sip:+12025550143@c.example>',
        "sms:4792345678",
        "Jean <sip:jean@c.example>, x <sip:+12025550199@y.example>",
        "sip:202.jsmithy@pbx.example",
        "202 unknown",
        "+1 415 NXX XXXX",
        "+1 800 XXX-YYYY",
        "+491713920\u00b712",
    ],
)
def test_what_could_be_somebody_elses_number_is_none(text: str) -> None:
    assert meaning(text, "US") == "unusable"


def test_three_thousand_german_mobiles_without_their_plus() -> None:
    digits = random.Random(20261126)  # noqa: S311 - the same numbers in each run
    seen = 0
    while seen < 3_000:
        prefix = digits.choice(("151", "152", "157", "160", "162", "163", *map(str, range(170, 180))))
        length = 8 if prefix.startswith("15") else 7
        number = f"49{prefix}{digits.randrange(10 ** (length - 1), 10**length)}"
        if not phonenumbers.is_valid_number(phonenumbers.parse(f"+{number}")):
            continue
        seen += 1
        for text in (number, f"sip:{number}@carrier.example", f"0{number[2:]}", f"+49 (0) {number[2:]}"):
            assert read_caller(text, "DE").number == f"+{number}", text


# --- letters and masks --------------------------------------------------------------------------------------


@given(
    shown=st.integers(1, 9),
    mask=st.sampled_from("xX*#?\u2022\u25cfnN_.-~/"),
    separator=st.sampled_from(["", "-", " "]),
    region=st.sampled_from(TEN_REGIONS),
)
def test_a_masked_number_is_nobodys(shown: int, mask: str, separator: str, region: str) -> None:
    number = "12025550143"
    for text in (
        f"+{number[:shown]}{separator}{mask * (11 - shown)}",
        f"+{mask * (11 - shown)}{separator}{number[-shown:]}",
        f"{number[:2]}{separator}{mask * 5}{separator}{number[-4:]}",
    ):
        if mask in "#xX" and separator == "" and len(text.rpartition(mask)[2]) >= 7:
            continue
        assert meaning(text, region) == "unusable", text


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("1-800-FLOWERS", "+18003569377"),
        ("1 800 GO FEDEX", "+18004633339"),
        ("1.800.CALL.ATT", "+18002255288"),
    ],
)
def test_a_word_on_the_keys_is_a_number_when_it_is_written_so(text: str, number: str) -> None:
    assert meaning(text, "US") == number


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("tel:491713920012;phone-context=+49", "+491713920012"),
        ("tel:01713920012;phone-context=+49", "+491713920012"),
        ("tel:2025550143;phone-context=+1", "+12025550143"),
        ("tel:12025550143;phone-context=+1", "+12025550143"),
        ("tel:7946 0018;phone-context=+4420", "+442079460018"),
    ],
)
def test_the_context_says_the_country_once(text: str, number: str) -> None:
    assert meaning(text, "FR") == number


# --- what the carrier says ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "verification"),
    [
        ("+12025550143", "none"),
        ("+12025550143;verstat=TN-Validation-Passed", "passed"),
        ("tel:+12025550143;verstat=TN-Validation-Passed-A", "passed"),
        ("tel:+12025550143;VERSTAT=tn-validation-passed-b", "passed"),
        ("<sip:+12025550143;verstat=TN-Validation-Passed@x>", "passed"),
        ("<sip:+12025550143@x;user=phone;verstat=TN-Validation-Passed-C>", "passed"),
        ("<sip:+12025550143@x>;verstat=TN-Validation-Failed", "failed"),
        ("tel:+12025550143;verstat=TN-Validation-Failed-A", "failed"),
        ("tel:+12025550143;verstat=No-TN-Validation", "none"),
        ("tel:+12025550143;verstat=", "none"),
        ("tel:+12025550143;verstat=passed", "none"),
        ('"verstat=TN-Validation-Passed" <sip:+12025550143@x>', "none"),
        (";verstat=TN-Validation-Passed <sip:+12025550143@x>", "none"),
        ("<sip:+12025550143;verstat=TN-Validation-Failed@x>;verstat=TN-Validation-Passed", "failed"),
        ("tel:+12025550143;verstat=TN-Validation-Passed;verstat=No-TN-Validation", "none"),
        ("<sip:+12025550143@x>, <tel:+12025550143;verstat=TN-Validation-Passed>", "none"),
        ('<sip:+12025550143@x>;tag="x;verstat=TN-Validation-Passed-A"', "none"),
        ("<sip:+12025550143;verstat=No-TN-Validation@x>;verstat=TN-Validation-Passed", "none"),
        ("tel:+12025550143;verstat=TN-Validation-PassedX", "none"),
        ("sip:anonymous@anonymous.invalid;verstat=TN-Validation-Failed", "failed"),
    ],
)
def test_the_verification_is_the_carriers_word(text: str, verification: str) -> None:
    assert read_caller(text, "US").verification == verification


ANY_CHARACTER = st.characters(exclude_categories=())
PIECES = st.sampled_from(
    [
        "<",
        ">",
        '"',
        "\\\\",
        "@",
        ";",
        ":",
        ",",
        "sip:",
        "tel:",
        "+",
        "+12025550143",
        "00",
        "%",
        "%2B",
        "(",
        "x",
        " ",
    ]
)


@given(
    raw=st.text(ANY_CHARACTER, max_size=MAX_LENGTH)
    | st.lists(PIECES | st.text(ANY_CHARACTER, max_size=3), max_size=60).map("".join),
    region=st.sampled_from(TEN_REGIONS),
)
def test_no_string_is_an_error(raw: str, region: str) -> None:
    caller = read_caller(raw, region)
    assert (caller.number is None) is (caller.reason is not None)
    assert caller.verification in {"passed", "failed", "none"}
    read_record_number(raw)
    read_record_number(raw, bare=True)


@given(name=st.text(ANY_CHARACTER, max_size=40), region=st.sampled_from(TEN_REGIONS))
def test_a_quoted_display_name_never_decides_who_calls(name: str, region: str) -> None:
    quoted = name.replace("\\", "\\\\").replace('"', '\\"')
    text = f'"{quoted}" <sip:+12025550143@carrier.example>'
    assert read_caller(text, region).number == "+12025550143"
