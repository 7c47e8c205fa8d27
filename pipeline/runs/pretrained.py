"""Models of others: what a name on the Hugging Face hub means, and its files on this machine.

Only weights as safetensors, JSON and tokenizer files are fetched, into Hugging Face's own cache:
no pickle, no code. What is there is used without asking the network again.
"""

import os
import re
from pathlib import Path
from typing import Any

from model.huggingface.config import read_json_object
from pipeline.tokenizer import chat_template
from utils.errors import NetworkError, UsageError
from utils.files import home_path, require_space

KNOWN = {
    "gpt2": "openai-community/gpt2",
    "gpt2-medium": "openai-community/gpt2-medium",
    "gpt2-large": "openai-community/gpt2-large",
    "gpt2-xl": "openai-community/gpt2-xl",
}
"""Short names and what they are called on the hub."""

_CONFIG, _WEIGHTS, _INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"
_PATTERNS = [
    _CONFIG,
    _WEIGHTS,
    _INDEX,
    "model-*.safetensors",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    chat_template.FILE,
    "special_tokens_map.json",
    "vocab.json",
    "merges.txt",
]
_ID = re.compile(r"[\w.-]+/[\w.-]+(@[\w./-]+)?")
_SECONDS = 30


def hub_id(where: str) -> str | None:
    """`owner/name` or `owner/name@revision` of what the user typed, None where it is no such name.

    A path into a folder that exists is none, however it is spelled.
    """
    name, at, revision = where.partition("@")
    if name in KNOWN:
        return KNOWN[name] + at + revision
    if not _ID.fullmatch(where) or where.startswith("."):
        return None
    return None if Path(where.partition("/")[0]).exists() else where


def kept(identity: str) -> Path | None:
    """The folder of `owner/name[@revision]` in the cache, None unless all its weights are there."""
    from huggingface_hub import snapshot_download

    repository, _, revision = identity.partition("@")
    try:
        here = snapshot_download(
            repository,
            revision=revision or None,
            allow_patterns=_PATTERNS,
            local_files_only=True,
        )
    except Exception:  # the client says "not here" in many ways
        return None
    return Path(here) if _is_whole(Path(here)) else None


def missing_model(where: str | None) -> str | None:
    """The model of the hub that `where` names, None unless it is yet to be fetched."""
    if where is None or home_path(where).exists():
        return None
    identity = hub_id(where)
    return identity if identity is not None and kept(identity) is None else None


def fetch(identity: str) -> Path:
    """The folder of `owner/name[@revision]` in the cache; its name is the commit. HF_ENDPOINT
    names another hub.

    Raises:
        NetworkError: it is not here and cannot be reached, or the hub knows no such name.
        UsageError: it holds no safetensors weights.
        DiskFullError: there is no room for it.
    """
    here = kept(identity)
    return here if here is not None else _download(identity)


def _download(identity: str) -> Path:
    from huggingface_hub import HfApi, constants, snapshot_download
    from huggingface_hub.utils.tqdm import disable_progress_bars

    disable_progress_bars()  # a stage never prints
    repository, _, revision = identity.partition("@")
    endpoint = os.environ.get("HF_ENDPOINT")
    try:
        info = HfApi(endpoint=endpoint).model_info(
            repository, revision=revision or None, files_metadata=True, timeout=_SECONDS
        )
    except Exception as error:
        raise _unreachable(identity, error) from error
    sizes = {file.rfilename: file.size or 0 for file in info.siblings or []}
    _refuse_pickles(identity, sizes)
    needed = sum(size for name, size in sizes.items() if _is_fetched(name))
    require_space(Path(constants.HF_HUB_CACHE), needed)
    try:
        folder = snapshot_download(
            repository,
            revision=revision or None,
            allow_patterns=_PATTERNS,
            endpoint=endpoint,
            etag_timeout=_SECONDS,
        )
    except Exception as error:
        raise _unreachable(identity, error) from error
    return Path(folder)


def _is_fetched(name: str) -> bool:
    return name in _PATTERNS or bool(re.fullmatch(r"model-[^/]*\.safetensors", name))


def _refuse_pickles(identity: str, files: dict[str, Any]) -> None:
    if _CONFIG in files and (_WEIGHTS in files or _INDEX in files):
        return
    raise UsageError(
        f"{identity} has no weights that can be opened safely.",
        found=", ".join(sorted(files)[:8]) or "an empty repository",
        remedy=f"choose a repository with {_CONFIG} and {_WEIGHTS}; pickles from a hub are never "
        "opened",
    )


def _is_whole(folder: Path) -> bool:
    if not (folder / _CONFIG).is_file():
        return False
    if (folder / _WEIGHTS).is_file():
        return True
    if not (folder / _INDEX).is_file():
        return False
    shards = read_json_object(folder / _INDEX).get("weight_map", {}).values()
    return bool(shards) and all((folder / str(shard)).is_file() for shard in shards)


def _unreachable(identity: str, error: Exception) -> NetworkError:
    """One paragraph for what the client, its HTTP library or the socket may raise."""
    lines = str(error).strip().splitlines()
    return NetworkError(
        f"{identity} could not be fetched from {os.environ.get('HF_ENDPOINT') or 'Hugging Face'}.",
        found=f"{type(error).__name__}: {lines[0] if lines else 'no answer'}",
        remedy="check the name and the network, or give a folder with its config.json, "
        "model.safetensors and tokenizer files",
    )
