"""Reads a tokenizer's files: tokenizer.json, SentencePiece's model, GPT-2's pair of files."""

import re
from pathlib import Path
from typing import Any

from pipeline.tokenizer import chat_template
from pipeline.tokenizer.sentencepiece import convert
from pipeline.tokenizer.spec import PREFIXED, PREFIXED_ONCE, Spec, prefixing, read_json
from pipeline.tokenizer.tokenizer import Tokenizer
from utils.artefacts import read_manifest
from utils.errors import HatcheryError, RefusedError, UsageError
from utils.verification import verify

_PAIRS = (("vocab.json", "merges.txt"), ("encoder.json", "vocab.bpe"))
_TIKTOKEN = re.compile(rb"(?:[A-Za-z0-9+/]+={0,2} \d+\r?\n){2}")
FILES = ("tokenizer.json", "tokenizer.model", *(vocab for vocab, _ in _PAIRS))
"""What may hold a vocabulary; the first that is there is read."""
_BESIDE = (
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    chat_template.FILE,
    *(merges for _, merges in _PAIRS),
)
_FLAGS = ("single_word", "lstrip", "rstrip", "normalized")
_ROLE_NAMES = {
    "bos": ("<s>", "<bos>", "<|begin_of_text|>", "<|endoftext|>"),
    "eos": ("</s>", "<eos>", "<|end_of_text|>", "<|endoftext|>"),
    "pad": ("<pad>",),
    "unk": ("<unk>",),
}


def main_file(path: Path) -> Path:
    """The file of `path` that holds the vocabulary.

    Raises:
        UsageError: a folder without one.
    """
    if path.is_file():
        return path
    for name in FILES:
        if (path / name).is_file():
            return path / name
    inside = sorted(entry.name for entry in path.iterdir())
    raise UsageError(
        f"{path} does not hold a tokenizer.",
        found=", ".join(inside[:6]) + (" …" if len(inside) > 6 else "") or "an empty folder",
        remedy=f"it should hold one of {', '.join(FILES)}",
    )


def read(path: Path, name: str) -> Tokenizer:
    """Read a folder or file; the manifest is verified where there is one.

    Raises:
        UsageError: not a tokenizer, or of a kind that cannot give text back.
        RefusedError: damaged.
    """
    file = main_file(path)
    manifest = read_manifest(path) if path.is_dir() else None
    if manifest is not None:
        verify(path, [file.name, *(name for name in _BESIDE if name in manifest.files)])
    roles: dict[str, str] = {}
    try:
        is_sentencepiece, has_own_rule = file.name.endswith(".model"), False
        content = file.read_bytes() if is_sentencepiece or file.suffix == ".tiktoken" else b""
        if content and _TIKTOKEN.match(content):
            raise _tiktoken(file)
        if is_sentencepiece:
            spec, roles = convert(content)
        else:
            spec = read_json(file)
            has_own_rule = isinstance(spec.get("model"), dict)  # "model" is also a word of GPT-2
            if not has_own_rule:
                spec = _byte_level(spec, _sibling_merges(file))
        settings = _settings(file.parent)
        _add_declared(spec, file.parent, settings, merge=not has_own_rule)
        from_text = not all(token["special"] for token in spec["added_tokens"])
        if is_sentencepiece and from_text and spec["normalizer"] == PREFIXED:
            spec["normalizer"] = PREFIXED_ONCE  # nothing is put behind an added token
        roles = _roles(spec, settings, file.parent) or roles
        if not has_own_rule:
            _prefix_bos(spec, settings, roles, usual=is_sentencepiece)
        listed = map(_content, settings.get("additional_special_tokens") or [])
        more = [text for text in listed if text]
        return Tokenizer(spec, name, roles, chat_template.template_of(file.parent), more)
    except HatcheryError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise RefusedError(
            f"{file} is not a whole tokenizer.",
            found=f"{type(error).__name__}: {error}",
            remedy="fetch or train it again",
        ) from error


def _tiktoken(file: Path) -> UsageError:
    return UsageError(
        f"{file} is a tiktoken file.",
        found="lines of a token in base64 and its rank, without the pattern that cuts text and "
        "without special tokens",
        remedy="take the tokenizer.json of the same model, which holds all of it: {}",
        commands=[("tokenize", "--load", "FOLDER_WITH_TOKENIZER_JSON")],
    )


def _settings(folder: Path) -> dict[str, Any]:
    """What the files beside the vocabulary say; the more specific file wins."""
    settings: dict[str, Any] = {}
    for name in ("special_tokens_map.json", "tokenizer_config.json"):
        if (folder / name).is_file():
            known = read_json(folder / name)
            settings |= known
    return settings


def _add_declared(spec: Spec, folder: Path, settings: dict[str, Any], *, merge: bool) -> None:
    """Put into `spec` the tokens that the files beside the vocabulary add to it.

    They are declared as text and id in added_tokens.json, with all their flags under
    added_tokens_decoder in tokenizer_config.json. A tokenizer.json is complete by itself, as
    transformers writes it: there (`merge` false) only tokens that it lacks are added.

    Raises:
        RefusedError: two files disagree on the id of a token.
    """
    special = {_content(settings.get(f"{role}_token")) for role in (*_ROLE_NAMES, "mask")}
    for name in ("additional_special_tokens", "extra_special_tokens"):
        listed = settings.get(name) or []
        tokens = listed.values() if isinstance(listed, dict) else listed
        special |= {_content(token) for token in tokens}
    declared: dict[str, dict[str, Any]] = {}
    listing = folder / "added_tokens.json"
    if listing.is_file():
        for text, i in read_json(listing).items():
            declared[text] = _added(text, i, special=text in special)
    for number, token in (settings.get("added_tokens_decoder") or {}).items():
        flags = {flag: bool(token.get(flag)) for flag in ("special", *_FLAGS) if flag in token}
        text, i = token["content"], int(number)
        if text in declared and declared[text]["id"] != i:
            raise _disagreement(text, declared[text]["id"], i)
        declared[text] = _added(text, i, special=text in special) | flags
    added = spec["added_tokens"] = [dict(token) for token in spec.get("added_tokens") or []]
    known = {token["content"]: token for token in added}
    for text, token in declared.items():
        there = known[text]["id"] if text in known else spec["model"]["vocab"].get(text)
        if there is not None and there != token["id"]:
            raise _disagreement(text, there, token["id"])
        if text not in known:
            added.append(token)
        elif merge:
            known[text].update(token)
    for token in added:
        if token["content"] in special:
            token["special"] = True


def _added(text: str, i: int, *, special: bool) -> dict[str, Any]:
    return {"id": i, "content": text, "special": special} | dict.fromkeys(_FLAGS, False)


def _disagreement(text: str, first: int, second: int) -> RefusedError:
    return RefusedError(
        f"The files of this tokenizer disagree on the token {text}.",
        found=f"id {first} in one, {second} in another",
        remedy="fetch the whole folder again, from one version",
    )


def _roles(spec: Spec, settings: dict[str, Any], folder: Path) -> dict[str, str]:
    """The tokens that begin and end documents, as declared, else by their usual names.

    Raises:
        RefusedError: a BOS or EOS is declared that the vocabulary does not have.
    """
    exist = spec["model"]["vocab"].keys() | {t["content"] for t in spec.get("added_tokens") or []}
    special = {t["content"] for t in spec.get("added_tokens") or [] if t["special"]}
    roles: dict[str, str] = {}
    for role, usual in _ROLE_NAMES.items():
        declared = settings.get(f"{role}_token", "")
        text = _content(declared)
        if declared is None:
            continue  # declared as none, which is more than not declared
        if text and text in exist:
            roles[role] = text
        elif text and role in ("bos", "eos"):
            raise RefusedError(
                f"This tokenizer declares {text} as its {role}_token and does not have it.",
                found=f"{len(exist)} tokens in {folder}, none of that name",
                remedy="fetch the file that adds it (added_tokens.json, tokenizer.json), or "
                f"correct {role}_token in tokenizer_config.json",
            )
        elif role != "pad" and (known := [name for name in usual if name in special]):
            roles[role] = known[0]
    return roles


def _prefix_bos(
    spec: Spec, settings: dict[str, Any], roles: dict[str, str], *, usual: bool
) -> None:
    """Let the post-processor put BOS before texts where `add_bos_token` says so, `usual` where
    nothing does. A tokenizer.json has a post-processor of its own, which decides as it does in
    transformers."""
    bos = roles.get("bos")
    if bos is None or not settings.get("add_bos_token", usual):
        return
    ids = spec["model"]["vocab"] | {t["content"]: t["id"] for t in spec.get("added_tokens") or []}
    spec["post_processor"] = prefixing(bos, ids[bos])


def _content(token: Any) -> str | None:
    """The text of a token written as a string or as an object; None where there is none."""
    text = token.get("content") if isinstance(token, dict) else token
    return text if isinstance(text, str) else None


def _sibling_merges(vocab: Path) -> list[list[str]]:
    names = dict(_PAIRS)
    path = vocab.with_name(names.get(vocab.name, "merges.txt"))
    if not path.is_file():
        raise UsageError(
            f"{vocab} has no merges beside it.",
            found=f"no {path.name} in {vocab.parent}",
            remedy=f"put {path.name} there, or give a tokenizer.json",
        )
    lines = path.read_bytes().decode().replace("\r\n", "\n").split("\n")
    pairs = [line.split(" ") for line in lines if line and not line.startswith("#version")]
    if wrong := [line for line in pairs if len(line) != 2]:
        raise RefusedError(f"{path} is damaged.", found=f"the merge {' '.join(wrong[0])[:80]!r}")
    return pairs


def _byte_level(vocab: dict[str, int], merges: list[list[str]]) -> Spec:
    """GPT-2's pipeline around a vocabulary and its merges."""
    step = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
    special = {"special": True, "normalized": False}
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip"), False)
    return {
        "version": "1.0",
        "added_tokens": [
            {"id": vocab[text], "content": text} | special | flags
            for text in ("<|endoftext|>",)
            if text in vocab
        ],
        "normalizer": None,
        "pre_tokenizer": step | {"use_regex": True},
        "post_processor": None,
        "decoder": step | {"use_regex": True},
        "model": {"type": "BPE", "vocab": vocab, "merges": merges},
    }
