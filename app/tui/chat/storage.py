"""Conversations on disk: logs/chats/*.jsonl, one turn a line, written as soon as it is whole."""

import re
import secrets
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import msgspec

from app.tui.chat.conversation import Conversation, Turn
from app.tui.chat.wording import figures_line
from utils.errors import HatcheryError
from utils.files import AppendLog, disk_error, write_file

_SHOWN = 200  # conversations that are listed
_TITLE, _LONGEST = ".title", 200  # the file beside it that names it, and characters of that
_HEAD = 16384  # bytes read of each to name it
_NAME = re.compile(r"\d{4}(_\d\d){5}-[0-9a-f]{4}")


@dataclass(frozen=True)
class SavedChat:
    """A conversation in the list; `time` is its last change, seconds since 1970."""

    name: str
    title: str
    model: str
    time: float


class ChatStore:
    """The folder of conversations. Turns are written by one thread, in order."""

    def __init__(self, logs: Path) -> None:
        self._folder = logs / "chats"
        self._writer = ThreadPoolExecutor(1, "chats")

    @staticmethod
    def new_name() -> str:
        """A name for a conversation that no other has."""
        return f"{time.strftime('%Y_%m_%d_%H_%M_%S')}-{secrets.token_hex(2)}"

    def append(self, name: str, turn: Turn) -> "Future[None]":
        """Keep a turn; the future fails with a HatcheryError where that is not possible."""
        return self._writer.submit(self._append, name, turn)

    def _append(self, name: str, turn: Turn) -> None:
        path = self._folder / f"{name}.jsonl"
        try:
            log = AppendLog(path)
            try:
                log.write(msgspec.json.encode(turn))
            finally:
                log.close()
        except OSError as error:
            raise _unkept(error, path) from error

    def load(self, name: str) -> Conversation:
        """A conversation; lines that are torn or of a newer version are left out."""
        try:
            data = (self._folder / f"{name}.jsonl").read_bytes()
        except OSError:
            return Conversation()
        conversation = Conversation(_turns(data))
        conversation.name = self._title(name)
        return conversation

    def search(self, saved: Iterable[SavedChat], wanted: str) -> frozenset[str]:
        """The names of those that hold every word of `wanted`, in what was asked or answered."""
        words = wanted.casefold().split()
        found = []
        for one in saved:
            texts = [turn.text for turn in self.load(one.name).turns.values()]
            whole = "\n".join([one.title, *texts]).casefold()
            if all(word in whole for word in words):
                found.append(one.name)
        return frozenset(found)

    def rename(self, name: str, title: str) -> None:
        """Give a conversation a title of its own; an empty one takes it away.

        Raises:
            HatcheryError: it cannot be written.
        """
        path = self._folder / f"{name}{_TITLE}"
        try:
            if title:
                write_file(path, title[:_LONGEST])
            else:
                path.unlink(missing_ok=True)
        except OSError as error:
            raise _unkept(error, path) from error

    def remove(self, name: str) -> None:
        """Delete a conversation, after what is still to be written of it.

        Raises:
            HatcheryError: it cannot be deleted.
        """
        self._writer.submit(self._remove, name).result()

    def _remove(self, name: str) -> None:
        for path in (self._folder / f"{name}.jsonl", self._folder / f"{name}{_TITLE}"):
            try:
                path.unlink(missing_ok=True)
            except OSError as error:
                raise _unkept(error, path) from error

    def _title(self, name: str) -> str:
        try:
            text = (self._folder / f"{name}{_TITLE}").read_text("utf-8", "replace")
        except OSError:
            return ""
        return " ".join(text[:_LONGEST].split())

    def recent(self) -> list[SavedChat]:
        """The conversations, newest first."""
        found: list[tuple[float, Path]] = []
        for path in self._folder.glob("*.jsonl"):
            try:
                found.append((path.stat().st_mtime, path))
            except OSError:
                continue
        found.sort(reverse=True)
        return [
            kept
            for modified, path in found[:_SHOWN]
            if (kept := _named(path, modified, self._title(path.stem))) is not None
        ]

    def save(self, name: str, conversation: Conversation) -> Path:
        """Write the shown path as Markdown beside the log.

        Raises:
            HatcheryError: it cannot be written.
        """
        path = self._folder / f"{name}.md"
        date = time.strftime("%Y-%m-%d %H:%M", time.localtime(time.time()))
        try:
            write_file(path, as_markdown(conversation, date))
        except OSError as error:
            raise _unkept(error, path) from error
        return path


def _unkept(error: OSError, path: Path) -> HatcheryError:
    meant = disk_error(error, path)
    if isinstance(meant, HatcheryError):
        return meant
    return HatcheryError("The conversation is not kept.", found=f"{path}: {error.strerror}")


def _turns(data: bytes) -> Iterator[Turn]:
    for line in data.split(b"\n"):
        try:
            yield msgspec.json.decode(line, type=Turn)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            continue


def _named(path: Path, modified: float, given: str) -> SavedChat | None:
    if not _NAME.fullmatch(path.stem):
        return None
    try:
        with path.open("rb") as handle:
            read = list(_turns(handle.read(_HEAD)))
    except OSError:
        return None
    head = Conversation(read)
    if read and not head.turns:
        return None  # its only question was withdrawn
    models = [turn.model for turn in head.turns.values() if turn.model]
    title = given or head.title or path.stem
    return SavedChat(path.stem, title, models[-1] if models else "", modified)


def as_markdown(conversation: Conversation, date: str) -> str:
    """The shown path as a document that any editor opens; texts are quoted as they are."""
    lines = [f"# {conversation.title or 'Conversation'}", "", date, ""]
    for turn in conversation.path:
        who = ("Prompt" if turn.mode == "complete" else "You") if turn.role == "user" else "Answer"
        lines += [f"## {who}{f' of {turn.model}' if turn.model else ''}", ""]
        fence = "`" * max(3, _longest_fence(turn.text) + 1)
        lines += [f"{fence}text", turn.text, fence, ""]
        if line := figures_line(turn):
            lines += [line, ""]
    return "\n".join(lines)


def _longest_fence(text: str) -> int:
    longest = run = 0
    for character in text:
        run = run + 1 if character == "`" else 0
        longest = max(longest, run)
    return longest
