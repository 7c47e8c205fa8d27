"""Finds the tokenizer that a name, a path or an id of the Hugging Face hub means.

Of a repository on the hub only the tokenizer's files are fetched, never code; HF_ENDPOINT names
another hub.
"""

import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pipeline.tokenizer import chat_template
from pipeline.tokenizer.formats import FILES, main_file, read
from pipeline.tokenizer.tokenizer import Tokenizer
from utils.artefacts import Source, read_manifest, source
from utils.errors import NetworkError, RefusedError, UsageError
from utils.files import home_path

# What people call them, the id on the hub, the folder under tokenizers/.
KNOWN = {
    "codellama": ("codellama/CodeLlama-7b-hf", "codellama_tokenizer"),
    "gpt2": ("openai-community/gpt2", "gpt2_tokenizer"),
}

_HUB_FILES = [
    "tokenizer.json",
    "tokenizer_config.json",
    chat_template.FILE,
    "special_tokens_map.json",
    "added_tokens.json",
    "tokenizer.model",
    "vocab.json",
    "merges.txt",
]
_HUB_SECONDS = 30  # without an answer


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


def tokenizer_of(path: Path, named: str | None, tokenizers_dir: Path) -> Tokenizer:
    """The tokenizer of the checkpoint at `path`: the one beside it, else the one `named`.

    Raises:
        UsageError: neither is there.
        RefusedError: it is damaged.
    """
    where = sibling_tokenizer(path) or named
    if where is None:
        raise UsageError(
            f"{path} holds no tokenizer.",
            remedy="name the one that it was trained with: --tokenizer NAME",
        )
    return load_tokenizer(where, tokenizers_dir)


def check_vocabulary(name: str, tokenizer: Tokenizer, known: int) -> None:
    """Refuse a tokenizer that has more ids than the model `name`, which knows so many.

    Raises:
        RefusedError: names both numbers.
    """
    if tokenizer.vocab_size > known:
        raise RefusedError(
            f"{name} and its tokenizer do not belong together.",
            found=f"the tokenizer {tokenizer.name} has {tokenizer.vocab_size:,} ids, the model "
            f"knows {known:,}",
            remedy="give the one that it was trained with: --tokenizer NAME",
        )


def sibling_tokenizer(path: Path) -> Path | None:
    """The folder that holds the tokenizer of a checkpoint folder or `.pt` file, None where there
    is none."""
    folders = (path,) if path.is_dir() else (path.parent, path.parent.parent)
    held = (f for f in folders if any((f / name).is_file() for name in FILES))
    return next((folder.absolute() for folder in held), None)


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
    if (path := home_path(text)).exists():
        return _local(path)
    if online:
        repository = identity.partition("@")[0]
        return _online(identity, folder if text in KNOWN else repository.split("/")[1])
    raise not_here(text, tokenizers_dir)


def not_here(text: str, tokenizers_dir: Path, texts: Sequence[str] = ()) -> UsageError:
    """What to say where nothing is called `text`: those there are, and how to make one, which is
    called so where a folder can be: what asked for it then works. `texts` are the flags that say
    from which."""
    names = sorted(p.name for p in tokenizers_dir.glob("[!.]*") if p.is_dir())
    known = text if text in KNOWN else "codellama"
    is_name = Path(text).name == text and text.isprintable() and not text.startswith((".", "-"))
    called = ("--name", text) if is_name and text not in KNOWN else ()
    return UsageError(
        f"There is no tokenizer {text} on this machine.",
        found=f"in {tokenizers_dir}: {', '.join(names) or 'none'}",
        remedy="train one: {}; or fetch one: {}",
        commands=[
            ("tokenize", "--train", "bpe", *called, *texts),
            ("tokenize", "--load", known, *called),
        ],
    )


def newest(tokenizers_dir: Path, texts: Sequence[str] = ()) -> Path:
    """The folder of the tokenizer made last; `texts` are the flags that say from which texts one
    is to be made where there is none.

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
            remedy="train one: {}",
            commands=[("tokenize", "--train", "bpe", *texts)],
        )
    return max(made, key=lambda folder: made[folder])


def saved_folder(text: str, tokenizers_dir: Path) -> Path | None:
    """The folder under `tokenizers_dir` of a name, or of a path that leads there.

    A folder that is really called `gpt2` comes before what that name usually stands for.
    """
    names = [name for name in (text, KNOWN.get(text, ("", text))[1]) if Path(name).name == name]
    for path in [tokenizers_dir / name for name in names] or [home_path(text)]:
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


def _online(identity: str, name: str) -> Found:
    """The tokenizer of a repository `owner/name` or `owner/name@revision`; contacts nobody yet.

    Its origin is the commit that the revision stands for, and that commit is what is fetched.
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
            repository, revision=revision, timeout=_HUB_SECONDS
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
                allow_patterns=_HUB_FILES,
                local_dir=folder,
                endpoint=_endpoint(),
                etag_timeout=_HUB_SECONDS,
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
