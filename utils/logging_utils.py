"""Metrics written twice: TensorBoard files for people, raw JSON lines for programs."""

import math
import socket
from collections.abc import Mapping
from pathlib import Path

import msgspec

from utils.files import AppendLog


class DualLogger:
    """Writes scalar metrics to `tensorboard/<run>` and `raw_metrics/<run>.jsonl` under `folder`.

    TensorBoard's own writer is used directly: torch's wrapper would bring torch into this layer.
    It is loaded only when it is used, because importing it takes half a second.
    """

    def __init__(self, folder: Path, run: str, *, tensorboard: bool = True) -> None:
        self._raw = AppendLog(folder / "raw_metrics" / f"{run}.jsonl")
        self._board = _TensorBoard(folder / "tensorboard" / run) if tensorboard else None

    def log(self, step: int, values: Mapping[str, float], time: float) -> None:
        """Write `values` of `step`, measured at `time` seconds since 1970; NaN becomes null."""
        record = {"step": step, "time": time, **values}
        self._raw.write(msgspec.json.encode(record))
        if self._board is not None:
            self._board.log(step, values, time)

    def close(self) -> None:
        self._raw.close()
        if self._board is not None:
            self._board.close()


class _TensorBoard:
    def __init__(self, folder: Path) -> None:
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        self._event, self._summary = Event, Summary
        self._writer = EventFileWriter(str(folder), filename_suffix=f".{socket.gethostname()}")

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
