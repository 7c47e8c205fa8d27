"""Where conversations come from: files of rows, a corpus, LIMA on the Hugging Face hub, votes.

Each gives what it holds one by one, as a conversation or a preference, or as the reason why it is
none; nothing here knows a tokenizer.
"""

import platform
from collections.abc import Callable, Generator, Iterator, Sequence
from pathlib import Path
from threading import Event as StopSignal
from typing import Any, NamedTuple, TypeAlias

from pipeline import corpora, missing
from pipeline.conversations.conversation import Preference, Turn
from pipeline.conversations.docstrings import library_questions
from pipeline.conversations.mining.mine import NotMined, mine
from pipeline.conversations.shapes import Parsed, parse
from pipeline.evaluation import hub, votes
from pipeline.evaluation.tasks.task import HubSet, RowError
from pipeline.events import Event
from pipeline.missing import MissingError
from pipeline.options.config import Config
from pipeline.sources.documents import Document, cleaned_files, read_cleaned
from pipeline.sources.input_files import PassedOver, expand_inputs
from pipeline.sources.items import as_input
from pipeline.sources.lines import Damage
from pipeline.sources.raw import read_items
from pipeline.sources.records import RejectedError, untyped
from pipeline.sources.rejection import Rejection
from utils import json_text
from utils.artefacts import Source, build_folder, read_manifest, source
from utils.errors import UsageError
from utils.files import printable_name

LIMA = hub.Wanted(
    "lima",
    "LIMA",
    HubSet("GAIR/lima", None, "train"),
    "accept its conditions in a browser, save train.jsonl and give that file: {}",
    (("lima", "--input", "train.jsonl"),),
)
_KEPT = "fetched_conversations"
"""Of the folder of data, the one that keeps what was fetched, as it was published."""
_ROWS = "rows.jsonl"
_SHOWN = 80  # characters of what was found and given up

Found: TypeAlias = Parsed | Rejection


class Origin(NamedTuple):
    """Something that conversations are read from: the name of a set of them, what it is made from,
    and the reading itself, which may be done again."""

    name: str
    lineage: list[Source]
    read: Callable[[], Iterator[Found]]


def from_files(paths: Sequence[Path], passed_over: PassedOver) -> Origin:
    """Files, folders and globs of rows in any shape; `passed_over` counts what is not read.

    Raises:
        UsageError: there is nothing to read.
    """
    files = [file for file in expand_inputs(paths, passed_over) if not _is_reject(file)]
    if not files:
        raise UsageError(
            f"There are no conversations at {paths[0]}.",
            found="nothing but files of rejects",
            remedy="give files of conversations, one on each line",
        )
    lineage = [source(file) for file in files]
    return Origin(
        corpora.name_of(paths), lineage, lambda: (found for f in files for found in _in_file(f))
    )


def _is_reject(file: Path) -> bool:
    return file.name.startswith("rejected_")


def _in_file(path: Path) -> Iterator[Found]:
    name = printable_name(str(path))
    for item in read_items(as_input(path, name)):
        if isinstance(item, Damage):
            yield Rejection(item.reason, name, item.detail)
            continue
        where = f"{name}:{item.number}"
        if not item.is_row:
            reason = "give one conversation on each line, as JSON"
            yield Rejection("not_json", where, reason)
            return
        try:
            row = untyped(item.content) if isinstance(item.content, bytes) else item.content
        except RejectedError as error:
            yield Rejection(error.reason, where, error.detail)
            continue
        yield _parsed(row, where)


def _parsed(row: Any, where: str) -> Found:
    try:
        return parse(row, where)
    except RejectedError as error:
        return Rejection(error.reason, where, error.detail)


def from_hub(data_dir: Path, stop: StopSignal) -> Generator[Event, None, Origin | None]:
    """LIMA (Zhou et al. 2023), fetched once and kept; None where it was stopped.

    Raises:
        NetworkError: it cannot be reached, or asks for an account.
    """
    folder = data_dir / _KEPT / LIMA.name
    if read_manifest(folder) is None:
        fetched = yield from hub.fetch_rows(LIMA, stop)
        if fetched is None:
            return None
        folder.parent.mkdir(parents=True, exist_ok=True)
        options = LIMA.settings
        with build_folder(folder, kind="rows", command="lima", options=options) as builder:
            builder.facts = LIMA.settings | {"commit": fetched.commit}
            rows = (_as_row(row) for _, row in fetched.rows)
            builder.write(_ROWS, b"".join(json_text.encode(row) + b"\n" for row in rows))
    return Origin(LIMA.name, [source(folder)], lambda: _in_file(folder / _ROWS))


def _as_row(row: Any) -> Any:
    """A row as JSON can hold it; one that could not be read is told when it is parsed."""
    return str(row) if isinstance(row, RowError) else row


def from_corpus(config: Config, name: str) -> Origin:
    """Conversations found by rule in the clean documents of a corpus, those of a trial where there
    are no others. Python's own library needs none: its docstrings are read where they are.

    Raises:
        UsageError: there are none; names the commands that make them.
    """
    name = corpora.checked_name(name)
    if corpora.source_called(name).embedded:
        return from_docstrings()
    places = [config.cleaned_dir(name, test=test) for test in (False, True)]
    folder = next((place for place in places if read_manifest(place) is not None), None)
    if folder is None:
        raise MissingError(
            f"There are no clean documents of {name} yet.",
            f"no {places[0]}{corpora.others_than(name, config.paths.data_dir)}",
            commands=missing.cleaning(config, name),
        )
    return Origin(name, [source(folder)], lambda: _mined(folder))


def _mined(folder: Path) -> Iterator[Found]:
    for found in mine(_documents(folder)):
        if isinstance(found, NotMined):
            detail = f"{found.rule}: {' / '.join(found.texts)[:_SHOWN]}"
            yield Rejection(found.reason, found.where, detail)
        else:
            yield Parsed(found, found.rule)


def _documents(folder: Path) -> Iterator[Document]:
    for file in cleaned_files(folder):
        yield from read_cleaned(file)


def from_docstrings() -> Origin:
    """Questions and answers from the documentation of this Python's library."""
    lineage = [Source("the library of Python", platform.python_version())]
    return Origin(
        "python_questions", lineage, lambda: (Parsed(one, one.rule) for one in library_questions())
    )


def from_votes(folder: Path) -> Origin:
    """Pairs of answers to one message of which a person chose one.

    Raises:
        UsageError: nobody has voted yet.
    """
    file = folder / votes.FILE
    if not file.is_file():
        raise UsageError(
            "There are no votes to learn from yet.",
            found=f"no {file}",
            remedy="open Compare in the app, let two models answer a message, and vote",
        )
    return Origin("votes", [source(file)], lambda: _of_votes(folder))


def _of_votes(folder: Path) -> Iterator[Found]:
    cast = votes.read(folder)
    for number, vote in enumerate(cast.votes, 1):
        where = f"{votes.FILE}, vote {number}"
        if not vote.chat:
            yield Rejection("not_a_chat", where, "a text was continued, no message answered")
        elif vote.winner is None:
            yield Rejection("no_winner", where)
        elif len(vote.answers) != len(vote.models):
            yield Rejection("answers_not_kept", where, "the vote is of an older version")
        else:
            best = vote.models.index(vote.winner)
            for other, answer in enumerate(vote.answers):
                if other != best:
                    yield _compared(vote.prompt, vote.answers[best], answer, where)
    for _ in range(cast.unreadable):
        yield Rejection("not_json", votes.FILE, "a line that is no vote")


def _compared(prompt: str, chosen: str, rejected: str, where: str) -> Found:
    if not (prompt.strip() and chosen.strip() and rejected.strip()):
        return Rejection("empty_answer", where)
    if chosen == rejected:
        return Rejection("same_answers", where)
    return Parsed(Preference((Turn("user", prompt),), chosen, rejected, where), "vote")
