"""Names that are no UTF-8 go into JSON and come back as they were."""

import json
import os
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from utils import json_text
from utils.files import printable_name

NAMES = [
    b"caf\xe9.txt",
    b"\xff",
    b"\x80\xbf",
    b"\xc3(",
    b"\xd6\xd0\xce\xc4.txt",
    b"a\\x\xe9",
    b"\xed\xa0\x80",
]


class Place(msgspec.Struct):
    path: str
    facts: dict[str, Any] = {}


@pytest.mark.parametrize("raw", NAMES)
def test_a_name_that_is_not_utf8_comes_back(raw: bytes) -> None:
    place = Place(os.fsdecode(raw), {os.fsdecode(raw): [os.fsdecode(raw), 1.5, "é"]})
    for data in (json_text.encode(place), json_text.encode_indented(msgspec.to_builtins(place))):
        data.decode()
        found = json_text.decode(data, Place)
        assert found == place
        assert os.fsencode(found.path) == raw
        assert json.loads(data)["path"] == place.path


@given(st.binary(min_size=1, max_size=20))
def test_any_name_is_shown_and_can_be_read_back(raw: bytes) -> None:
    shown = printable_name(os.fsdecode(raw))
    assert shown.encode()
    if os.fsdecode(raw).isprintable() and raw.decode(errors="ignore").encode() == raw:
        assert shown == raw.decode()
    else:
        try:
            raw.decode()
        except UnicodeDecodeError:
            back = shown.encode().decode("unicode_escape").encode("latin-1")
            assert back == raw


@given(st.dictionaries(st.text(), st.text() | st.integers(-(2**53), 2**53) | st.none()))
def test_ordinary_values_are_ordinary_json(value: dict) -> None:
    data = json_text.encode_indented(value)
    assert data == (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode()
    assert msgspec.json.decode(data) == json_text.decode(data, dict) == value


@pytest.mark.parametrize("data", [b"{", b'{"path": 1}', b'{"path": "\\udce9"', b"\xff", b""])
def test_what_is_no_such_json_is_refused(data: bytes) -> None:
    with pytest.raises((msgspec.DecodeError, UnicodeDecodeError)):
        json_text.decode(data, Place)
