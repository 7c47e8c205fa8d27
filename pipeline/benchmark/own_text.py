"""Documents of the user's own as they are judged: read as cleanup reads them, but not cleaned."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.cleaner.steps import Rejection, RequireText, RequireUtf8, Step, apply_steps
from pipeline.cleaner.wikimedia import SelectArticle
from pipeline.cleaner.worker import read_document
from pipeline.evaluation.files import MOST
from pipeline.sources.documents import Document, cleaned_files, read_documents
from pipeline.sources.input_files import PassedOver, in_words, merge_passed_over
from pipeline.sources.items import ReadingNotes, as_input
from pipeline.sources.raw import read_items
from utils.errors import UsageError
from utils.files import printable_name
from utils.units import counted, human_bytes


@dataclass(frozen=True)
class OwnTexts:
    """`rows` of documents with the places where they stand: `text`, `name` and, where there are
    several, `group`, the file. `where` says what was given, `notes` what was left out."""

    rows: tuple[tuple[str, dict[str, Any]], ...]
    where: str
    notes: tuple[str, ...]


def read_own_texts(paths: Sequence[Path]) -> OwnTexts:
    """The documents of files and folders of any kind that cleanup reads.

    Raises:
        UsageError: there is no text, or more than a benchmark holds in memory.
        DamagedFileError: a file differs from the manifest of its corpus.
    """
    passed_over: PassedOver = {}
    notes = ReadingNotes()
    files = cleaned_files(paths, passed_over)
    left_out: Counter[str] = Counter()
    rows: list[tuple[str, dict[str, Any]]] = []
    size = 0
    for file in files:
        group = printable_name(file.name) if len(files) > 1 else ""
        for document in _documents(file, notes):
            if isinstance(document, Rejection):
                left_out[document.reason] += 1
                continue
            size += len(document.text)
            if size > MOST:
                raise UsageError(
                    "There is more text than a benchmark holds in memory.",
                    found=f"more than {human_bytes(MOST)} by {file}",
                    remedy="give fewer of these files: --text FILE",
                )
            row = {"text": document.text, "name": document.id, "group": group}
            rows.append((document.id, row))
    where = ", ".join(str(path) for path in paths)
    if not rows:
        reasons = ", ".join(f"{reason} {count:,}" for reason, count in left_out.items())
        raise UsageError(
            f"There is no text in {where}.",
            found=reasons or "no documents",
            remedy="give files that hold text: --text FILE",
        )
    merge_passed_over(passed_over, notes.files_passed_over)
    said = [f"{in_words(passed_over)} passed over in {where}."] if in_words(passed_over) else []
    said += [
        f"{counted(count, 'document')} of {where} left out: {reason}."
        for reason, count in left_out.items()
    ]
    return OwnTexts(tuple(rows), where, tuple(said))


def _documents(file: Path, notes: ReadingNotes) -> Iterator[Document | Rejection]:
    if file.name.startswith("cleaned_"):  # a .txt has a document a line there
        for found in read_documents(file):
            yield found if isinstance(found, Document) else Rejection(found.reason)
        return
    source = as_input(file, printable_name(file.name))
    steps: list[Step] = [SelectArticle({}), RequireUtf8(), RequireText()]
    for item in read_items(source, notes=notes):
        document = read_document(item, source)
        yield document if isinstance(document, Rejection) else apply_steps(steps, document)
