"""Text to ids and back: nothing is lost, nothing in a document becomes a control token."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.tokenizer.load import load_tokenizer
from pipeline.tokenizer.tokenizer import StreamDecoder, Tokenizer
from tests.support.small_tokenizers import PROSE, train
from utils.errors import UsageError
from utils.verification import verify

NASTY = [
    "", " ", "  ", "\n", "\0", "a\0b", "▁", "▁▁ ▁a", " ▁", "a ▁", "\ufffd", "\ufeffx", "e\u0301",
    "🙂👩‍👩‍👧", "</s>", "<s>x</s>", "<unk>", "<0x41>", "<|endoftext|>", " <|endoftext|> ", "▁<PRE>",
    "tabs\t\tand  spaces   \r\n\r\n end ", "a\xa0 \xa0b \u3000c\u2028 d\x1c e\x85 f", "x\x0b \x0cy",
    "\U0010ffff\ue000", "a" * 500, " " * 300 + "x", "\n" * 70 + "\ty", "١٢٣ ४५ ½", "'s 't I'VE",
]  # fmt: skip


_loaded: dict[str, Tokenizer] = {}


@pytest.fixture(params=["bpe", "char", "codellama", "llama2", "gpt2"])
def tokenizer(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Tokenizer:
    """Every kind that can be loaded or trained, each made once."""
    kind = request.param
    if kind not in _loaded:
        if kind in ("bpe", "char"):
            _loaded[kind] = train(kind, PROSE, tmp_path_factory.mktemp(kind))
        else:
            data = request.getfixturevalue("shared_data")
            _loaded[kind] = load_tokenizer(data / f"tokenizer-{kind}", Path("tokenizers"))
    return _loaded[kind]


_engines: dict[str, Any] = {}


def reference_ids(tokenizer: Tokenizer, text: str) -> list[int]:
    """The whole text through the library with nothing of ours in between."""
    from tokenizers import Tokenizer as Engine

    key = tokenizer.fingerprint
    if key not in _engines:
        _engines[key] = Engine.from_str(tokenizer.files()["tokenizer.json"].decode())
        _engines[key].encode_special_tokens = True
    ids: list[int] = _engines[key].encode(text, add_special_tokens=False).ids
    return ids


WORDS = st.lists(
    st.one_of(
        st.text(max_size=6),
        st.sampled_from([*NASTY, *" \n\t\r\xa0▁", "the", "return", "12", "'ll", "..", "naïve"]),
    ),
    max_size=12,
).map("".join)
MANY = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.mark.slow
@pytest.mark.parametrize("text", NASTY)
def test_nasty_texts_come_back_and_hold_no_control_token(tokenizer: Tokenizer, text: str) -> None:
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    assert not tokenizer.controls & set(ids)
    assert tokenizer.decode(tokenizer.encode_document(text)) == text


@pytest.mark.slow
@MANY
@given(text=WORDS)
def test_any_unicode_comes_back_whole_and_streamed(tokenizer: Tokenizer, text: str) -> None:
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    stream = StreamDecoder(tokenizer)
    assert "".join(stream.push(i) for i in ids) + stream.flush() == text


@pytest.mark.slow
@MANY
@given(text=WORDS)
def test_the_fast_path_gives_the_ids_of_the_library(tokenizer: Tokenizer, text: str) -> None:
    if tokenizer.name.startswith("tokenizer-") and tokenizer.kind == "byte-fallback":
        text = text.replace("▁", "")  # the library takes it for a space, we keep it
    assert tokenizer.encode(text) == reference_ids(tokenizer, text)


@MANY
@given(picks=st.lists(st.integers(0, 10**9), max_size=30), cut=st.integers(0, 30))
def test_streaming_any_ids_adds_up_to_decoding_them(
    tokenizer: Tokenizer, picks: list[int], cut: int
) -> None:
    ids = [pick % tokenizer.vocab_size for pick in picks]
    stream = StreamDecoder(tokenizer)
    pieces = [stream.push(i) for i in ids]
    assert "".join(pieces) + stream.flush() == tokenizer.decode(ids)
    continued = StreamDecoder(tokenizer, after=ids[:cut])
    rest = "".join(continued.push(i) for i in ids[cut:]) + continued.flush()
    assert tokenizer.decode(ids).endswith(rest)


def test_a_stream_never_shows_half_a_character(tokenizer: Tokenizer) -> None:
    stream = StreamDecoder(tokenizer)
    shown = [stream.push(i) for i in tokenizer.encode("é🙂北 ꙮ")]
    assert "\ufffd" not in "".join(shown)
    assert stream.flush() == ""


def test_documents_in_a_row_decode_to_their_texts_in_a_row(tokenizer: Tokenizer) -> None:
    texts = ["First one.", " second", "", "third\n"]
    stream = [int(i) for ids in tokenizer.encode_documents(texts) for i in ids]
    assert stream == [i for text in texts for i in tokenizer.encode_document(text)]
    assert tokenizer.decode(stream) == "".join(texts)
    ends = stream.count(tokenizer.eos_id or 0)
    assert ends == len(texts)


def test_ids_have_the_narrowest_type_that_holds_them(tokenizer: Tokenizer) -> None:
    assert tokenizer.token_dtype == "uint16"
    assert all(str(ids.dtype) == "uint16" for ids in tokenizer.encode_batch(PROSE))


@pytest.mark.slow
def test_a_vocabulary_beyond_65536_ids_is_stored_in_four_bytes(tmp_path: Path) -> None:
    text = "".join(map(chr, range(0x10000, 0x10000 + 66_000)))
    large = train("char", [text], tmp_path)
    assert large.vocab_size == 259 + 66_000
    ids = large.encode_documents([text])[0]
    assert (str(ids.dtype), int(ids.max())) == ("uint32", 66_258)
    assert large.decode(ids.tolist()) == text


def test_half_a_surrogate_pair_is_refused(tokenizer: Tokenizer) -> None:
    with pytest.raises(UsageError, match="surrogate") as error:
        tokenizer.encode_batch(["fine", "ab\ud800"])
    assert "U+D800 at character 2" in str(error.value)
    assert tokenizer.decode(tokenizer.encode("still works")) == "still works"


@pytest.mark.parametrize("wrong", [-1, 10**9])
def test_impossible_ids_are_refused_by_name(tokenizer: Tokenizer, wrong: int) -> None:
    for attempt in (lambda: tokenizer.decode([5, wrong]), lambda: tokenizer.piece(wrong)):
        with pytest.raises(UsageError, match=f"no token {wrong}") as error:
            attempt()
        assert str(tokenizer.vocab_size - 1) in str(error.value)


@pytest.mark.slow
def test_the_saved_folder_opens_everywhere_with_the_same_ids(
    tokenizer: Tokenizer, tmp_path: Path
) -> None:
    from tokenizers import Tokenizer as Engine
    from transformers import AutoTokenizer

    tokenizer.save(tmp_path / "saved")
    verify(tmp_path / "saved")
    again = load_tokenizer("saved", tmp_path)
    assert again.fingerprint == tokenizer.fingerprint
    assert again.files() == tokenizer.files()
    roles = ("bos_id", "eos_id", "pad_id", "unk_id")
    assert [getattr(again, r) for r in roles] == [getattr(tokenizer, r) for r in roles]
    theirs = AutoTokenizer.from_pretrained(tmp_path / "saved", trust_remote_code=False)
    plain = Engine.from_file(str(tmp_path / "saved" / "tokenizer.json"))
    for text in PROSE:
        ids = tokenizer.encode(text)
        assert again.encode(text) == ids
        assert theirs(text, add_special_tokens=False)["input_ids"] == ids
        assert plain.encode(text, add_special_tokens=False).ids == ids
        assert theirs.decode(ids) == text
    assert (theirs.bos_token_id, theirs.eos_token_id) == (tokenizer.bos_id, tokenizer.eos_id)
    assert theirs.pad_token_id == tokenizer.pad_id
    talk = [{"role": r, "content": c} for r, c in (("user", "Hi"), ("assistant", "Yes?"))]
    begin, end = tokenizer.piece(tokenizer.bos_id or 0), tokenizer.piece(tokenizer.eos_id or 0)
    turn = f"{begin}User: Hi\nAssistant: Yes?{end}"
    assert theirs.apply_chat_template(talk * 2, tokenize=False) == turn * 2
    asked = theirs.apply_chat_template(talk[:1], tokenize=False, add_generation_prompt=True)
    assert asked == f"{begin}User: Hi\nAssistant:"


def test_a_chat_template_is_read_where_transformers_writes_it(tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    train("char", PROSE, tmp_path / "made").save(tmp_path / "ours")
    theirs = AutoTokenizer.from_pretrained(tmp_path / "ours")
    theirs.chat_template = {"tool_use": "{{ tools }}", "default": "{{ messages[0]['content'] }}!"}
    theirs.save_pretrained(tmp_path / "several")
    theirs.chat_template = "{{ messages[0]['content'] }}?"
    theirs.save_pretrained(tmp_path / "one")
    assert (tmp_path / "one" / "chat_template.jinja").is_file()
    for name, mark in (("one", "?"), ("several", "!")):
        template = load_tokenizer(str(tmp_path / name), tmp_path).chat_template
        assert template == "{{ messages[0]['content'] }}" + mark
    settings = tmp_path / "ours" / "tokenizer_config.json"
    named = [{"name": "default", "template": "{{ messages }}"}]
    settings.write_text(json.dumps(json.loads(settings.read_text()) | {"chat_template": named}))
    (tmp_path / "ours" / "manifest.json").unlink()  # edited: it is no artefact of ours any more
    assert load_tokenizer(str(tmp_path / "ours"), tmp_path).chat_template == "{{ messages }}"


def test_forked_workers_encode_without_waiting_for_dead_threads(tmp_path: Path) -> None:
    tokenizer = train("bpe", PROSE, tmp_path)
    expected = tokenizer.encode(PROSE[0] * 20)
    texts = [f"word{i} " * 50 for i in range(200)]
    tokenizer.encode_batch(texts)  # starts the library's threads
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        fresh = [f"other{i} " * 50 for i in range(200)]
        good = tokenizer.decode(tokenizer.encode_batch(fresh)[-1].tolist()) == fresh[-1]
        good = good and tokenizer.encode(PROSE[0] * 20) == expected
        os.write(writer, b"good" if good else b"bad!")
        os._exit(0)
    os.close(writer)
    assert os.read(reader, 4) == b"good"
    os.waitpid(child, 0)
