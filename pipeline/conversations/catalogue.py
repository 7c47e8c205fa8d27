"""Which sets of examples there are, by their manifests alone: for boards, pickers and defaults."""

from pathlib import Path
from typing import NamedTuple

from pipeline.conversations.example_set import FOLDER, KIND
from utils.artefacts import Manifest, read_manifest
from utils.errors import HatcheryError


class Listed(NamedTuple):
    """A whole set in its folder; `made` is UTC, as YYYY-MM-DDTHH:MM:SSZ."""

    folder: Path
    manifest: Manifest

    @property
    def made(self) -> str:
        return self.manifest.made_by.time

    @property
    def size(self) -> str:
        """How many conversations or pairs, and of them how many tokens are learned."""
        facts = self.manifest.facts
        kept = _count(facts.get("kept"))
        kind = "pair" if facts.get("kind") == "preferences" else "conversation"
        return (
            f"{kept:,} {kind}{'s' * (kept != 1)}, "
            f"{_count(facts.get('learned_tokens')):,} learned tokens"
        )


def example_sets(data_dir: Path) -> list[Listed]:
    """The whole sets of a data folder, the one made last first; what is damaged is no set."""
    found: list[Listed] = []
    try:
        folders = sorted((data_dir / FOLDER).glob("[!.]*"))
    except OSError:
        return []
    for folder in folders:
        try:
            manifest = read_manifest(folder) if folder.is_dir() else None
        except (HatcheryError, OSError):
            continue
        if manifest is not None and manifest.kind == KIND:
            found.append(Listed(folder, manifest))
    return sorted(found, key=lambda one: (one.made, one.folder.name), reverse=True)


def _count(value: object) -> int:
    return value if isinstance(value, int) else 0
