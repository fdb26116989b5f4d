"""An identity's texts reach an ear or a screen: nothing invisible is in them, and nobody's id is changed."""

import unicodedata
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conversation.errors import SourceUnavailable
from conversation.sources.identity import MAX_TEXT_LENGTH, clean, clean_id
from tests.support.companies import JEAN, PROTOCOLS, Company, with_field

BIDIRECTIONAL = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
CONTROLS = "".join(map(chr, [*range(0x20), *range(0x7F, 0xA0)]))
type MakeCompany = Callable[..., Company]


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("Jean", "Jean"),
        ("  Jean \t\r\n  Dupont ", "Jean Dupont"),
        ("Jean\u00a0\u202f\u3000Dupont\u2028\u2029", "Jean Dupont"),
        ("Jean\x00Dupont\x07\x1b[31m", "JeanDupont[31m"),
        ("Jean\x85Dupont", "Jean Dupont"),
        ("\u202egnitset\u202c", "gnitset"),
        (f"Je{BIDIRECTIONAL}an", "Jean"),
        ("Je\u200ban\ufeff\u2060\u00ad", "Jean"),
        ("Ame\u0301lie", "Am\u00e9lie"),
        ("A\u030angstro\u0308m \u212b", "\u00c5ngstr\u00f6m \u00c5"),
        ("e\u200d\u0301", "\u00e9"),
        ("Jean\ud800", "Jean"),
        ("\udfff\ud800", ""),
        ("\u3164\u115f\u2800", ""),
        ("Nguy\u1ec5n Th\u1ecb", "Nguy\u1ec5n Th\u1ecb"),
        ("\u05d9\u05d5\u05e1\u05e3", "\u05d9\u05d5\u05e1\u05e3"),
        ("\u0645\u062d\u0645\u062f", "\u0645\u062d\u0645\u062f"),
        ("\u845b\U000e0100", "\u845b\U000e0100"),
        ("\U0001f44b", "\U0001f44b"),
        # Joiners stay between letters, or their marks, of scripts that are written with them.
        ("\u0639\u0644\u06cc\u200c\u0631\u0636\u0627", "\u0639\u0644\u06cc\u200c\u0631\u0636\u0627"),
        ("\u0915\u094d\u200d\u0937", "\u0915\u094d\u200d\u0937"),
        ("\u0dc1\u0dca\u200d\u0dbb\u0dd3", "\u0dc1\u0dca\u200d\u0dbb\u0dd3"),
        ("Je\u200dan\u200c", "Jean"),
        ("\u200d\u0915\u200d\u200d\u0937\u200c", "\u0915\u0937"),
    ],
)  # fmt: skip
def test_what_a_text_becomes(text: str, cleaned: str) -> None:
    assert clean(text) == cleaned


@given(
    st.text(
        st.characters(codec=None) | st.sampled_from(CONTROLS + BIDIRECTIONAL + "\u200c\u200d \u0915\u094d")
    )
)
def test_whatever_comes_in_nothing_invisible_comes_out(text: str) -> None:
    cleaned = clean(text)
    assert cleaned == unicodedata.normalize("NFC", cleaned)
    assert cleaned == " ".join(cleaned.split())
    assert not set(cleaned) & set(CONTROLS + BIDIRECTIONAL)
    assert {unicodedata.category(c) for c in cleaned} & {"Cc", "Cs", "Zl", "Zp"} == set()
    assert {c for c in cleaned if unicodedata.category(c) == "Cf"} <= {"\u200c", "\u200d"}
    assert clean(cleaned) == cleaned
    cleaned.encode()


def test_a_text_keeps_its_limit() -> None:
    assert len(clean("e\u0301" * MAX_TEXT_LENGTH)) == MAX_TEXT_LENGTH
    assert clean(" " * 100_000 + "Jean" + " " * 100_000) == "Jean"
    for long in ("x" * 1_001, "\u00e9" * 1_001, "\u0344\u0315" * 120_000):
        with pytest.raises(ValueError, match="1,000"):
            clean(long)


@pytest.mark.parametrize("text", ["G-1042", "G 1042", "\u00c91", "1267568856.11", "\u0915\u094d\u200d\u0937"])
def test_an_id_stays_as_it_is(text: str) -> None:
    assert clean_id(text) == text
    assert clean_id(f" {text}\n") == text


@pytest.mark.parametrize(
    "text",
    ["", " ", "\u3164", "G\x001042", "G\u202e1042", "G\u200b1042", "G  1042", "G\u00a01042", "G\ud800"],
)
def test_an_id_that_would_have_to_change_is_none(text: str) -> None:
    with pytest.raises(ValueError, match="is not a valid id"):
        clean_id(text)


NAME = {"alpha": "0.first_name", "beta": "items.0.name.given", "gamma": "fullName"}
CUSTOMER_ID = {"alpha": "0.id", "beta": "items.0.contactId", "gamma": "personId"}


@pytest.mark.parametrize("source", PROTOCOLS)
def test_every_company_is_read_like_this(source: str, company: MakeCompany) -> None:
    document = PROTOCOLS[source].document(JEAN)
    company(
        with_field(document, NAME[source], "\u202eAme\u0301lie\x00\u00a0\n\ud83d"),
        with_field(document, CUSTOMER_ID[source], "10\u202e42"),
    )
    found = PROTOCOLS[source].ask()
    assert found is not None
    assert found.first_name == "Am\u00e9lie"
    with pytest.raises(SourceUnavailable, match=rf"first at {CUSTOMER_ID[source]}"):
        PROTOCOLS[source].ask()
