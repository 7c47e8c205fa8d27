"""Nothing that reaches the screen through safe() can be obeyed by a terminal."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from utils.text import safe

BIDI = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"


@given(st.text(alphabet=st.one_of(st.characters(), st.characters(max_codepoint=0xA0))))
def test_no_control_character_override_or_surrogate_survives(text: str) -> None:
    cleaned = safe(text)
    assert not [c for c in cleaned if unicodedata.category(c) in ("Cc", "Cs") and c not in "\n\t"]
    assert not set(cleaned) & set(BIDI + "\u2028\u2029\ufeff")
    assert len(cleaned) == len(text)
    cleaned.encode()


@given(st.text())
def test_one_line_stays_one_line(text: str) -> None:
    assert len(safe(text, lines=False).splitlines()) <= 1


@given(st.text())
def test_what_is_safe_stays_as_it_is(text: str) -> None:
    assert safe(safe(text)) == safe(text)


@pytest.mark.parametrize("text", ["naïve café\n\t中文", "👩‍👩‍👧 नमस्ते", "a b", "[/red] [bold]", ""])
def test_ordinary_text_of_any_script_is_untouched(text: str) -> None:
    assert safe(text) is text or safe(text) == text


@pytest.mark.parametrize(
    ("attack", "shown"),
    [
        ("\x1b]52;c;aGk=\x07", "␛]52;c;aGk=␇"),
        ("\x9b2J", "�2J"),
        ("a\rb", "a␍b"),
        ("a\u202eb", "a�b"),
        ("\x7f", "␡"),
        ("\udc80", "�"),
    ],
)
def test_attacks_become_visible(attack: str, shown: str) -> None:
    assert safe(attack) == shown
