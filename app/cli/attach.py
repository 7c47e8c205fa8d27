"""Following a job from a terminal until it ends."""

import time

from app.jobs import states
from app.jobs.folder import output_tail
from app.jobs.history import EventReader
from app.jobs.job import ACTIVE, Job
from app.terminal.event_renderers import EventRenderer, TerminalRenderer
from app.terminal.layout import report_failure
from pipeline.events import Failed, Finished
from utils.errors import ExitCode, HatcheryError, as_typed

_POLL_SECONDS = 0.1


def follow(job: Job, renderer: EventRenderer) -> int:
    """Show the past in short and the present live, until the job ends."""
    reader = EventReader(job.folder)
    past, left_out = reader.replay()
    if left_out and isinstance(renderer, TerminalRenderer):
        renderer.note(f"... {left_out:,} earlier notes")
    final: Finished | Failed | None = None
    for event in past:
        renderer.show(event)
        final = event if isinstance(event, Finished | Failed) else final
    if job.waits_for and isinstance(renderer, TerminalRenderer):
        renderer.note(f"waits for {', '.join(job.waits_for)}")
    while True:
        running = states.look(job.folder).state in ACTIVE  # before reading, so nothing is missed
        for event in reader.read():
            renderer.show(event)
            final = event if isinstance(event, Finished | Failed) else final
        if not running:
            break
        time.sleep(_POLL_SECONDS)
    return _verdict(job, renderer, reported=final is not None)


def _verdict(job: Job, renderer: EventRenderer, *, reported: bool) -> int:
    """The job's exit code; says how it ended where no event of its own does."""
    now = states.look(job.folder)
    if now.state in ("died", "killed"):
        gone = not job.folder.is_dir()
        problem = "has vanished with its folder" if gone else now.state
        why = ("jobs", "why", job.id)
        failed = Failed(
            f"Job {job.id} {problem}." if gone else f"Job {job.id} ({job.stage}) {problem}.",
            output_tail(job.folder) or "no output",
            f"what it had saved is intact; more: {as_typed(why)}",
            now.exit_code or ExitCode.FAILED,
            commands=(why,),
        )
        renderer.show(failed)
        return failed.exit_code
    if not reported and now.exit_code:
        report_failure(HatcheryError(f"Job {job.id} ended with exit code {now.exit_code}."))
    return now.exit_code or ExitCode.DONE


def wait_for_end(job: Job, timeout: float, *, silent: bool) -> bool:
    """Wait for the end of a job that was asked to stop; False when `timeout` seconds pass."""
    deadline = time.monotonic() + timeout
    reader = EventReader(job.folder)
    reader.read()
    with TerminalRenderer() as renderer:
        if not silent:
            renderer.note(f"waiting for job {job.id} to finish its step and save")
        running = True
        while running and time.monotonic() < deadline:
            running = states.look(job.folder).state in ACTIVE
            for event in reader.read():
                if not silent and not isinstance(event, Finished | Failed):
                    renderer.show(event)
            if running:
                time.sleep(_POLL_SECONDS)
    return not running
