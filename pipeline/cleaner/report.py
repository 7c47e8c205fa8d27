"""What cleanup says at its end: the figures of its manifest as people read them, and advice."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pipeline import corpora
from pipeline.cleaner.worker import CHANGED, CleaningCounts
from pipeline.events import Finished, Warned
from pipeline.sources.encodings import BINARY
from pipeline.sources.formats.parquet_files import TOO_LARGE
from pipeline.sources.formats.text_files import UNKNOWN
from pipeline.sources.input_files import in_words
from utils.artefacts import Manifest
from utils.errors import HatcheryError

PASSED_OVER = "files_passed_over"
"""Among the facts of clean documents: how many files of which kind were not read, by reason."""
_NAMED = 3  # files of an encoding
_BROKEN = frozenset({"truncated_gzip", "unreadable"})


def warnings(counts: CleaningCounts, target: Path) -> Iterator[Warned]:
    """What is odd about the files that were read, and what helps."""
    rejected = counts.rejected
    rejects = f"Look into {target}/rejected_*.jsonl"
    if _BROKEN & rejected.keys():
        yield Warned(
            message="Some input files are cut or damaged; what could be read of them was.",
            remedy=f"{rejects}, fetch those files again and rerun.",
        )
    if files := rejected.get(UNKNOWN, 0) + rejected.get(BINARY, 0):
        yield Warned(
            message=f"{_files(files)} in no encoding that is sure, or no text at all, and left out "
            "whole.",
            remedy=f"{rejects}, save as UTF-8 what is text and rerun.",
        )
    if files := rejected.get(CHANGED, 0):
        yield Warned(
            message=f"{_files(files)} left out whole: something wrote to them meanwhile.",
            remedy="Rerun when nothing writes there.",
        )
    if marks := counts.notes.marks_in_text:
        named = ", ".join(f"{mark} {number:,} times" for mark, number in marks.items())
        yield Warned(
            message=f"Marks of documents stand within texts and stay there: {named}.",
            remedy="A mark on a line of its own divides documents; give these lines of their own "
            "if they should.",
        )


def _files(number: int) -> str:
    return f"{number:,} files are" if number != 1 else "1 file is"


def summary(manifest: Manifest) -> dict[str, Any]:
    """The counts of a cleaned folder; its manifest has the removed characters too."""
    facts = dict(manifest.facts)
    facts.pop(corpora.GIVEN, None)
    if passed_over := facts.get(PASSED_OVER):
        facts["passed_over"] = in_words(passed_over)
    if decoded := facts.get("decoded_files"):
        facts["decoded"] = "; ".join(_decoded(name, **found) for name, found in decoded.items())
    if cut := facts.pop("cut_documents", None):
        facts["divided"] = f"{sum(cut.values()):,} documents, cut at {', '.join(cut)}"
    facts["removed_spans"] = {rule: spans for rule, (spans, _) in facts.pop("removed", {}).items()}
    return facts


def _decoded(encoding: str, files: int, names: Sequence[str]) -> str:
    """Files of an encoding, the first by name: `windows-1252: 2 files (a.txt, b.txt)`."""
    shown = ", ".join(names[:_NAMED]) + ", …" * (files > _NAMED)
    return f"{encoding}: {files:,} file{'s' * (files != 1)} ({shown})"


def finished(target: Path, manifest: Manifest, *, skipped: bool = False) -> Finished:
    """The last event, unless nothing survived.

    Raises:
        HatcheryError: no document was kept.
    """
    facts = summary(manifest)
    if not facts["kept"]:
        reasons = ", ".join(f"{count} {reason}" for reason, count in facts["rejected"].items())
        remedy, *flags = _remedy(facts["rejected"])
        raise HatcheryError(
            "No document survived cleaning.",
            found=f"{facts['read']} read; rejected: {reasons or 'none'}",
            remedy=f"look into {target}/rejected_*.jsonl; {remedy}",
            commands=[_again(target, manifest, flags)] if flags else [],
        )
    return Finished(summary=facts, path=str(target), skipped=skipped)


def _remedy(rejected: dict[str, int]) -> tuple[str, ...]:
    """What would keep most of what was rejected, and the flags that do it."""
    if rejected.get("no_text_field", 0) * 2 > sum(rejected.values()):
        return "--text-field says which field holds the text: {}", "--text-field", "NAME"
    if set(rejected) == {"body_not_read"}:
        return ("article_body is HTML and wikitext; fetch the structured contents instead",)
    if {UNKNOWN, BINARY}.issuperset(rejected):
        return ("save these files as UTF-8",)
    if set(rejected) == {TOO_LARGE}:
        return (
            "a few bytes of this file stand for gigabytes; write it anew with smaller row groups",
        )
    if "stub" in rejected:
        return "--min-words 0 keeps short texts: {}", "--min-words", "0"
    if _BROKEN.issuperset(rejected):
        return ("the files are cut or damaged: fetch them again",)
    return ("each has its reason there; give other files",)


def _again(target: Path, manifest: Manifest, flags: Sequence[str]) -> tuple[str, ...]:
    """The command that made the clean documents, with other `flags`."""
    made, given = manifest.made_by.options, manifest.facts.get(corpora.GIVEN)
    name = str(made["source"])
    words = ["--input", *given, "--name", name] if given else ["--source", name]
    words += ["--test"] * bool(made.get("test"))
    if target.name not in (name, f"{name}_test"):
        words += ["--output", str(target)]
    return ("cleanup", *words, *flags)
