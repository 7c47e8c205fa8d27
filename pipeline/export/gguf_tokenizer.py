"""A tokenizer as llama.cpp holds it, or the reason why it cannot: never one with other ids, but
for text in decomposed letters where it `composes` them.

llama.cpp knows two kinds that we have. "gpt2" is byte-level BPE whose words are cut by one of a
fixed set of patterns, named `tokenizer.ggml.pre`. "llama" is SentencePiece's: it joins the two
neighbours whose piece scores highest, wherever that piece is in the vocabulary, and writes a space
as U+2581.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.tokenizer.spec import PREFIXED, SPACE, UNPREFIXED, Spec, byte_marks, marks_spaces
from pipeline.tokenizer.spec import parts as steps_of
from pipeline.tokenizer.tokenizer import Tokenizer
from utils.errors import RefusedError

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)  # gguf.TokenType

_CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_LINES = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_LLAMA3 = rf"{_CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{{1,3}}|{_LINES}"
_QWEN2 = rf"{_CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}|{_LINES}"
_OTHERS = "export --to hf keeps this tokenizer; a tokenizer made by {} can go into a GGUF"


def _split(pattern: str) -> dict[str, Any]:
    return {
        "type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False
    }  # fmt: skip


_BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False}
_LAST = _BYTE_LEVEL | {"use_regex": False}
# The steps that llama.cpp knows by name, and whether a word that is a piece is taken whole.
PRE_TOKENIZERS: dict[str, tuple[list[dict[str, Any]], bool]] = {
    "gpt-2": ([_BYTE_LEVEL | {"use_regex": True}], False),
    "llama-bpe": ([_split(_LLAMA3), _LAST], True),
    "smaug-bpe": ([_split(_LLAMA3), _LAST], False),
    "qwen2": ([_split(_QWEN2), _LAST], False),
    "smollm": (
        [{"type": "Digits", "individual_digits": True}, _BYTE_LEVEL | {"use_regex": True}],
        False,
    ),
}


@dataclass(frozen=True)
class Vocabulary:
    """What the `tokenizer.ggml.*` keys of a GGUF file say; lists are by id.

    `scores` belong to model "llama", `pre` and `merges` to model "gpt2".
    """

    model: str
    pre: str
    tokens: list[str]
    types: list[int]
    scores: list[float] | None = None
    merges: list[str] | None = None
    space_prefix: bool = False


def vocabulary(tokenizer: Tokenizer, rows: int) -> Vocabulary:
    """The vocabulary of `tokenizer` for a model with `rows` embeddings; unused ids get names.

    Raises:
        RefusedError: llama.cpp would give other ids; says why.
    """
    if tokenizer.vocab_size > rows:
        raise RefusedError(
            "The model and its tokenizer do not belong together.",
            found=f"the tokenizer has {tokenizer.vocab_size:,} ids, the model knows {rows:,}",
            remedy="give the tokenizer that it was trained with: --tokenizer NAME",
        )
    if tokenizer.eos_id is None:
        raise _refused(tokenizer, "it has no token that ends a text, and llama.cpp must have one")
    if tokenizer.kind == "byte-level":
        return _byte_level(tokenizer, rows)
    return _sentencepiece(tokenizer, rows)


def _refused(tokenizer: Tokenizer, why: str) -> RefusedError:
    return RefusedError(
        f"No GGUF file can hold the tokenizer {tokenizer.name}.",
        found=why,
        remedy=_OTHERS,
        commands=[("tokenize", "--train", "bpe")],
    )


def composes(tokenizer: Tokenizer) -> bool:
    """Whether all that it does to text before it cuts it is to compose letters and accents, as
    those of Qwen do. llama.cpp does not: it gives the same ids wherever text is composed already,
    which all but very little text is."""
    return steps_of(tokenizer.spec.get("normalizer")) == [{"type": "NFC"}]


def _byte_level(tokenizer: Tokenizer, rows: int) -> Vocabulary:
    spec = tokenizer.spec
    vocab, added = _vocab(spec), _added(spec)
    if spec.get("normalizer") and not composes(tokenizer):
        raise _refused(tokenizer, "it changes text before it cuts it, and llama.cpp does not")
    marks = byte_marks()
    if odd := [piece for piece in vocab if piece not in added and not marks.keys() >= {*piece}]:
        raise _refused(tokenizer, f"its piece {odd[0]!r} stands for no bytes")
    if any(token.get("lstrip") or token.get("rstrip") or token.get("single_word")
           for token in spec["added_tokens"] if not token["special"]):  # fmt: skip
        raise _refused(tokenizer, "it has added tokens that take the space around them")
    types = _types(tokenizer, rows, USER_DEFINED, {})
    return Vocabulary(
        model="gpt2",
        pre=_pre(tokenizer),
        tokens=_tokens(vocab | added, rows),
        types=types,
        merges=[f"{left} {right}" for left, right in spec["model"]["merges"]],
    )


def _pre(tokenizer: Tokenizer) -> str:
    """The name of the pattern that cuts words as `tokenizer` does."""
    whole_words = bool(tokenizer.spec["model"].get("ignore_merges"))
    steps = [_step(step) for step in steps_of(tokenizer.spec.get("pre_tokenizer"))]
    for name, computed in PRE_TOKENIZERS.items():
        if computed == (steps, whole_words):
            return name
    pattern = next((s["pattern"] for s in steps if "pattern" in s), None)
    cut = pattern.get("Regex") if isinstance(pattern, dict) else None
    raise _refused(
        tokenizer,
        f"llama.cpp has no name for the way it cuts words: {cut or [s['type'] for s in steps]}",
    )


def _step(step: Mapping[str, Any]) -> dict[str, Any]:
    """A step without what changes no ids, with the default it may leave out."""
    plain = {key: value for key, value in step.items() if key != "trim_offsets"}
    return {"use_regex": True} | plain if plain["type"] == "ByteLevel" else plain


def _sentencepiece(tokenizer: Tokenizer, rows: int) -> Vocabulary:
    spec = tokenizer.spec
    normalizer = spec.get("normalizer")
    if spec.get("pre_tokenizer") or normalizer not in (PREFIXED, UNPREFIXED, None):
        raise _refused(tokenizer, "it prepares text in a way that SentencePiece does not")
    if not all(token["special"] for token in spec["added_tokens"]):
        raise _refused(tokenizer, "it has added tokens that ordinary text can make")
    vocab, added = _vocab(spec), _added(spec)
    marked = normalizer is not None
    if marked != marks_spaces(spec):
        raise _refused(tokenizer, "it writes spaces in one way and reads them in another")
    if not marked and any(SPACE in piece for piece in vocab):
        raise _refused(tokenizer, f"it has a piece with U+2581 ({SPACE}), llama.cpp's own space")
    own = {piece: i for piece, i in vocab.items() if piece not in added}
    pieces = {piece.replace(" ", SPACE): i for piece, i in own.items()}
    merges = [[part.replace(" ", SPACE) for part in pair] for pair in spec["model"]["merges"]]
    ranks = _ranks(tokenizer, {*pieces, *added}, merges)
    # Pieces that nothing joins are never compared; the lowest score is a safe one for them.
    scores = [float(-len(ranks) - 1)] * rows
    for piece, rank in ranks.items():
        scores[pieces[piece]] = float(-rank)
    bytes_ = {i: BYTE for piece, i in pieces.items() if _is_byte(piece)}
    return Vocabulary(
        model="llama",
        pre="default",
        tokens=_tokens(pieces | added, rows),
        types=_types(tokenizer, rows, CONTROL, bytes_),
        scores=scores,
        space_prefix=normalizer == PREFIXED,
    )


def _ranks(tokenizer: Tokenizer, pieces: set[str], merges: Iterable[list[str]]) -> dict[str, int]:
    """The order in which pieces are made, which scores can express only where every way to put
    a piece together comes at the same place in it."""
    ranks: dict[str, int] = {}
    pairs = set()
    latest = ""
    for left, right in merges:
        piece = left + right
        if piece in ranks and piece != latest:
            raise _refused(tokenizer, f"its merges make the piece {piece!r} at two places")
        ranks.setdefault(piece, len(ranks))
        pairs.add((left, right))
        latest = piece
    for piece in pieces:
        for cut in range(1, len(piece)):
            left, right = piece[:cut], piece[cut:]
            if left in pieces and right in pieces and (left, right) not in pairs:
                raise _refused(
                    tokenizer, f"llama.cpp would make {piece!r} of {left!r} and {right!r}"
                )
    return ranks


def _is_byte(piece: str) -> bool:
    return len(piece) == 6 and piece.startswith("<0x") and piece.endswith(">")


def _vocab(spec: Spec) -> dict[str, int]:
    return dict(spec["model"]["vocab"])


def _added(spec: Spec) -> dict[str, int]:
    return {token["content"]: token["id"] for token in spec["added_tokens"]}


def _tokens(known: Mapping[str, int], rows: int) -> list[str]:
    """The text of every id; ids that stand for nothing are called by a name nobody has."""
    tokens = [""] * rows
    for text, i in known.items():
        tokens[i] = text
    for i in (i for i, text in enumerate(tokens) if not text):
        tokens[i] = f"[UNUSED{i}]"
        while tokens[i] in known:
            tokens[i] += "_"
    return tokens


def _types(tokenizer: Tokenizer, rows: int, added_as: int, others: Mapping[int, int]) -> list[int]:
    spec = tokenizer.spec
    types = [UNUSED] * rows
    for i in _vocab(spec).values():
        types[i] = others.get(i, NORMAL)
    for token in spec["added_tokens"]:
        types[token["id"]] = CONTROL if token["special"] else added_as
    if tokenizer.unk_id is not None and tokenizer.kind == "byte-fallback":
        types[tokenizer.unk_id] = UNKNOWN
    return types
