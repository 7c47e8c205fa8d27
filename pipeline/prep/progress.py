"""How far a preparation is, from what its workers report."""

import time
from collections.abc import Iterator, Sequence

from pipeline.events import Progress
from pipeline.prep.plan import Group
from pipeline.prep.worker import Advance, ShardDone
from utils.units import human_count

_FRAME = 0.15  # seconds between progress events


class PrepareProgress:
    """What workers have reported, as progress of the stage.

    The total is known in documents with --test, else in bytes of input: within a group the bytes
    of text stand for it (JSON and compression make the file differ), at its end its size counts.
    """

    def __init__(self, groups: Sequence[Group]) -> None:
        self._sizes = [group.bytes for group in groups]
        self._text = [0] * len(groups)
        self._ended = [False] * len(groups)
        self._documents = self._tokens = self._bytes = 0
        self._fresh_bytes = self._fresh_documents = 0  # encoded now, not by an earlier attempt
        self._began = self._shown = time.monotonic()
        self.total, self.unit = sum(self._sizes), "bytes"

    def restore(self, done: Sequence[ShardDone], limits: Sequence[int] | None) -> None:
        """Count what an earlier attempt finished, and begin the clock."""
        if limits is not None:
            self.total, self.unit = sum(limits), "documents"
        for shard in done:
            self._text[shard.group] += shard.text_bytes
            self._ended[shard.group] |= shard.last
            self._documents += shard.read
            self._tokens += shard.tokens
            self._bytes += shard.text_bytes
        self._began = self._shown = time.monotonic()

    def add(self, message: Advance | ShardDone) -> Iterator[Progress]:
        """Count a message; yields when it is time to show it."""
        if isinstance(message, ShardDone):
            self._ended[message.group] |= message.last
        else:
            self._text[message.group] += message.text_bytes
            self._documents += message.documents
            self._tokens += message.tokens
            self._bytes += message.text_bytes
            self._fresh_bytes += message.text_bytes
            self._fresh_documents += message.documents
        now = time.monotonic()
        if now - self._shown >= _FRAME:
            self._shown = now
            yield self.event()

    def event(self) -> Progress:
        """The state now, ready to print."""
        seconds = max(time.monotonic() - self._began, 1e-9)
        return Progress(
            done=self._documents if self.unit == "documents" else self._done_bytes(),
            total=self.total,
            unit=self.unit,
            figures={
                "documents": human_count(self._documents),
                "tokens": human_count(self._tokens),
                "bytes per token": f"{self._bytes / max(self._tokens, 1):.2f}",
                "speed": f"{self._fresh_bytes / 1e6 / seconds:.1f} MB/s, "
                f"{self._fresh_documents / seconds:.0f} documents/s",
            },
        )

    def figures(self) -> dict[str, float]:
        """Time and speed of this attempt."""
        seconds = time.monotonic() - self._began
        speed = self._fresh_bytes / 1e6 / max(seconds, 1e-9)
        return {"seconds": round(seconds, 2), "megabytes_per_second": round(speed, 2)}

    def _done_bytes(self) -> int:
        groups = zip(self._sizes, self._text, self._ended, strict=True)
        return sum(size if ended else min(size, text) for size, text, ended in groups)
