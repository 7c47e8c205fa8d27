"""What the data screen has open: documents, tokenizers, windows of a run, conversations. Used from
threads, one at a time; what they need is imported there (NumPy and the cleaner, 0.2 s)."""

from collections.abc import Callable, Mapping
from pathlib import Path
from random import Random
from threading import Lock
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

from pipeline import corpora
from pipeline.options.config import Config
from utils.errors import HatcheryError

if TYPE_CHECKING:
    from pipeline.cleaner.steps import Rejection
    from pipeline.inspection.conversations import InspectedItem, InspectedSet
    from pipeline.inspection.documents import Corpus, DocumentPosition, InspectedDocument
    from pipeline.inspection.rejected import Reason
    from pipeline.inspection.tokens import TokenizerCache, Tokens
    from pipeline.inspection.trace import Use
    from pipeline.inspection.windows import RunWindows, Window
    from pipeline.sources.documents import Document

Move: TypeAlias = Literal["number", "by", "random", "title", "where"]


class OpenDocument(NamedTuple):
    """A document to show: `where` says which it is, `note` what else the user should know."""

    look: "InspectedDocument"
    uses: "list[Use]"
    where: str
    note: str = ""


class Batch(NamedTuple):
    """The windows of a step, or of a validation batch."""

    run: str
    step: int
    validation: bool
    numbers: list[int]
    size: int
    about: str
    remade: bool


class DataSession:
    """Opens what is asked for and keeps it open; every method may take seconds."""

    def __init__(self, config: Config, random: Random) -> None:
        self._config, self._random, self._lock = config, random, Lock()
        self._corpus: Corpus | None = None
        self._position: DocumentPosition | None = None
        self._number: int | None = 0
        self._tokenizers: TokenizerCache | None = None
        self._windows: dict[Path, RunWindows] = {}
        self._examples: InspectedSet | None = None

    # Documents.

    def _opened(self) -> "Corpus":
        from pipeline.inspection.documents import Corpus, raw_files

        if self._corpus is None:
            self._corpus = Corpus(raw_files(self._config))
        return self._corpus

    def document(
        self, move: Move, value: "int | str | Rejection", go_on: Callable[[], bool]
    ) -> OpenDocument | None:
        """Go to a document and look at it; None where `go_on` said no on the way.

        Raises:
            HatcheryError: there are no raw files, or no document there.
            OSError: a file went away.
        """
        from pipeline.inspection.trace import uses

        with self._lock:
            corpus = self._opened()
            position, number, note = self._moved(corpus, move, value, go_on)
            if not go_on():
                return None
            if position is None:
                raise HatcheryError("There is no such document.", found=note)
            self._position, self._number = position, number
            look = corpus.look(position, self._config.cleanup.min_words)
            where = f"document {number + 1:,} · " if number is not None else ""
            where += (
                f"file {position.file + 1:,} of {len(corpus.files):,} · {corpus.where(position)}"
            )
            return OpenDocument(look, uses(look.raw, look.marks), where, note)

    def _moved(
        self,
        corpus: "Corpus",
        move: Move,
        value: "int | str | Rejection",
        go_on: Callable[[], bool],
    ) -> "tuple[DocumentPosition | None, int | None, str]":
        """The document asked for, its number where it is known, and a note."""
        here = self._position or corpus.at(0, go_on)
        if here is None:
            return None, 0, "the raw files of this corpus hold none"
        if move == "number":
            requested = max(0, int(value) - 1)  # type: ignore[arg-type]
            found = corpus.at(requested, go_on)
            return (
                found,
                requested,
                "" if found else f"there are fewer than {requested + 1:,} documents",
            )
        if move == "by":
            ahead = int(value) > 0  # type: ignore[arg-type]
            found = corpus.after(here) if ahead else corpus.before(here)
            if found is None:
                return here, self._number, f"this is the {'last' if ahead else 'first'} document"
            known = self._number
            return found, None if known is None else known + (1 if ahead else -1), ""
        if move == "random":
            return corpus.anywhere(self._random) or here, None, ""
        if move == "title":
            found, hit = corpus.titled(str(value), here, go_on)
            if hit:
                return found, None, ""
            return found, None, f"no title with {value!r} up to here: . searches on"
        assert not isinstance(value, int | str)
        return corpus.find(value.where, value.detail), None, f"nothing at {value.where} any more"

    # Rejected documents.

    def reasons(self) -> "list[Reason]":
        """Why documents of the corpus were rejected."""
        from pipeline.inspection.rejected import read_rejected

        source = self._config.source
        folders = [self._config.cleaned_dir(source, test=test) for test in (False, True)]
        return read_rejected(next((f for f in folders if f.is_dir()), folders[0]))

    def raw_of(self, example: "Rejection") -> str:
        """The raw text at the place of a rejected document.

        Raises:
            HatcheryError: there are no raw files, or it is not in them.
        """
        from pipeline.sources.lines import Damage

        with self._lock:
            corpus = self._opened()
            position = corpus.find(example.where, example.detail)
            if position is None:
                raise HatcheryError(f"{example.where} is not among the raw files any more.")
            item = corpus.item(position)
        if isinstance(item, Damage):
            return f"({item.reason}: {item.detail})"
        raw = item.content
        return raw.decode(errors="replace") if isinstance(raw, bytes) else str(raw)

    # Tokens.

    def tokens(self, text: str) -> "list[Tokens]":
        """`text` as each tokenizer there is sees it."""
        from pipeline.inspection.tokens import TokenizerCache

        with self._lock:
            self._tokenizers = self._tokenizers or TokenizerCache(self._config.paths.tokenizers_dir)
            return [self._tokenizers.tokens(name, text) for name in self._tokenizers.names()]

    # Windows.

    def runs(self) -> list[Path]:
        """Runs with a record, newest first."""
        found = self._config.paths.checkpoints_dir.glob("[!.]*/run.json")
        return sorted((path.parent for path in found), key=lambda run: run.name, reverse=True)

    def _run(self, run: Path) -> "RunWindows":
        from pipeline.inspection.windows import RunWindows

        if run not in self._windows:
            self._windows[run] = RunWindows(run, self._config.paths.tokenizers_dir)
        return self._windows[run]

    def batch(self, run: Path, step: int, *, validation: bool) -> Batch:
        """The windows of a step of `run`, both counted from 1.

        Raises:
            HatcheryError: the run, its tokens or their tokenizer cannot be read.
        """
        with self._lock:
            windows = self._run(run)
            last = windows.validation_batches
            step = max(1, min(step, last) if validation else step)
            numbers = [int(n) for n in windows.indices(step, validation=validation)]
            if validation:
                about = f"validation batch {step:,} of {last:,}, the same at every validation"
            else:
                epoch = (step - 1) / windows.steps_per_epoch
                about = f"step {step:,} · {100 * (epoch % 1):.0f} % into epoch {int(epoch) + 1}"
            size = windows.data.train.window
            return Batch(run.name, step, validation, numbers, size, about, windows.remade)

    def window(self, run: Path, number: int, *, validation: bool) -> "Window":
        """One window, decoded."""
        with self._lock:
            return self._run(run).window(number, validation=validation)

    def titles(
        self, run: Path, window: "Window", go_on: Callable[[], bool]
    ) -> "Mapping[int, Document]":
        """The documents in a window, looked for among the clean ones."""
        with self._lock:
            return self._run(run).documents(window, go_on)

    # Conversations.

    def example_sets(self) -> list[Path]:
        """The sets that models are tuned on, the newest first."""
        return [folder for folder, _ in corpora.example_sets(self._config.paths.data_dir)]

    def open_set(self, folder: Path) -> "tuple[InspectedSet, list[Rejection]]":
        """A set, and what was left out of it: of each reason the first few hundred.

        Raises:
            HatcheryError: it or its tokenizer cannot be read.
        """
        from pipeline.inspection.conversations import InspectedSet

        with self._lock:
            self._examples = InspectedSet(folder, self._config.paths.tokenizers_dir)
            left_out = [one for reason in self._examples.left_out() for one in reason.examples]
            return self._examples, left_out

    def item(self, number: int) -> "InspectedItem | None":
        """An item of the open set, counted from 0; None where no set is open."""
        with self._lock:
            return self._examples.item(number) if self._examples is not None else None

    def row_of(self, left_out: "Rejection", go_on: Callable[[], bool]) -> str:
        """The row that was left out of the open set, where it can be read again."""
        with self._lock:
            return self._examples.row_of(left_out, go_on) if self._examples is not None else ""
