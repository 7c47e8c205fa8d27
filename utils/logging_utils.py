"""Metrics written twice: TensorBoard files for people, raw JSON lines for programs."""

import math
import socket
from collections.abc import Mapping
from pathlib import Path

import msgspec

from utils.files import AppendLog

_LONGEST_LINE = 65536  # bytes


class DualLogger:
    """Writes scalar metrics to `tensorboard/<run>` and `raw_metrics/<run>.jsonl` under `folder`.

    `resumed_at` is the step that a run goes on from. What a killed process logged after it comes
    again: TensorBoard is told to forget it, and raw lines of a second and later process have its
    number as `attempt`; the highest counts.

    TensorBoard's own writer is used directly: torch's wrapper would bring torch into this layer.
    It is loaded only when it is used, because importing it takes half a second.
    """

    def __init__(
        self, folder: Path, run: str, *, tensorboard: bool = True, resumed_at: int | None = None
    ) -> None:
        path = folder / "raw_metrics" / f"{run}.jsonl"
        self._raw = AppendLog(path)
        self._attempt = _attempts(path) + 1
        board = folder / "tensorboard" / run
        self._board = _TensorBoard(board, resumed_at) if tensorboard else None

    def log(self, step: int, values: Mapping[str, float], time: float) -> None:
        """Write `values` of `step`, measured at `time` seconds since 1970; NaN becomes null."""
        again = {"attempt": self._attempt} if self._attempt > 1 else {}
        record = {"step": step, "time": time, **again, **values}
        self._raw.write(msgspec.json.encode(record))
        if self._board is not None:
            self._board.log(step, values, time)

    def close(self) -> None:
        self._raw.close()
        if self._board is not None:
            self._board.close()


def _attempts(path: Path) -> int:
    """How many processes have written to a file of raw metrics."""
    with path.open("rb") as lines:
        lines.seek(max(0, path.stat().st_size - _LONGEST_LINE))
        last = lines.read().splitlines()[-1:]
    try:
        return msgspec.json.decode(last[0], type=_Line).attempt if last else 0
    except msgspec.DecodeError:
        return 1


class _Line(msgspec.Struct):
    attempt: int = 1


class _TensorBoard:
    """TensorBoard's event file; on resuming it begins by purging the steps after `resumed_at`."""

    def __init__(self, folder: Path, resumed_at: int | None) -> None:
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        self._event, self._summary = Event, Summary
        self._writer = EventFileWriter(str(folder), filename_suffix=f".{socket.gethostname()}")
        if resumed_at is not None:
            start = SessionLog(status=SessionLog.START)
            self._writer.add_event(Event(step=resumed_at + 1, session_log=start))

    def log(self, step: int, values: Mapping[str, float], time: float) -> None:
        scalars = [
            self._summary.Value(tag=name, simple_value=value)
            for name, value in values.items()
            if math.isfinite(value)
        ]
        summary = self._summary(value=scalars)
        self._writer.add_event(self._event(wall_time=time, step=step, summary=summary))

    def close(self) -> None:
        self._writer.close()
