"""Finds what a tokenizer's name or path means and reads it, whatever its file format."""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pipeline.tokenizer import Tokenizer
from pipeline.tokenizer_sentencepiece import convert
from pipeline.tokenizer_spec import Spec
from utils.artefacts import MANIFEST, Source, read_manifest, source, verify
from utils.errors import HatcheryError, RefusedError, UsageError

# What people call them, the id on the hub, the folder under tokenizers/.
KNOWN = {
    "codellama": ("codellama/CodeLlama-7b-hf", "codellama_tokenizer"),
    "gpt2": ("openai-community/gpt2", "gpt2_tokenizer"),
}
_PAIRS = (("vocab.json", "merges.txt"), ("encoder.json", "vocab.bpe"))
_ROLE_NAMES = {
    "bos": ("<s>", "<bos>", "<|begin_of_text|>", "<|endoftext|>"),
    "eos": ("</s>", "<eos>", "<|end_of_text|>", "<|endoftext|>"),
    "pad": ("<pad>",),
    "unk": ("<unk>",),
}


@dataclass(frozen=True)
class Found:
    """A tokenizer that was found but not read yet: its folder's name, origin and reader.

    `saved` is its folder under tokenizers/ when it is already there.
    """

    name: str
    origin: Callable[[], Source]
    open: Callable[[], Tokenizer]
    saved: Path | None = None


def load_tokenizer(where: str | Path, tokenizers_dir: Path) -> Tokenizer:
    """The tokenizer that `where` means: a name under `tokenizers_dir`, a folder, a file, or a
    Hugging Face id.

    Raises:
        UsageError: nothing of the kind is there, or it cannot be reached.
        RefusedError: it is damaged.
    """
    return find(where, tokenizers_dir).open()


def find(where: str | Path, tokenizers_dir: Path, *, refetch: bool = False) -> Found:
    """What `where` means: a name under `tokenizers_dir`, a folder, a file or a Hugging Face id.

    `refetch` passes over a copy of something online.

    Raises:
        UsageError: none of these.
    """
    text = str(where)
    identity, folder = KNOWN.get(text, (text, text))
    online = identity.count("/") == 1 and not text.startswith((".", "/", "~"))
    saved = saved_folder(text, tokenizers_dir) or (
        _copy_of(identity, tokenizers_dir) if online else None
    )
    if saved and not (refetch and online):
        return replace(_local(saved), saved=saved)
    if Path(text).exists():
        return _local(Path(text))
    if online:
        from pipeline.tokenizer_hub import find_online  # the hub's client is not always needed

        repository = identity.partition("@")[0]
        return find_online(identity, folder if text in KNOWN else repository.split("/")[1])
    raise missing(text, tokenizers_dir)


def missing(text: str, tokenizers_dir: Path) -> UsageError:
    """What to say where nothing is called `text`: those there are, and how to make one."""
    names = sorted(p.name for p in tokenizers_dir.glob("[!.]*") if p.is_dir())
    known = text if text in KNOWN else "codellama"
    return UsageError(
        f"There is no tokenizer {text} on this machine.",
        found=f"in {tokenizers_dir}: {', '.join(names) or 'none'}",
        remedy="train one: python main.py tokenize --train bpe; or fetch one: "
        f"python main.py tokenize --load {known}",
    )


def newest(tokenizers_dir: Path) -> Path:
    """The folder of the tokenizer made last.

    Raises:
        UsageError: there is none.
    """
    made = {
        folder: manifest.made_by.time
        for folder in sorted(tokenizers_dir.glob("[!.]*"))
        if (manifest := read_manifest(folder)) is not None and manifest.kind == "tokenizer"
    }
    if not made:
        raise UsageError(
            f"There is no tokenizer in {tokenizers_dir} yet.",
            remedy="train one: python main.py tokenize --train bpe",
        )
    return max(made, key=lambda folder: made[folder])


def saved_folder(text: str, tokenizers_dir: Path) -> Path | None:
    """The folder under `tokenizers_dir` of a name, or of a path that leads there.

    A folder that is really called `gpt2` comes before what that name usually stands for.
    """
    names = [name for name in (text, KNOWN.get(text, ("", text))[1]) if Path(name).name == name]
    for path in [tokenizers_dir / name for name in names] or [Path(text)]:
        if path.is_dir() and path.parent.resolve() == tokenizers_dir.resolve():
            return path
    return None


def _copy_of(identity: str, tokenizers_dir: Path) -> Path | None:
    """The folder that an earlier run fetched `owner/name` into, so that nothing goes online."""
    repository, _, revision = identity.partition("@")
    for folder in sorted(tokenizers_dir.glob("[!.]*")):
        manifest = read_manifest(folder)
        for origin in manifest.inputs if manifest else []:
            if origin.path == online_path(repository) and origin.fingerprint.startswith(revision):
                return folder
    return None


def online_path(repository: str) -> str:
    """What lineage calls a repository of the hub."""
    return f"https://huggingface.co/{repository}"


def _local(path: Path) -> Found:
    name = (path.resolve().parent if path.is_file() else path.resolve()).name or "tokenizer"
    return Found(name, lambda: source(main_file(path)), lambda: read(path, name))


def main_file(path: Path) -> Path:
    """The file of `path` that holds the vocabulary.

    Raises:
        UsageError: a folder without one.
    """
    if path.is_file():
        return path
    names = ["tokenizer.json", "tokenizer.model", *(vocab for vocab, _ in _PAIRS)]
    for name in names:
        if (path / name).is_file():
            return path / name
    inside = sorted(entry.name for entry in path.iterdir())
    raise UsageError(
        f"{path} does not hold a tokenizer.",
        found=", ".join(inside[:6]) + (" …" if len(inside) > 6 else "") or "an empty folder",
        remedy=f"it should hold one of {', '.join(names)}",
    )


def read(path: Path, name: str) -> Tokenizer:
    """Read a folder or file; the manifest is verified where there is one.

    Raises:
        UsageError: not a tokenizer, or of a kind that cannot give text back.
        RefusedError: damaged.
    """
    file = main_file(path)
    if path.is_dir() and (path / MANIFEST).is_file() and read_manifest(path):
        verify(path, [file.name])
    roles: dict[str, str] = {}
    try:
        if file.name.endswith(".model"):
            spec, roles = convert(file.read_bytes())
        else:
            spec = _read_json(file)
            if not isinstance(spec.get("model"), dict):  # "model" is also a word of GPT-2
                spec = _byte_level(spec, _merges_beside(file))
        settings = _settings(file.parent)
        roles = _roles(spec, settings) or roles
        template = settings.get("chat_template")
        listed = map(_content, settings.get("additional_special_tokens", []))
        more = [text for text in listed if text]
        return Tokenizer(spec, name, roles, template if isinstance(template, str) else None, more)
    except HatcheryError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise RefusedError(
            f"{file} is not a whole tokenizer.",
            found=f"{type(error).__name__}: {error}",
            remedy="fetch or train it again",
        ) from error


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise RefusedError(
            f"{path} is damaged: it is not JSON.", found=str(error), remedy="fetch it again"
        ) from error
    if not isinstance(value, dict):
        raise RefusedError(f"{path} is not a tokenizer.", found=f"a JSON {type(value).__name__}")
    return value


def _settings(folder: Path) -> dict[str, Any]:
    """What the files beside the vocabulary say; the more specific file wins."""
    settings: dict[str, Any] = {}
    for name in ("special_tokens_map.json", "tokenizer_config.json"):
        if (folder / name).is_file():
            known = _read_json(folder / name)
            settings |= {key: value for key, value in known.items() if value is not None}
    return settings


def _roles(spec: Spec, settings: dict[str, Any]) -> dict[str, str]:
    """The tokens that begin and end documents, as declared, else by their usual names."""
    exist = spec["model"]["vocab"].keys() | {t["content"] for t in spec.get("added_tokens") or []}
    special = {t["content"] for t in spec.get("added_tokens") or [] if t["special"]}
    roles: dict[str, str] = {}
    for role, usual in _ROLE_NAMES.items():
        text = _content(settings.get(f"{role}_token"))
        if text is not None and text in exist:
            roles[role] = text
        elif role != "pad" and (known := [name for name in usual if name in special]):
            roles[role] = known[0]
    return roles


def _content(token: Any) -> str | None:
    """The text of a token written as a string or as an object; None where there is none."""
    text = token.get("content") if isinstance(token, dict) else token
    return text if isinstance(text, str) else None


def _merges_beside(vocab: Path) -> list[list[str]]:
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
