"""The windows that a run trains on at any step, found by the same arithmetic as training.

Steps are counted from 1, as on a chart: the loss shown at step n is that of the windows of step
n. Tokens are mapped from disk, and torch is not imported.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np

from pipeline.options.config import TrainOptions
from pipeline.runs import folders
from pipeline.runs.record import read_record
from pipeline.sources.documents import Document, read_cleaned
from pipeline.sources.lines import check_listed
from pipeline.tokenizer.formats import read
from pipeline.tokenizer.load import load_tokenizer
from pipeline.tokenizer.tokenizer import Tokenizer
from pipeline.tokens.order import Indices, batch_positions, training_order, validation_order
from pipeline.tokens.shards import split_hash
from pipeline.tokens.token_set import TokenSet, open_tokens
from pipeline.tokens.windows import Windows
from utils.errors import HatcheryError, RefusedError
from utils.verification import DamagedFileError

_SEARCHED = 512 * 1024 * 1024  # bytes of clean documents read for the titles of a window


class Excerpt(NamedTuple):
    """A document in a window: its row in the shard's table, and its tokens [begin, end) of the
    `tokens` it has; `text` is what they say."""

    row: int
    begin: int
    end: int
    tokens: int
    text: str


class Window(NamedTuple):
    """A training example: `tokens` of the shard from `start` on, the last only as a target."""

    number: int
    shard: str
    start: int
    tokens: int
    excerpts: list[Excerpt]


class RunWindows:
    """The windows of a run, by step.

    Raises:
        HatcheryError: the run's record, its tokens or their tokenizer cannot be read.
    """

    def __init__(self, run: Path, tokenizers_dir: Path) -> None:
        record = read_record(run)
        options = _order_options(run, record.options)
        self.batch_size, self.accumulation = options.batch_size, options.gradient_accumulation_steps
        self.data = open_tokens(
            Path(record.data), window=options.window, val_split=options.val_split, check="sizes"
        )
        self.remade = self.data.fingerprint != record.fingerprints.get("data")
        """Whether the tokens were made anew since: then these are not the windows it saw."""
        self._tokenizer = _tokenizer_of(self.data, run, tokenizers_dir)
        self._train = training_order(len(self.data.train), shuffle=True, seed=options.seed)
        self._val = validation_order(len(self.data.val))

    @property
    def steps_per_epoch(self) -> float:
        """Steps in which as many tokens are seen as the text has."""
        return self.data.train.epoch / (self.batch_size * self.accumulation)

    @property
    def validation_batches(self) -> int:
        return -(-len(self.data.val) // self.batch_size)

    def indices(self, step: int, *, validation: bool = False) -> Indices:
        """Which windows step `step` takes, or validation batch `step`, both counted from 1."""
        if validation:
            chosen = self._val(batch_positions([step - 1], self.batch_size)[0])
            return chosen[chosen >= 0]
        micro = np.arange((step - 1) * self.accumulation, step * self.accumulation)
        return self._train(batch_positions(micro, self.batch_size).reshape(-1))

    def ids(self, index: int, *, validation: bool = False) -> list[int]:
        """The tokens of a window: inputs all but the last, targets all but the first."""
        windows = self._windows(validation)
        length = int(windows.spans([index]).length[0])
        return [int(i) for i in windows.gather([index])[0][:length]]

    def window(self, index: int, *, validation: bool = False) -> Window:
        """A window with the documents in it."""
        windows = self._windows(validation)
        shard, parts = windows.documents_in(index)
        start = int(windows.spans([index]).start[0])
        ids = self.ids(index, validation=validation)
        record = self.data.metadata.shards[shard]
        table = _table(self.data, shard)
        excerpts = []
        for part in parts:
            first = int(table["start"][part.document])
            following = part.document + 1
            end = int(table["start"][following]) if following < len(table) else record.tokens
            begin = start + part.begin - first
            size = part.end - part.begin
            text = self.text(ids[part.begin : part.end])
            excerpts.append(Excerpt(part.document, begin, begin + size, end - first, text))
        return Window(index, record.name, start, len(ids), excerpts)

    def _windows(self, validation: bool) -> Windows:
        return self.data.val if validation else self.data.train

    def text(self, ids: Sequence[int]) -> str:
        """What ids say, control tokens by name."""
        out: list[str] = []
        held: list[int] = []
        for i in [*ids, -1]:
            if i >= 0 and i not in self._tokenizer.controls:
                held.append(i)
                continue
            out.append(self._tokenizer.text_bytes(held, fresh=False)[0].decode(errors="replace"))
            held.clear()
            if i >= 0:
                out.append(self._tokenizer.piece(i))
        return "".join(out)

    def documents(
        self, window: Window, go_on: Callable[[], bool] = lambda: True
    ) -> dict[int, Document]:
        """The clean documents in a window by their row, as far as they are still where they were;
        reads up to 512 MiB of them."""
        shard = [record.name for record in self.data.metadata.shards].index(window.shard)
        table = _table(self.data, shard)
        requested = {int(table["hash"][excerpt.row]): excerpt.row for excerpt in window.excerpts}
        found: dict[int, Document] = {}
        read_bytes = 0
        for name in self.data.metadata.shards[shard].inputs:
            try:
                check_listed(Path(name))
                for document in read_cleaned(Path(name), text_field=self.data.text_field):
                    read_bytes += len(document.text)
                    row = requested.get(split_hash(document.id))
                    if row is not None:
                        found[row] = document
                    if len(found) == len(requested) or read_bytes > _SEARCHED or not go_on():
                        return found
            except DamagedFileError:
                raise
            except (HatcheryError, OSError):
                continue  # cleaned anew, moved or removed since
        return found


def _order_options(run: Path, given: dict[str, Any]) -> TrainOptions:
    """What decides the order of the windows; other settings may be of another version."""
    deciding = ("batch_size", "gradient_accumulation_steps", "window", "seed", "val_split")
    try:
        data = msgspec.json.encode({name: given[name] for name in deciding if name in given})
        return TrainOptions.model_validate_json(data)
    except ValueError as error:
        raise RefusedError(
            f"The settings in {run / 'run.json'} cannot be understood.",
            found=str(error).splitlines()[0],
            remedy="it may be of a newer version of this program",
        ) from error


def _table(data: TokenSet, shard: int) -> Any:
    name = data.metadata.shards[shard].name
    return np.load(data.folder / f"documents_{name}.npy", mmap_mode="r", allow_pickle=False)


def _tokenizer_of(data: TokenSet, run: Path, tokenizers_dir: Path) -> Tokenizer:
    """The tokenizer that made the tokens, from where it lay or from a checkpoint of the run."""
    try:
        tokenizer = load_tokenizer(data.metadata.tokenizer.path, tokenizers_dir)
        data.check_tokenizer(tokenizer)
    except (HatcheryError, OSError):
        for checkpoint in reversed(folders.step_folders(run)):
            if (checkpoint / "tokenizer.json").is_file():
                tokenizer = read(checkpoint, data.metadata.tokenizer.name)
                data.check_tokenizer(tokenizer)
                return tokenizer
        raise
    return tokenizer
