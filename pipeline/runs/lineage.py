"""What a run is: how it was set, what it learned from, where it branched off, and what was made of
it: other runs and exports."""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, TypeAlias

from model.config import ModelConfig
from pipeline.options.config import TRAININGS, TrainOptions
from pipeline.runs.progress import steps_to_go_on_to
from pipeline.runs.record import RunRecord, read_record, record_of
from pipeline.runs.results import newest_state, parameters_of
from utils.artefacts import Source, read_manifest
from utils.errors import HatcheryError

Proofs: TypeAlias = tuple[tuple[str, str], ...]  # names of exports and what each says
EXPORTS = Path("exports")
PROOF = "chat_template"  # the fact of an export that says where conversations are the same tokens
_NO_SETTINGS = frozenset(("name", "resume", "data", "test"))
_FROM_DATA = frozenset(("vocab_size",))


@dataclass(frozen=True)
class Facts:
    """A run's record, and what became of its data and its relatives.

    `changed` are settings that are not the default; `planned` are the steps that a stopped run was
    to reach; `data_fault` says what became of the tokens; `branches` are runs that began from one
    of its checkpoints. `fault` is why there is no record.
    """

    created: str = ""
    version: str = ""
    parameters: int | None = None
    data: str = ""
    data_fault: str = ""
    tokenizer: str = ""
    parent: str = ""
    branches: tuple[str, ...] = ()
    changed: tuple[tuple[str, str], ...] = ()
    steps: int | None = None
    planned: int | None = None
    tokens: int | None = None
    seconds: float | None = None
    fault: str = ""


def facts_of(run: Path, checkpoints_dir: Path) -> Facts:
    """All that is known of `run` without reading weights; never fails."""
    try:
        record = read_record(run)
    except HatcheryError as error:
        return Facts(fault=error.problem)
    fault, tokenizer = _data(record)
    state = newest_state(run)
    numbers = {k: v for k, v in state.items() if isinstance(v, int | float)}
    return Facts(
        created=record.created,
        version=record.version,
        parameters=parameters_of(record.model),
        data=record.data,
        data_fault=fault,
        tokenizer=tokenizer,
        parent=_place(record.parent) if record.parent else "",
        branches=tuple(_branches(run, checkpoints_dir)),
        changed=tuple(_changed(record)),
        steps=int(numbers["step"]) if "step" in numbers else None,
        planned=steps_to_go_on_to(run),
        tokens=int(numbers["tokens"]) if "tokens" in numbers else None,
        seconds=float(numbers["seconds"]) if "seconds" in numbers else None,
    )


def trainings(checkpoint: Path) -> tuple[tuple[RunRecord, ...], str]:
    """The records of the runs that have trained the weights of a checkpoint, the last one first,
    and where the weights came from before; "" where the first of these runs drew them.

    A branch reads the tokens of its parent, and names what that began with. Of a checkpoint that is
    not there any more the record of its run tells.
    """
    found: list[RunRecord] = []
    with suppress(HatcheryError, OSError):
        found.append(record_of(checkpoint))
    if not found:
        return (), str(checkpoint)
    while (initial := found[-1].initial) is not None:
        before = _record_behind(initial, found[-1])
        if before is None or before in found:
            return tuple(found), initial.path
        found.append(before)
    return tuple(found), ""


def _record_behind(initial: Source, after: RunRecord) -> RunRecord | None:
    """What the run of the weights was set to that the run `after` began with; None where they are
    of no run of ours, or other ones stand there now."""
    path = Path(initial.path)
    with suppress(HatcheryError, OSError):
        manifest = read_manifest(path)
        if manifest is not None and manifest.fingerprint == initial.fingerprint:
            return record_of(path)
    with suppress(HatcheryError, OSError):
        record = read_record(path.parent)
        return record if _time(record) <= _time(after) else None
    return None


def _time(record: RunRecord) -> float:
    """When a run began; a checkpoint of it was saved later."""
    try:
        return datetime.fromisoformat(record.created).timestamp()
    except ValueError:
        return 0.0


def proofs_of(path: Path, exports: Path = EXPORTS) -> Proofs:
    """The exports of a checkpoint, or of any of a run's, that hold conversations against another
    program: the name of each and what it says. One of a checkpoint that is another by now is left
    out. Never fails."""
    found = []
    for folder in sorted(exports.glob("*/")):
        try:
            manifest = read_manifest(folder)
            if manifest is None or PROOF not in manifest.facts or not manifest.inputs:
                continue
            origin = manifest.inputs[0]
            if not Path(origin.path).resolve().is_relative_to(path.resolve()):
                continue
            now = read_manifest(Path(origin.path))  # none in a folder of another program
            if now is None or now.fingerprint == origin.fingerprint:
                found.append((folder.name, str(manifest.facts[PROOF])))
        except (HatcheryError, OSError):
            continue
    return tuple(found)


def _data(record: RunRecord) -> tuple[str, str]:
    """What is wrong with the tokens of a run, and the name of their tokenizer."""
    known = record.fingerprints.get("tokenizer", "")[:8]
    try:
        manifest = read_manifest(Path(record.data))
    except HatcheryError:
        return "damaged", known
    except OSError as error:
        return str(error.strerror), known
    if manifest is None:
        return "not there any more", known
    if manifest.fingerprint != record.fingerprints.get("data"):
        return "stale: made anew since", known
    return "", Path(manifest.inputs[-1].path).name if manifest.inputs else known


def _place(checkpoint: str) -> str:
    """'run, step' of a checkpoint's path."""
    path = Path(checkpoint)
    step = path.name.removeprefix("checkpoint_step_").lstrip("0")
    return f"{path.parent.name}, step {step}" if step.isdigit() else checkpoint


def _branches(run: Path, checkpoints_dir: Path) -> Iterator[str]:
    for other in sorted(checkpoints_dir.glob("*/run.json")):
        try:
            parent = read_record(other.parent).parent
        except HatcheryError:
            continue
        if parent is not None and Path(parent).parent.name == run.name:
            yield other.parent.name


def _changed(record: RunRecord) -> Iterator[tuple[str, str]]:
    for prefix, given, default, passed in (
        ("", record.options, TRAININGS.get(record.command, TrainOptions)(), _NO_SETTINGS),
        ("model.", record.model, ModelConfig(), _FROM_DATA),
    ):
        usual: dict[str, Any] = default.model_dump(mode="json")
        for name, value in given.items():
            if name not in passed and (name not in usual or usual[name] != value):
                yield prefix + name.replace("_", "-"), str(value)
