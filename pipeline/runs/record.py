"""What a run and its checkpoints have on record: run.json, what a run was started with, and
state.json, how far a checkpoint is.

run.json carries a checksum of its own bytes. One that was written without, by an earlier version,
is compared with the newest checkpoint: its manifest, which has a checksum, holds the same options.
"""

import hashlib
import json
from pathlib import Path
from typing import Any, Literal, TypeAlias

import msgspec
from pydantic import ValidationError

from pipeline.options.config import TRAININGS, TrainingOptions, TrainOptions
from pipeline.runs import folders
from utils import json_text
from utils.artefacts import Manifest, Source, read_manifest
from utils.errors import HatcheryError, RefusedError
from utils.files import hash_file, unique_name, write_file
from utils.verification import verify

Epoch: TypeAlias = Literal["text", "windows"]

RECORD, STATE, MODEL = folders.RECORD, "state.json", "config.json"


class RunRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The contents of run.json: what the run was started with.

    `parent` is the checkpoint that it branches off, `initial` what gave it its first weights.
    `epoch` is what its --epochs count: once over the text, or, in runs of earlier versions, once
    over the training windows, which read the text more than once where they overlap. `command` is
    the stage that trains it.
    `checksum` is the SHA-256 of the file without these 64 digits; empty in files of versions that
    wrote none.
    """

    options: dict[str, Any]
    model: dict[str, Any]
    data: str
    fingerprints: dict[str, str]
    created: str
    version: str
    parent: str | None = None
    initial: Source | None = None
    epoch: Epoch = "windows"
    command: str = "train"
    checksum: str = ""


def write_record(run: Path, record: RunRecord) -> None:
    """Write run.json with its checksum; a damaged one is set aside first."""
    path = run / RECORD
    if path.exists():
        try:
            read_record(run)
        except RefusedError:
            path.replace(unique_name(run, f"{RECORD}.corrupt"))
    values = msgspec.to_builtins(msgspec.structs.replace(record, checksum=""))
    text = json.dumps(values, indent=2, allow_nan=False, ensure_ascii=False) + "\n"
    checksum = hashlib.sha256(text.encode()).hexdigest()
    before, mark, after = text.rpartition('"checksum": "')
    write_file(path, f"{before}{mark}{checksum}{after}")


def read_record(run: Path) -> RunRecord:
    """What `run` was started with.

    Raises:
        RefusedError: run.json is missing or damaged; names a checkpoint that holds the same.
    """
    path = run / RECORD
    try:
        data = path.read_bytes()
        record = json_text.decode(data, RunRecord)
    except (OSError, UnicodeDecodeError, msgspec.DecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise _unusable(run, f"{path} cannot be read: {why}.") from error
    bare = data.replace(record.checksum.encode(), b"", 1) if record.checksum else b""
    if record.checksum and hashlib.sha256(bare).hexdigest() != record.checksum:
        raise _unusable(run, f"{path} is damaged: it does not match its own checksum.")
    if not record.checksum and (differing := _unlike_checkpoint(run, record)):
        raise _unusable(run, f"{path} differs from its newest checkpoint.", differing)
    return record


def _unusable(run: Path, problem: str, found: str = "") -> RefusedError:
    """Why a run's record cannot be used, and what can be: a checkpoint holds the same settings."""
    holder = _newest_with_manifest(run)
    found = found or "a changed byte or an edit by hand"
    if holder is None:
        return RefusedError(
            problem,
            found=f"{found}; without it the run's settings are unknown, so it cannot go on",
            remedy="start a new run: {}",
            commands=[(folders.trained_by(run),)],
        )
    return RefusedError(
        problem,
        found=f"{found}; its newest checkpoint holds the same settings under a checksum",
        remedy="go on with those, which writes run.json anew: {}; the model still writes: {}",
        commands=[
            (holder[1].made_by.command, "--resume", str(holder[0])),
            ("inference", "--checkpoint", str(run)),
        ],
    )


def _newest_with_manifest(run: Path) -> tuple[Path, Manifest] | None:
    for checkpoint in reversed(folders.step_folders(run)):
        try:
            manifest = read_manifest(checkpoint)
        except (HatcheryError, OSError):
            continue
        if manifest is not None and manifest.inputs:
            return checkpoint, manifest
    return None


def _unlike_checkpoint(run: Path, record: RunRecord) -> str:
    """What a record without a checksum says otherwise than the newest checkpoint; empty where
    nothing is, or where there is nothing to compare with."""
    newest = _newest_with_manifest(run)
    if newest is None:
        return ""
    try:
        held = record_of(newest[0])
    except HatcheryError:
        return ""  # loading will say what is wrong with it
    pairs = [("data", record.data, held.data)]
    for ours, theirs in (
        (record.options, held.options),
        (record.model, held.model),
        (record.fingerprints, held.fingerprints),
    ):
        pairs += [(name, ours[name], theirs[name]) for name in ours.keys() & theirs.keys()]
    differing = sorted((n, a, b) for n, a, b in pairs if a != b)
    return ", ".join(f"{n} {a}, where the checkpoint has {b}" for n, a, b in differing)


def record_of(checkpoint: Path) -> RunRecord:
    """What the run of a checkpoint was set to when it was saved; `parent` is not known from it.

    Raises:
        RefusedError: it is no whole checkpoint of a run of ours.
    """
    manifest = verify(checkpoint, [MODEL, STATE])
    try:
        model = json.loads((checkpoint / MODEL).read_bytes())["hatchery"]
        state = json.loads((checkpoint / STATE).read_bytes())
        fingerprints = state["fingerprints"]
        first, *rest = manifest.inputs
    except (ValueError, KeyError, TypeError) as error:
        raise RefusedError(
            f"{checkpoint} does not hold the settings of its run.", found=f"no {error}"
        ) from error
    return RunRecord(
        options=manifest.made_by.options,
        model=model,
        data=first.path,
        fingerprints=fingerprints,
        created=manifest.made_by.time,
        version=manifest.made_by.version,
        initial=rest[0] if rest else None,
        epoch="text" if state.get("epoch") == "text" else "windows",
        command=manifest.made_by.command,
    )


def recorded_options(run: Path, record: RunRecord) -> TrainingOptions:
    """The settings in a record, those of the stage that trains the run.

    Raises:
        RefusedError: this version knows no such settings.
    """
    try:
        kind = TRAININGS.get(record.command, TrainOptions)
        return kind.model_validate_json(msgspec.json.encode(record.options))
    except ValidationError as error:
        fault = error.errors()[0]
        name = ".".join(map(str, fault["loc"]))
        raise RefusedError(
            f"The settings in {run / RECORD} cannot be understood: {name}: {fault['msg']}.",
            found=f"a record of version {record.version}, or a damaged one",
            remedy="go on with the version that made it, or start a new run: {}",
            commands=[(record.command,)],
        ) from error


def state_of(checkpoint: Path) -> dict[str, Any]:
    """state.json of a checkpoint, for showing; empty where there is none, or where its checksum
    in the manifest says that it was damaged since."""
    path = checkpoint / STATE
    try:
        manifest = read_manifest(checkpoint)
        if manifest is not None and manifest.files.get(STATE) != hash_file(path):
            return {}
        found = json.loads(path.read_bytes())
    except (OSError, ValueError, HatcheryError):
        return {}
    return found if isinstance(found, dict) else {}
