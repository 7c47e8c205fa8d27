"""SentencePiece models as the same BPE in tokenizer.json form, exactly.

Reads the few fields of `ModelProto` that matter (github.com/google/sentencepiece,
src/sentencepiece_model.proto) in 80 ms, so that no package of 8 MB with generated code for one
version of protobuf is needed. SentencePiece joins the pair whose piece has the highest score; so
merges are ordered by score, not by id: pieces of whitespace score lowest wherever their ids stand.
"""

import struct
from collections.abc import Iterator
from typing import NamedTuple

from pipeline.tokenizer.spec import PREFIXED, PREFIXED_ONCE, SPACE, UNPREFIXED, Spec
from utils.errors import RefusedError, UsageError

_NORMAL, _UNKNOWN, _CONTROL, _USER, _BYTE = 1, 2, 3, 4, 6


class Piece(NamedTuple):
    """One entry of the vocabulary; its place in the list is its id."""

    text: str
    score: float
    kind: int


def convert(data: bytes) -> tuple[Spec, dict[str, str]]:
    """A tokenizer.json of a `tokenizer.model`, and its control tokens by role.

    Raises:
        RefusedError: the bytes are not a whole model.
        UsageError: a model that changes text or is not BPE with byte fallback.
    """
    try:
        model = list(_fields(data))
        pieces = [
            _piece(value) for field, value in model if field == 1 and isinstance(value, bytes)
        ]
        trainer, normalizer = ({**_message(model, 2)}, {**_message(model, 3)})
    except (IndexError, ValueError, struct.error, UnicodeDecodeError) as error:
        raise RefusedError(
            "This tokenizer.model is damaged.", found=str(error), remedy="fetch it again"
        ) from error
    _require_exact(pieces, trainer, normalizer)
    pieces = [
        piece._replace(text=piece.text.replace(SPACE, " ")) if piece.kind == _USER else piece
        for piece in pieces
    ]  # they are looked for in the text itself, before spaces become marks
    vocab = {piece.text: i for i, piece in enumerate(pieces)}
    by_role = {"unk": (40, 0), "bos": (41, 1), "eos": (42, 2), "pad": (43, -1)}
    roles: dict[str, str] = {}
    for role, (field, default) in by_role.items():
        i = _signed(trainer.get(field, default))
        if 0 <= i < len(pieces):
            roles[role] = pieces[i].text
    prefixed = bool(normalizer.get(3, 1))
    return _spec(pieces, vocab, prefixed), roles


def _spec(pieces: list[Piece], vocab: dict[str, int], prefixed: bool) -> Spec:
    added = [
        {"id": i, "content": piece.text, "special": piece.kind != _USER, "normalized": False}
        | dict.fromkeys(("single_word", "lstrip", "rstrip"), False)
        for i, piece in enumerate(pieces)
        if piece.kind in (_UNKNOWN, _CONTROL, _USER)
    ]
    normalizer = UNPREFIXED
    if prefixed:
        user_defined = any(piece.kind == _USER for piece in pieces)
        normalizer = PREFIXED_ONCE if user_defined else PREFIXED
    replace: dict[str, object] = {"type": "Replace", "pattern": {"String": SPACE}, "content": " "}
    decoders = [replace, {"type": "ByteFallback"}, {"type": "Fuse"}]
    if prefixed:
        decoders.append({"type": "Strip", "content": " ", "start": 1, "stop": 0})
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": normalizer,
        "pre_tokenizer": None,
        "post_processor": None,
        "decoder": {"type": "Sequence", "decoders": decoders},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": next((p.text for p in pieces if p.kind == _UNKNOWN), None),
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": True,
            "byte_fallback": True,
            "ignore_merges": False,
            "vocab": vocab,
            "merges": _merges(pieces, vocab),
        },
    }


def _merges(pieces: list[Piece], vocab: dict[str, int]) -> list[list[str]]:
    """Every way to put a normal piece together from two, the highest score first."""
    normal = {piece.text for piece in pieces if piece.kind == _NORMAL}
    lengths = sorted({len(text) for text in normal})  # no other cut can give two pieces
    found: list[tuple[float, list[str]]] = []
    for piece in pieces:
        if piece.kind != _NORMAL:
            continue
        text = piece.text
        cuts = [(text[:i], text[i:]) for i in lengths if 0 < i < len(text)]
        pairs = [pair for pair in cuts if pair[0] in normal and pair[1] in normal]
        pairs.sort(key=lambda pair: (vocab[pair[0]], vocab[pair[1]]))
        found += [(piece.score, list(pair)) for pair in pairs]
    found.sort(key=lambda merge: -merge[0])  # stable: equal scores stay in order of ids
    return [pair for _, pair in found]


def _require_exact(
    pieces: list[Piece], trainer: dict[int, int | bytes], normalizer: dict[int, int | bytes]
) -> None:
    """Refuse what this conversion, or any exact round trip, cannot hold."""
    reasons = {
        "it is not BPE": trainer.get(3, 1) != 2,
        "it has no byte fallback": sum(piece.kind == _BYTE for piece in pieces) != 256,
        "it rewrites characters": bool(normalizer.get(2)),
        "it removes spaces": bool(normalizer.get(4, 1)),
        "it marks the ends of words": bool(trainer.get(24, 0)),
    }
    if found := [reason for reason, true in reasons.items() if true]:
        raise UsageError(
            "This SentencePiece model cannot give every text back exactly.",
            found="; ".join(found),
            remedy="use another tokenizer, or train one: {}",
            commands=[("tokenize", "--train", "bpe")],
        )


def _piece(data: bytes) -> Piece:
    fields = {1: b"", 2: b"\0\0\0\0", 3: _NORMAL} | dict(_fields(data))
    text, score, kind = fields[1], fields[2], fields[3]
    if not (isinstance(text, bytes) and isinstance(score, bytes) and isinstance(kind, int)):
        raise ValueError("a piece without text, score and kind")
    return Piece(text.decode(), struct.unpack("<f", score)[0], kind)


def _message(model: list[tuple[int, int | bytes]], number: int) -> dict[int, int | bytes]:
    data = next((value for field, value in model if field == number), b"")
    return dict(_fields(data)) if isinstance(data, bytes) else {}


def _signed(value: int | bytes) -> int:
    """A 64-bit two's complement varint as the negative number it stands for."""
    number = value if isinstance(value, int) else -1
    return number - (1 << 64) if number >= 1 << 63 else number


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Field numbers and values of one protocol-buffer message: varints as int, the rest as bytes
    (protobuf.dev, "Encoding")."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        number, wire = key >> 3, key & 7
        if wire == 0:
            value, at = _varint(data, at)
            yield number, value
            continue
        if wire == 2:
            size, at = _varint(data, at)
        elif wire in (1, 5):
            size = 8 if wire == 1 else 4
        else:
            raise ValueError(f"no wire type {wire} at byte {at}")
        if number == 0 or at + size > len(data):
            raise ValueError(f"a field at byte {at} ends beyond the {len(data)} bytes there are")
        yield number, data[at : at + size]
        at += size


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while shift < 64:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at
    raise ValueError(f"an endless number at byte {at}")
