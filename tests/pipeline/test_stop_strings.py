"""Stop strings end a text wherever they begin, and never show even in part."""

import pytest

from model.generation.sampling import NewToken
from pipeline.inference.stop_strings import Continuation
from tests.support.tiny_checkpoints import byte_tokenizer


def said(text: str, *stop: str, finish: str | None = None) -> tuple[list[str], Continuation]:
    """The pieces in which a text of one token per byte becomes certain."""
    tokenizer = byte_tokenizer()
    body = Continuation(tokenizer, [], stop)
    ids = tokenizer.encode(text)
    pieces = []
    for place, i in enumerate(ids):
        if body.finish is None:
            last = place == len(ids) - 1
            pieces.append(body.push(NewToken(0, i, -1.0, "length" if last and finish else None)))
    return pieces, body


def test_text_is_held_back_only_while_it_may_become_a_stop_string() -> None:
    pieces, body = said("a\nb\n\nc", "\n\n")
    assert pieces == ["a", "", "\nb", "", ""]
    assert (body.text, body.finish) == ("a\nb", "stop")
    assert len(body.tokens) == len(body.offsets) == 5


@pytest.mark.parametrize(
    ("text", "stop", "kept"),
    [
        ("aab", ("ab",), "a"),
        ("abab abc", ("abc",), "abab "),
        ("one END two", ("never", "END"), "one "),
        ("xé", ("é",), "x"),
        ("abc", ("bc", "ab"), "abc"[:0]),
        ("plain", ("",), "plain"),
    ],
)
def test_the_text_ends_where_a_stop_string_begins(
    text: str, stop: tuple[str, ...], kept: str
) -> None:
    pieces, body = said(text, *stop, finish="length")
    assert body.text == "".join(pieces) == kept
    assert body.finish == ("stop" if kept != text else "length")


def test_what_was_held_back_is_said_when_nothing_more_comes() -> None:
    pieces, body = said("ab--", "---", finish="length")
    assert (pieces[-1], body.text, body.finish) == ("--", "ab--", "length")


def test_an_interrupted_text_keeps_everything() -> None:
    _, body = said("ab--", "---")
    assert body.end("interrupted") == "--"
    assert (body.text, body.finish) == ("ab--", "interrupted")


def test_starts_say_where_each_token_begins() -> None:
    _, body = said("né.", finish="length")
    assert body.offsets == [0, 1, 1, 2]
