"""What a manifest says: contents, how and by whom they were made, and from what."""

import hashlib
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from utils import VERSION
from utils.files import Written


class MadeBy(msgspec.Struct, frozen=True):
    """Who made an artefact: the stage's command, its options, our version, and when."""

    command: str
    options: dict[str, Any]
    version: str
    commit: str | None
    time: str


class Source(msgspec.Struct, frozen=True):
    """Something an artefact was made from."""

    path: str
    fingerprint: str


class Manifest(msgspec.Struct, frozen=True):
    """The contents of `manifest.json`.

    `fingerprint` covers names and checksums of all files, so equal contents have equal ones;
    `checksum` covers the manifest itself.
    """

    kind: str
    made_by: MadeBy
    inputs: list[Source]
    files: dict[str, Written]
    fingerprint: str
    facts: dict[str, Any] = {}
    checksum: str = ""

    def own_checksum(self) -> str:
        """What `checksum` must be."""
        values: dict[str, Any] = msgspec.to_builtins(self)
        del values["checksum"]
        return digest(values)


def made_by(command: str, options: Mapping[str, Any]) -> MadeBy:
    """Lineage of something made now by `command` with `options` (JSON values)."""
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    return MadeBy(command, dict(options), VERSION, _git_commit(), now)


def _git_commit() -> str | None:
    """The commit of this checkout, read without running git; None outside a checkout."""
    git = Path(__file__).parent.parent / ".git"
    try:
        head = (git / "HEAD").read_text().strip()
        return (git / head[5:]).read_text().strip() if head.startswith("ref: ") else head
    except OSError:
        return None


def digest(value: object) -> str:
    """SHA-256 of a JSON value, the same for equal values."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()
