"""What was measured, run by run, so that runs can be laid side by side.

Reads run.json, the newest state.json and the validation lines of events.jsonl; weights are not
read and torch is not imported. Whatever cannot be read is absent, never an error.
"""

import csv
import io
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from model.config import ModelConfig, parameter_count
from pipeline.runs.record import RunRecord, read_record, state_of
from pipeline.runs.validations import Curve, Point
from utils.artefacts import read_manifest
from utils.errors import HatcheryError
from utils.files import write_file, write_json

BENCHMARKS = Path("benchmark_results")
"""Where benchmarks, votes and exported tables are written."""


@dataclass(frozen=True)
class Result:
    """What one run measured.

    Losses are nats per token of its own tokenizer, `bits_per_byte` is of text; both are the best
    of the run. `data` and `tokenizer` are names; `text` and `vocabulary` tell whether two runs
    were measured on the same text, and with the same ids.
    """

    name: str
    path: Path
    parameters: int | None = None
    tokens: int | None = None
    steps: int | None = None
    val_loss: float | None = None
    bits_per_byte: float | None = None
    seconds: float | None = None
    data: str = ""
    tokenizer: str = ""
    text: str = ""
    vocabulary: str = ""
    curve: tuple[Point, ...] = ()

    @property
    def tokens_per_second(self) -> float | None:
        return self.tokens / self.seconds if self.tokens and self.seconds else None


class Reader:
    """Reads the results of a folder of runs again and again; curves are read on, not anew."""

    def __init__(self) -> None:
        self._curves: dict[Path, Curve] = {}

    def results(self, checkpoints_dir: Path) -> list[Result]:
        """Every run with a record, newest first."""
        found = [path for path in checkpoints_dir.glob("[!.]*") if (path / "run.json").is_file()]
        found.sort(key=lambda path: path.name, reverse=True)
        return [self.result(path) for path in found]

    def result(self, run: Path) -> Result:
        """What one run measured."""
        curve = tuple(self._curves.setdefault(run, Curve(run / "events.jsonl")).points())
        best = min(curve, key=lambda point: point.loss, default=None)
        state = newest_state(run)
        steps = _whole(state.get("step")) or (curve[-1].step if curve else None)
        loss = best.loss if best else _number(state.get("best_loss"))
        measured = Result(
            name=run.name,
            path=run,
            tokens=_whole(state.get("tokens")),
            steps=steps,
            val_loss=loss,
            bits_per_byte=best.bits if best else None,
            seconds=_number(state.get("seconds")),
            curve=curve,
        )
        try:
            record = read_record(run)
        except HatcheryError:
            return measured
        return Result(**(vars(measured) | _origins(record)))


def _origins(record: RunRecord) -> dict[str, Any]:
    """What a run was made of: parameters, and names and identities of data and tokenizer."""
    folder = Path(record.data)
    prints = record.fingerprints
    origins: dict[str, Any] = {
        "parameters": parameters_of(record.model),
        "data": folder.name.removesuffix("_dataset"),
        "text": prints.get("data", ""),
        "vocabulary": prints.get("tokenizer", ""),
        "tokenizer": prints.get("tokenizer", "")[:8],
    }
    try:
        manifest = read_manifest(folder)
    except (HatcheryError, OSError):
        return origins
    if manifest is not None and manifest.fingerprint == prints.get("data") and manifest.inputs:
        *texts, tokenizer = manifest.inputs
        split = f"{manifest.made_by.options.get('split')} {record.options.get('val_split')}"
        origins["text"] = " ".join([*(source.fingerprint for source in texts), split])
        origins["tokenizer"] = Path(tokenizer.path).name
    return origins


def parameters_of(model: dict[str, Any]) -> int | None:
    """Parameters of a recorded model; None where it is of another version."""
    try:
        return parameter_count(ModelConfig.model_validate_json(msgspec.json.encode(model)))
    except (ValueError, TypeError):
        return None


def newest_state(run: Path) -> dict[str, Any]:
    """state.json of the newest checkpoint that has an intact one."""
    for folder in sorted(run.glob("checkpoint_step_*"), key=lambda p: (len(p.name), p.name))[::-1]:
        if state := state_of(folder):
            return state
    return {}


class Best(NamedTuple):
    """The best of `runs` runs that compare with each other; `scope` names what they share."""

    column: str
    name: str
    value: float
    runs: int
    scope: str


def best_of(results: Sequence[Result]) -> list[Best]:
    """The best run of every group that compares, in groups of two and more.

    Losses compare among runs with the same tokenizer on the same text, bits per byte on the same
    text whatever the tokenizer.
    """
    found = []
    columns = (("val_loss", ("text", "vocabulary")), ("bits_per_byte", ("text",)))
    for column, shared in columns:
        groups: dict[tuple[str, ...], list[Result]] = {}
        for result in results:
            if getattr(result, column) is not None:
                key = tuple(getattr(result, name) for name in shared)
                groups.setdefault(key, []).append(result)
        for group in groups.values():
            if len(group) > 1:
                best = min(group, key=lambda result: float(getattr(result, column)))
                scope = best.data if column == "bits_per_byte" else f"{best.data}, {best.tokenizer}"
                found.append(Best(column, best.name, getattr(best, column), len(group), scope))
    return found


def caution(results: Sequence[Result]) -> str:
    """What may be compared here."""
    there = [result for result in results if result.val_loss is not None]
    tokenizers = {result.vocabulary for result in there}
    texts = {result.text for result in there}
    if len(there) < 2:
        return ""
    if len(texts) > 1:
        return (
            f"The runs were validated on {len(texts)} different texts: a loss or bits per byte "
            "compares only between runs on the same data"
            + (", a loss also only with the same tokenizer." if len(tokenizers) > 1 else ".")
        )
    if len(tokenizers) > 1:
        return (
            f"{len(tokenizers)} tokenizers: a loss is per token, so it compares only between runs "
            "with the same one. Bits per byte compares them all."
        )
    return "Same text and tokenizer: every column compares."


_COLUMNS = (
    *("name", "parameters", "tokens", "steps", "val_loss", "bits_per_byte", "tokens_per_second"),
    *("seconds", "data", "tokenizer"),
)


def export(results: Sequence[Result], folder: Path, stamp: str) -> tuple[Path, Path]:
    """Write `results_<stamp>.csv` and `.json` into `folder`; the JSON has the curves too.

    Raises:
        OSError, DiskFullError: it cannot be written.
    """
    text = io.StringIO()
    table = csv.writer(text)
    table.writerow(_COLUMNS)
    for result in results:
        values = (getattr(result, column) for column in _COLUMNS)
        table.writerow(["" if value is None else value for value in values])
    csv_path, json_path = folder / f"results_{stamp}.csv", folder / f"results_{stamp}.json"
    write_file(csv_path, text.getvalue().encode(errors="replace"))
    write_json(json_path, [_plain(result) for result in results])
    return csv_path, json_path


def _plain(result: Result) -> dict[str, Any]:
    row = asdict(result) | {"name": _encodable(result.name), "path": _encodable(str(result.path))}
    row["curve"] = [point._asdict() for point in result.curve]
    row["tokens_per_second"] = result.tokens_per_second
    return row


def _encodable(name: str) -> str:
    """A file name that was never valid text, as UTF-8 can hold it."""
    return name.encode(errors="replace").decode()


def _whole(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) else None
