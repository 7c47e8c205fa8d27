"""`jobs start|list|attach|stop`: background jobs from the command line."""

import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, Parameter

from app import jobs
from app.flags import EVERYWHERE, Invocation, load_config
from app.help import new_app
from app.job_folder import EventReader, output_tail, read_exit, record_exit
from app.jobs import ACTIVE, Job
from app.layout import Console, readable, report_failure, table
from app.render import Face, JsonFace, TerminalFace
from pipeline.events import Failed, Finished
from utils.errors import ExitCode, HatcheryError, UsageError
from utils.units import human_seconds

_POLL_SECONDS = 0.1

_Id = Annotated[
    str | None, Parameter(help="Id, its beginning, or name; default: the newest that runs")
]
_Json = Annotated[bool, Parameter(name="--json", help="Print JSON", group=EVERYWHERE, negative=())]
_Config = Annotated[
    Path | None,
    Parameter(name="--config", help="Settings stronger than config.json", group=EVERYWHERE),
]


def job_app(parse_stage: Callable[[Sequence[str]], Invocation]) -> App:
    """The sub-application; `parse_stage` checks a stage's command line without running it."""

    def start(
        *command: Annotated[str, Parameter(help="Stage and its options")],
        name: Annotated[str | None, Parameter(help="What to call the job")] = None,
        as_json: _Json = False,
    ) -> int:
        """Start a stage in the background: jobs start -- train --test."""
        stage, config, _ = parse_stage(command)
        job = jobs.start(config.paths.logs_dir, command, stage.command, name)
        console = Console(stderr=True)
        console.say(f"{console.sign('●')} {stage.title} runs as job {job.id}", "bold")
        console.say(f"  follow it: python main.py jobs attach {job.id}", "dim")
        console.say(f"  stop it:   python main.py jobs stop {job.id}", "dim")
        _print_line(json.dumps(_facts(job)) if as_json else job.id)
        return ExitCode.DONE

    app = new_app(
        name="main.py jobs",
        help="Start, list, attach to and stop background jobs.",
        version_flags=[],
    )
    app.command(start, sort_key=0)
    app.command(list_jobs, name="list", sort_key=1)
    app.command(attach, sort_key=2)
    app.command(stop, sort_key=3)
    return app


def list_jobs(*, config: _Config = None, as_json: _Json = False) -> int:
    """List all jobs, newest first."""
    found = jobs.all_jobs(_logs(config))
    if as_json:
        for job in found:
            _print_line(json.dumps(_facts(job)))
    elif found:
        Console().print(table([_row(job) for job in found]))
    else:
        Console(stderr=True).say("No jobs. Start one: python main.py jobs start -- train --test")
    return ExitCode.DONE


def attach(job: _Id = None, *, config: _Config = None, as_json: _Json = False) -> int:
    """Show a job live; Ctrl-C leaves it running. Ends with the job's exit code."""
    found = jobs.find(_logs(config), job)
    face: Face = JsonFace() if as_json else TerminalFace()
    try:
        with face:
            return _follow(found, face)
    except KeyboardInterrupt:
        console = Console(stderr=True)
        console.say(f"  detached; job {found.id} goes on", "dim")
        console.say(f"  back to it: python main.py jobs attach {found.id}", "dim")
        return ExitCode.DONE


def stop(
    job: _Id = None,
    *,
    timeout: Annotated[float, Parameter(help="Seconds to wait for it to save [60]")] = 60.0,
    hard: Annotated[bool, Parameter(help="Kill it at once; nothing is saved", negative=())] = False,
    config: _Config = None,
    as_json: _Json = False,
) -> int:
    """Ask a job to finish its step, save and end; wait until it has."""
    found = jobs.find(_logs(config), job, running=job is None)
    if found.state not in ACTIVE:
        raise UsageError(
            f"Job {found.id} does not run.",
            found=f"it is {found.state}",
            remedy="python main.py jobs list",
        )
    jobs.kill(found) if hard else jobs.interrupt(found)
    ended = _wait(found, timeout, silent=as_json)
    if not ended and not as_json and _confirmed(f"Job {found.id} still runs. Kill it?"):
        jobs.kill(found)
        ended = _wait(found, timeout, silent=False)
    now = jobs.look(found.folder)
    if as_json:
        _print_line(json.dumps(_facts(now)))
    if not ended:
        raise HatcheryError(
            f"Job {found.id} still runs after {human_seconds(timeout)}.",
            found="it was asked to stop and may be saving",
            remedy=f"wait, or end it without saving: python main.py jobs stop {found.id} --hard",
        )
    if not as_json:
        _print_line(f"{now.id} {now.state}")
    return ExitCode.DONE


def _follow(job: Job, face: Face) -> int:
    """Show the past in short and the present live, until the job ends."""
    reader = EventReader(job.folder)
    past, left_out = reader.replay()
    if left_out and isinstance(face, TerminalFace):
        face.note(f"... {left_out:,} earlier notes")
    final: Finished | Failed | None = None
    for event in past:
        face.show(event)
        final = event if isinstance(event, Finished | Failed) else final
    while True:
        running = jobs.look(job.folder).state in ACTIVE  # before reading, so nothing is missed
        for event in reader.read():
            face.show(event)
            final = event if isinstance(event, Finished | Failed) else final
        if not running:
            break
        time.sleep(_POLL_SECONDS)
    return _verdict(job, face, told=final is not None)


def _verdict(job: Job, face: Face, *, told: bool) -> int:
    """The job's exit code; says how it ended where no event of its own does."""
    now = jobs.look(job.folder)
    if now.state in ("died", "killed"):
        gone = not job.folder.is_dir()
        problem = "has vanished with its folder" if gone else now.state
        failed = Failed(
            f"Job {job.id} {problem}." if gone else f"Job {job.id} ({job.stage}) {problem}.",
            output_tail(job.folder) or "no output",
            "what it had saved is intact: run the same command again, it goes on from there",
            now.exit_code or ExitCode.FAILED,
        )
        face.show(failed)
        return failed.exit_code
    if not told and now.exit_code:
        report_failure(HatcheryError(f"Job {job.id} ended with exit code {now.exit_code}."))
    return now.exit_code or ExitCode.DONE


def _wait(job: Job, timeout: float, *, silent: bool) -> bool:
    """Wait for the end of a job that was asked to stop; False when `timeout` seconds pass."""
    deadline = time.monotonic() + timeout
    reader = EventReader(job.folder)
    reader.read()
    with TerminalFace() as face:
        if not silent:
            face.note(f"waiting for job {job.id} to finish its step and save")
        running = True
        while running and time.monotonic() < deadline:
            running = jobs.look(job.folder).state in ACTIVE
            for event in reader.read():
                if not silent and not isinstance(event, Finished | Failed):
                    face.show(event)
            if running:
                time.sleep(_POLL_SECONDS)
    if not running and read_exit(job.folder) is None and not EventReader(job.folder).read():
        record_exit(job.folder, ExitCode.INTERRUPTED)  # it was still loading: nothing to save
    return not running


def _confirmed(question: str) -> bool:
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return False
    sys.stderr.write(f"{question} [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _logs(config: Path | None) -> Path:
    return load_config({}, config).paths.logs_dir


def _facts(job: Job) -> dict[str, Any]:
    return {
        "id": job.id,
        "stage": job.stage,
        "name": job.record.name if job.record else None,
        "state": job.state,
        "percent": job.percent,
        "exit_code": job.exit_code,
        "started": job.started,
        "ended": job.ended,
        "pid": job.record.pid if job.record else None,
        "folder": str(job.folder),
        "command": job.record.argv if job.record else None,
    }


def _row(job: Job) -> dict[str, str]:
    now = time.time()
    share = f" {job.percent:.0f} %" if job.percent is not None else ""
    return {
        "id": job.id,
        "stage": job.stage,
        "name": readable(job.record.name if job.record else None),
        "state": job.state + share,
        "duration": human_seconds(max(0.0, (job.ended or now) - job.started)),
        "age": human_seconds(max(0.0, now - job.started)),
    }


def _print_line(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
