"""What a `tokenizer.json` says: which bytes each id stands for, and what determines the ids.

Only BPE whose text comes back byte for byte is accepted: byte-level (GPT-2, Llama 3) or with
byte fallback (SentencePiece as in Llama 2, and our character vocabularies). Everything here works
on the parsed JSON; nothing imports the `tokenizers` library.
"""

import hashlib
import json
import re
from pathlib import Path
from typing import Any, Literal, TypeAlias

from utils.errors import RefusedError, UsageError

Spec: TypeAlias = dict[str, Any]
Kind: TypeAlias = Literal["byte-level", "byte-fallback"]

SPACE = "\u2581"  # SentencePiece writes a space as this mark
_BYTE = re.compile(r"<0x([0-9A-F]{2})>")
_NEVER_IN_UTF8 = frozenset({0xC0, 0xC1, *range(0xF5, 0x100)})  # RFC 3629, section 1
_REPLACE = {"type": "Replace", "pattern": {"String": " "}, "content": SPACE}
_PREPEND = {"type": "Prepend", "prepend": SPACE}
PREFIXED: Spec = {"type": "Sequence", "normalizers": [_PREPEND, _REPLACE]}
UNPREFIXED: Spec = _REPLACE
PREFIXED_ONCE: Spec = {"type": "Sequence", "normalizers": [_REPLACE, _PREPEND]}
"""Means the same in the library, which prefixes every part between added tokens too. Here it says
that only the beginning of a text gets the space, as in SentencePiece."""


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in a file of a tokenizer's folder.

    Raises:
        RefusedError: the file is damaged.
    """
    try:
        value = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise RefusedError(
            f"{path} is damaged: it is not JSON.", found=str(error), remedy="fetch it again"
        ) from error
    if not isinstance(value, dict):
        raise RefusedError(f"{path} is not a tokenizer.", found=f"a JSON {type(value).__name__}")
    return value


def parts(step: Any) -> list[dict[str, Any]]:
    """The steps of a normalizer, pre-tokenizer or decoder, sequences opened."""
    if not step:
        return []
    for key in ("normalizers", "pretokenizers", "decoders"):
        if step.get("type") == "Sequence" and key in step:
            return [nested for part in step[key] for nested in parts(part)]
    return [step]


def kind_of(spec: Spec) -> Kind:
    """How ids become bytes.

    Raises:
        UsageError: a kind that cannot give every text back.
    """
    model = spec.get("model") or {}
    decoders = {part.get("type") for part in parts(spec.get("decoder"))}
    vocab = model.get("vocab")
    if model.get("type") == "BPE" and isinstance(vocab, dict):
        if "ByteLevel" in decoders and all(
            mark in vocab for mark, byte in byte_marks().items() if byte not in _NEVER_IN_UTF8
        ):
            return "byte-level"
        if model.get("byte_fallback") and all(f"<0x{b:02X}>" in vocab for b in range(256)):
            return "byte-fallback"
    raise UsageError(
        "This tokenizer cannot give every text back exactly.",
        found=f"a {model.get('type') or 'nameless'} model with the decoder "
        f"{', '.join(sorted(map(str, decoders))) or 'none'}",
        remedy="use byte-level BPE or BPE with byte fallback: codellama, gpt2, or your own by {}",
        commands=[("tokenize", "--train", "bpe")],
    )


def byte_marks() -> dict[str, int]:
    """The printable character that byte-level vocabularies write for each byte.

    Printable Latin-1 characters stand for themselves, the other bytes for 256 and onwards in
    order (Radford et al. 2019, GPT-2).
    """
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in plain]
    return {chr(b): b for b in plain} | {chr(256 + i): b for i, b in enumerate(others)}


def normalized(spec: Spec, controls: set[str]) -> Spec:
    """A copy of `spec` that never cuts, pads or draws lots, with `controls` marked as special.

    Merges that would spell a control token out of ordinary text are left out: Code Llama has
    such merges for its infill tokens.

    Raises:
        RefusedError: text could still produce a control token.
    """
    model = dict(spec["model"]) | {"dropout": None}
    special = {"special": True, "normalized": False}
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip"), False)
    added = [
        dict(token) | (special if token["content"] in controls else {})
        for token in spec.get("added_tokens") or []
    ]
    missing = sorted(controls - {token["content"] for token in added})
    added += [
        {"id": model["vocab"][text], "content": text} | special | flags
        for text in missing
        if text in model["vocab"]
    ]
    added.sort(key=lambda token: token["id"])
    controls = {token["content"] for token in added if token["special"]}
    merges = (m if isinstance(m, list) else m.split(" ") for m in model["merges"])
    model["merges"] = [[left, right] for left, right in merges if left + right not in controls]
    if model.get("ignore_merges") and (reachable := controls & model["vocab"].keys()):
        raise RefusedError(
            "Ordinary text would turn into control tokens with this tokenizer.",
            found=f"it looks whole words up, and knows {', '.join(sorted(reachable))} as words",
            remedy="use another tokenizer, or train one: {}",
            commands=[("tokenize", "--train", "bpe")],
        )
    ours = {"truncation": None, "padding": None, "added_tokens": added, "model": model}
    return dict(spec) | ours


def byte_table(spec: Spec, kind: Kind) -> list[bytes]:
    """The bytes of every id, `b""` for unused ones; its length is the rows a model needs."""
    vocab: dict[str, int] = spec["model"]["vocab"]
    added = {token["content"]: token["id"] for token in spec["added_tokens"]}
    ids = [*vocab.values(), *added.values()]
    if not all(type(i) is int and 0 <= i < 2**24 for i in ids):
        raise RefusedError(
            "This tokenizer has impossible ids.",
            found=f"ids between {min(ids)} and {max(ids)}",
            remedy="fetch the tokenizer again",
        )
    table = [b""] * (max(ids) + 1)
    marks = byte_marks()
    for piece, i in vocab.items():
        if piece in added:
            continue
        if kind == "byte-level":
            # A character that is no mark cannot come from text: it is shown as itself.
            table[i] = b"".join(bytes([marks[c]]) if c in marks else c.encode() for c in piece)
        elif code := _BYTE.fullmatch(piece):
            table[i] = bytes([int(code[1], 16)])
        else:
            table[i] = (piece.replace(SPACE, " ") if marks_spaces(spec) else piece).encode()
    for content, i in added.items():
        table[i] = content.encode()
    return table


def marks_spaces(spec: Spec) -> bool:
    """Whether pieces write a space as U+2581."""
    steps = parts(spec.get("decoder"))
    return any(s.get("content") == " " and s["type"] == "Replace" for s in steps) or any(
        s["type"] == "Metaspace" for s in steps
    )


def takes_prefix_off(spec: Spec) -> bool:
    """Whether decoding removes one space that encoding put in front."""
    for step in parts(spec.get("decoder")):
        if step["type"] == "Strip" and step.get("content") == " " and step.get("start") == 1:
            return True
        if step["type"] == "Metaspace" and step.get("prepend_scheme", "always") != "never":
            return True
    return False


def without_first_space(spec: Spec) -> Spec:
    """The same for a text that does not begin the whole: a Metaspace step with the scheme "first"
    puts a space in front of the whole only."""

    def inner(step: Any) -> Any:
        if isinstance(step, dict) and step.get("type") == "Sequence":
            return step | {"pretokenizers": [inner(part) for part in step["pretokenizers"]]}
        if isinstance(step, dict) and step.get("prepend_scheme") == "first":
            return step | {"prepend_scheme": "never"}
        return step

    changed = inner(spec.get("pre_tokenizer"))
    return spec if changed == spec.get("pre_tokenizer") else spec | {"pre_tokenizer": changed}


def text_prefix(spec: Spec) -> list[int]:
    """The ids that the post-processor puts before a text."""
    return _before_text(spec.get("post_processor") or {})


def prefixing(token: str, i: int) -> dict[str, Any]:
    """A post-processor that puts the token `i` before a text."""
    first, second = (
        [
            {"SpecialToken": {"id": token, "type_id": number}},
            {"Sequence": {"id": text, "type_id": number}},
        ]
        for number, text in enumerate("AB")
    )
    return {
        "type": "TemplateProcessing",
        "single": first,
        "pair": first + second,
        "special_tokens": {token: {"id": token, "ids": [i], "tokens": [token]}},
    }


def _before_text(step: dict[str, Any]) -> list[int]:
    if step.get("type") == "Sequence":
        # Each puts its own around what the ones before it made.
        inner = [_before_text(part) for part in step["processors"]]
        return [i for ids in reversed(inner) for i in ids]
    if step.get("type") in ("BertProcessing", "RobertaProcessing"):
        return [int(step["cls"][1])]
    if step.get("type") != "TemplateProcessing":
        return []
    ids: list[int] = []
    for part in step["single"]:
        if "SpecialToken" not in part:
            break
        ids += map(int, step["special_tokens"][part["SpecialToken"]["id"]]["ids"])
    return ids


def fingerprint(spec: Spec, bos: int | None, eos: int | None) -> str:
    """SHA-256 over everything that determines ids: vocabulary, merges, normalizer,
    pre-tokenizer, added tokens and the ids around a document."""
    model = {k: v for k, v in spec["model"].items() if v not in (None, False, "")}
    flags = ("id", "content", "special", "lstrip", "rstrip", "single_word", "normalized")
    facts = {
        "model": model,
        "normalizer": spec.get("normalizer"),
        "pre_tokenizer": spec.get("pre_tokenizer"),
        "added_tokens": [[token.get(flag) for flag in flags] for token in spec["added_tokens"]],
        "document": [bos, eos],
    }
    text = json.dumps(facts, sort_keys=True, ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()
