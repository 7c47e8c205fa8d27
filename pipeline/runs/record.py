"""run.json: what a run was started with, so that it can go on in the same way."""

from pathlib import Path
from typing import Any

import msgspec

from utils.artefacts import Source
from utils.errors import RefusedError


class RunRecord(msgspec.Struct, frozen=True):
    """The contents of run.json: what the run was started with.

    `parent` is the checkpoint that it branches off, `initial` what gave it its first weights.
    """

    options: dict[str, Any]
    model: dict[str, Any]
    data: str
    fingerprints: dict[str, str]
    created: str
    version: str
    parent: str | None = None
    initial: Source | None = None


def read_record(run: Path) -> RunRecord:
    """What `run` was started with.

    Raises:
        RefusedError: run.json is missing or damaged.
    """
    try:
        return msgspec.json.decode((run / "run.json").read_bytes(), type=RunRecord)
    except (OSError, UnicodeDecodeError, msgspec.DecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise RefusedError(
            f"{run / 'run.json'} cannot be read: {why}.",
            found="without it the run's settings are unknown, so it cannot go on",
            remedy="its model still writes: {}; {} starts a new run",
            commands=[("inference", "--checkpoint", str(run)), ("train",)],
        ) from error
