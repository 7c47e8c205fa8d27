"""Starting an ended job again: the same command, changed where that helps, in the job's place."""

from collections.abc import Sequence
from pathlib import Path

from app.jobs import lifecycle, states
from app.jobs.dependencies import open_dependencies, stand_in
from app.jobs.folder import read_key
from app.jobs.history import last_event
from app.jobs.job import ACTIVE, Job
from pipeline import stages
from pipeline.events import Saved
from pipeline.stages import Stage
from utils.errors import RefusedError, UsageError


def command_of(job: Job) -> list[str]:
    """The stage and its arguments as they were typed.

    Raises:
        UsageError: its folder does not say.
    """
    words = job.record.argv[2:] if job.record else []  # after the interpreter and main.py
    words = [word for at, word in enumerate(words) if word != "--" or at > 1]
    if not words:
        raise UsageError(
            f"Nobody knows how job {job.id} was started.",
            found=f"no job.json in {job.folder}, or one that cannot be read",
            remedy="start it anew: {}",
            commands=[("jobs", "start", "--", "STAGE")],
        )
    return words


def command_again(job: Job, more: Sequence[str] = ()) -> list[str]:
    """The job's command with `more`, which wins; a training goes on from its last checkpoint."""
    from app.commands.arguments import overlaid  # pydantic, 60 ms that `jobs list` need not pay

    command, *typed = command_of(job)
    stage = stage_of(command)
    run = run_folder(job)
    if run is not None and command in ("train", "sft"):
        typed = overlaid(stage, typed, ["--resume", str(run)])
    return [command, *overlaid(stage, typed, more)]


def stage_of(command: str) -> Stage:
    """The stage of a command that an older version may have known.

    Raises:
        UsageError: this version has none.
    """
    try:
        return stages.find(command)
    except KeyError as error:
        raise UsageError(
            f"This version has no stage {command}.",
            remedy="those there are: {}",
            commands=[("--help",)],
        ) from error


def run_folder(job: Job) -> Path | None:
    """The run that the job saved checkpoints of, as the job would name it; None where there is
    none to go on from."""
    home = Path(job.record.cwd) if job.record else Path()

    def is_there(saved: Saved) -> bool:
        return saved.kind == "checkpoint" and (home / saved.path).is_dir()

    saved = last_event(job.folder, Saved, is_there)
    return Path(saved.path).parent if saved else None


def start_again(logs: Path, job: Job, command: Sequence[str], *before: Sequence[str]) -> Job:
    """Start `command` in the place of an ended job, so that those who wait for it go on after
    this one. `before` are commands of earlier stages that have to be done first, in order.

    Raises:
        UsageError: a command line is not valid.
        RefusedError: the job has not ended, or is being done again already.
        OSError: no process can be started.
    """
    from app.commands.parser import parse_stage

    for words in (*before, command):
        parse_stage(words)
    everybody = states.all_jobs(logs)
    _refuse_active(job, stand_in(job.id, everybody))
    name = job.record.name if job.record else None
    cwd = Path(job.record.cwd) if job.record and Path(job.record.cwd).is_dir() else None
    after = []
    if job.record is not None and not job.record.queued:
        after = [
            dependency.id
            for dependency in open_dependencies(job.record, everybody)
            if dependency.job is not None
        ]
    for words in before:
        after = [*after, lifecycle.start(logs, words, words[0], None, after=after, cwd=cwd).id]
    return lifecycle.start(
        logs, command, command[0], name,
        after=after, retry_of=job.id, cwd=cwd, key=read_key(job.folder),
    )  # fmt: skip


def _refuse_active(job: Job, now: Job | None) -> None:
    for other in filter(None, (states.look(job.folder), now)):
        if other.state in ACTIVE:
            again = other.id != job.id
            raise RefusedError(
                f"Job {job.id} is being done again already."
                if again
                else f"Job {job.id} has not ended.",
                found=f"{other.stage} {other.id} is {other.state}",
                remedy="{}",
                commands=[("jobs", "attach", other.id)],
            )
