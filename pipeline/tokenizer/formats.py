"""Reads a tokenizer's files: tokenizer.json, SentencePiece's model, GPT-2's pair of files."""

from pathlib import Path
from typing import Any

from pipeline.tokenizer import chat_template
from pipeline.tokenizer.sentencepiece import convert
from pipeline.tokenizer.spec import Spec, prefixing, read_json
from pipeline.tokenizer.tokenizer import Tokenizer
from utils.artefacts import read_manifest, verify
from utils.errors import HatcheryError, RefusedError, UsageError

_PAIRS = (("vocab.json", "merges.txt"), ("encoder.json", "vocab.bpe"))
FILES = ("tokenizer.json", "tokenizer.model", *(vocab for vocab, _ in _PAIRS))
"""What may hold a vocabulary; the first that is there is read."""
_BESIDE = (
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    chat_template.FILE,
    *(merges for _, merges in _PAIRS),
)
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
        if is_sentencepiece:
            spec, roles = convert(file.read_bytes())
        else:
            spec = read_json(file)
            has_own_rule = isinstance(spec.get("model"), dict)  # "model" is also a word of GPT-2
            if not has_own_rule:
                spec = _byte_level(spec, _sibling_merges(file))
        settings = _settings(file.parent)
        roles = _roles(spec, settings) or roles
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


def _settings(folder: Path) -> dict[str, Any]:
    """What the files beside the vocabulary say; the more specific file wins."""
    settings: dict[str, Any] = {}
    for name in ("special_tokens_map.json", "tokenizer_config.json"):
        if (folder / name).is_file():
            known = read_json(folder / name)
            settings |= known
    return settings


def _roles(spec: Spec, settings: dict[str, Any]) -> dict[str, str]:
    """The tokens that begin and end documents, as declared, else by their usual names."""
    exist = spec["model"]["vocab"].keys() | {t["content"] for t in spec.get("added_tokens") or []}
    special = {t["content"] for t in spec.get("added_tokens") or [] if t["special"]}
    roles: dict[str, str] = {}
    for role, usual in _ROLE_NAMES.items():
        declared = settings.get(f"{role}_token", "")
        text = _content(declared)
        if declared is None:
            continue  # declared as none, which is more than not declared
        if text is not None and text in exist:
            roles[role] = text
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
    lines = path.read_bytes().decode().split("\n")
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
