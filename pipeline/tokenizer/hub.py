"""Tokenizer files from the Hugging Face hub: only those files, never code."""

import os
import tempfile
from pathlib import Path

from pipeline.tokenizer import chat_template
from pipeline.tokenizer.formats import read
from pipeline.tokenizer.load import Found, online_path
from pipeline.tokenizer.tokenizer import Tokenizer
from utils.artefacts import Source
from utils.errors import NetworkError

_FILES = [
    "tokenizer.json",
    "tokenizer_config.json",
    chat_template.FILE,
    "special_tokens_map.json",
    "tokenizer.model",
    "vocab.json",
    "merges.txt",
]
_SECONDS = 30


def find_online(identity: str, name: str) -> Found:
    """The tokenizer of a repository `owner/name` or `owner/name@revision`; contacts nobody yet.

    Its origin is the commit that the revision stands for, and that commit is what is fetched.
    HF_ENDPOINT names another hub.
    """
    repository, _, revision = identity.partition("@")
    commits: list[str] = []

    def origin() -> Source:
        return Source(online_path(repository), commit())

    def commit() -> str:
        if not commits:
            commits.append(_commit(repository, revision or None))
        return commits[0]

    def open_it() -> Tokenizer:
        return _fetch(repository, commit(), name)

    return Found(name, origin, open_it)


def _endpoint() -> str | None:
    return os.environ.get("HF_ENDPOINT")


def _commit(repository: str, revision: str | None) -> str:
    from huggingface_hub import HfApi

    try:
        info = HfApi(endpoint=_endpoint()).model_info(
            repository, revision=revision, timeout=_SECONDS
        )
    except Exception as error:
        raise _unreachable(repository, error) from error
    return str(info.sha)


def _fetch(repository: str, commit: str, name: str) -> Tokenizer:
    from huggingface_hub import snapshot_download
    from huggingface_hub.utils.tqdm import disable_progress_bars

    disable_progress_bars()  # a stage never prints
    with tempfile.TemporaryDirectory() as folder:
        try:
            snapshot_download(
                repository,
                revision=commit,
                allow_patterns=_FILES,
                local_dir=folder,
                endpoint=_endpoint(),
                etag_timeout=_SECONDS,
            )
        except Exception as error:
            raise _unreachable(repository, error) from error
        return read(Path(folder), name)


def _unreachable(repository: str, error: Exception) -> NetworkError:
    """One paragraph for what the client, its HTTP library or the socket may raise."""
    lines = str(error).strip().splitlines()
    return NetworkError(
        f"The tokenizer {repository} could not be fetched from {_endpoint() or 'Hugging Face'}.",
        found=f"{type(error).__name__}: {lines[0] if lines else 'no answer'}",
        remedy="check the name and the network, or take its files from a folder: {}; or train "
        "your own: {}",
        commands=[("tokenize", "--load", "FOLDER"), ("tokenize", "--train", "bpe")],
    )
