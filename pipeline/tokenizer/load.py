"""Finds what a tokenizer's name or path means, or which one lies beside a checkpoint."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from pipeline.tokenizer.formats import FILES, main_file, read
from pipeline.tokenizer.tokenizer import Tokenizer
from utils.artefacts import Source, read_manifest, source
from utils.errors import UsageError

# What people call them, the id on the hub, the folder under tokenizers/.
KNOWN = {
    "codellama": ("codellama/CodeLlama-7b-hf", "codellama_tokenizer"),
    "gpt2": ("openai-community/gpt2", "gpt2_tokenizer"),
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


def tokenizer_of(path: Path, named: str | None, tokenizers_dir: Path) -> Tokenizer:
    """The tokenizer of the checkpoint at `path`: the one beside it, else the one `named`.

    Raises:
        UsageError: neither is there.
        RefusedError: it is damaged.
    """
    where = tokenizer_beside(path) or named
    if where is None:
        raise UsageError(
            f"{path} holds no tokenizer.",
            remedy="name the one that it was trained with: --tokenizer NAME",
        )
    return load_tokenizer(where, tokenizers_dir)


def tokenizer_beside(path: Path) -> Path | None:
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
    if Path(text).exists():
        return _local(Path(text))
    if online:
        from pipeline.tokenizer.hub import find_online  # the hub's client is not always needed

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
        remedy="train one: {}; or fetch one: {}",
        commands=[("tokenize", "--train", "bpe"), ("tokenize", "--load", known)],
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
            remedy="train one: {}",
            commands=[("tokenize", "--train", "bpe")],
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
