"""`jobs start|chain|retry|list|attach|stop`: background jobs from the command line."""

import json
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import App, Parameter

from app.cli.attach import follow, wait_for_end
from app.commands.corpus import naming_corpus, worked_on_by
from app.commands.flags import EVERYWHERE
from app.commands.help import new_app
from app.commands.parser import parse_stage
from app.commands.settings import load_config
from app.jobs import lifecycle, states
from app.jobs.job import ACTIVE, FAILED, Job
from app.terminal.event_renderers import EventRenderer, JsonRenderer, TerminalRenderer
from app.terminal.layout import Console, confirmed, print_line, readable, table
from utils.errors import ExitCode, HatcheryError, UsageError, as_typed
from utils.units import human_seconds

if TYPE_CHECKING:
    from app.doctor.diagnosis import Diagnosis
    from app.doctor.remedies import Remedy

_LOG_LINES = 4

_Id = Annotated[
    str | None, Parameter(help="Id, its beginning, or name; default: the newest that runs")
]
_After = Annotated[
    list[str] | None, Parameter(help="Wait until this job is done; can be repeated", negative=())
]
_Json = Annotated[bool, Parameter(name="--json", help="Print JSON", group=EVERYWHERE, negative=())]
_Config = Annotated[
    Path | None,
    Parameter(name="--config", help="Settings stronger than config.json", group=EVERYWHERE),
]


def job_app() -> App:
    """The sub-application `jobs`."""
    app = new_app(
        name="main.py jobs",
        help="Start, chain, list, attach to, stop, diagnose and retry background jobs.",
        version_flags=[],
    )
    commands: dict[str, Callable[..., int]] = {
        "start": start,
        "chain": chain,
        "retry": retry,
        "list": list_jobs,
        "attach": attach,
        "stop": stop,
        "why": why,
    }
    for order, (name, command) in enumerate(commands.items()):
        app.command(command, name=name, sort_key=order)
    return app


def start(
    *command: Annotated[str, Parameter(help="Stage and its options")],
    name: Annotated[str | None, Parameter(help="What to call the job")] = None,
    after: _After = None,
    queue: Annotated[
        bool, Parameter(help="Wait until all jobs there are have ended", negative=())
    ] = False,
    as_json: _Json = False,
) -> int:
    """Start a stage in the background: jobs start -- train --test."""
    parsed = parse_stage(command)
    stage, logs = parsed.stage, parsed.config.paths.logs_dir
    waited = [lifecycle.find(logs, requested).id for requested in after or ()]
    if queue and waited:
        raise UsageError(
            "--after and --queue exclude each other.",
            found=f"--after {' --after '.join(waited)} --queue",
            remedy="--after waits until a job is done, --queue until all have ended",
        )
    if queue:
        waited = [job.id for job in states.all_jobs(logs) if job.state in ACTIVE]
    words = naming_corpus(parsed, command, _worked_on(logs, waited))
    job = lifecycle.start(logs, words, stage.command, name, after=waited, queued=queue)
    _announce([job], as_json=as_json)
    return ExitCode.DONE


def chain(
    *commands: Annotated[str, Parameter(help="Stages and their options, -- between them")],
    as_json: _Json = False,
) -> int:
    """Start stages that wait for each other: jobs chain -- cleanup -- tokenize --train bpe."""
    steps = _steps(commands)
    understood = [parse_stage(step) for step in steps]  # all, before the first one starts
    started: list[Job] = []
    corpus = None
    for step, parsed in zip(steps, understood, strict=True):
        after = [job.id for job in started[-1:]]
        logs = parsed.config.paths.logs_dir
        words = naming_corpus(parsed, step, corpus)
        corpus = worked_on_by(parse_stage(words)) or corpus
        started.append(lifecycle.start(logs, words, parsed.stage.command, None, after=after))
    _announce(started, as_json=as_json)
    return ExitCode.DONE


def _worked_on(logs: Path, waited: Sequence[str]) -> str | None:
    """The corpus of the newest job among those waited for that works on one."""
    from app.jobs.retry import command_of

    for job in sorted((lifecycle.find(logs, one) for one in waited), key=lambda j: -j.started):
        with suppress(UsageError):  # of another version
            if corpus := worked_on_by(parse_stage(command_of(job))):
                return corpus
    return None


def _steps(words: Sequence[str]) -> list[list[str]]:
    """The commands between the dashes.

    >>> _steps(["cleanup", "--", "train", "--test"])
    [["cleanup"], ["train", "--test"]]
    """
    steps: list[list[str]] = [[]]
    for word in words:
        if word == "--":
            steps.append([])
        else:
            steps[-1].append(word)
    return [step for step in steps if step]


def _announce(started: Sequence[Job], *, as_json: bool) -> None:
    """Say what was started and how to follow it; ids or facts go to stdout."""
    console = Console(stderr=True)
    for job in started:
        waits = f", after {', '.join(job.waits_for)}" if job.waits_for else ""
        verb = "waits" if waits else "runs"
        console.say(f"{console.sign('●')} {job.stage} {verb} as job {job.id}{waits}", "bold")
    last = started[-1].id if started else ""
    console.say(f"  follow it: python main.py jobs attach {last}", "dim")
    console.say(f"  stop it:   python main.py jobs stop {last}", "dim")
    for job in started:
        print_line(json.dumps(_facts(job)) if as_json else job.id)


def retry(
    job: Annotated[str, Parameter(help="Id, its beginning, or name")],
    *more: Annotated[str, Parameter(help="Options that replace those of the job, after --")],
    remedy: Annotated[int | None, Parameter(help="Number of a remedy of jobs why")] = None,
    config: _Config = None,
    as_json: _Json = False,
) -> int:
    """Start an ended job again in its place: jobs retry ID -- --batch-size 8.

    Jobs that wait for it then wait for this one; a training goes on from its last checkpoint.
    """
    from app.jobs.retry import command_again, start_again

    logs = _logs(config)
    found = lifecycle.find(logs, job)
    if remedy is None:
        again = start_again(logs, found, command_again(found, more))
    else:
        chosen = _chosen(found, remedy)
        *before, command = chosen.commands
        again = start_again(logs, found, command, *before)
    _announce([again], as_json=as_json)
    return ExitCode.DONE


def _chosen(job: Job, number: int) -> "Remedy":
    from app.doctor.diagnosis import diagnose

    remedies = diagnose(job).remedies
    if 1 <= number <= len(remedies) and remedies[number - 1].command:
        return remedies[number - 1]
    usable = [str(n) for n, remedy in enumerate(remedies, 1) if remedy.command]
    raise UsageError(
        f"Job {job.id} has no remedy {number} that can be started.",
        found=f"those that can: {', '.join(usable) or 'none'}",
        remedy="{}",
        commands=[("jobs", "why", job.id)],
    )


def why(job: _Id = None, *, config: _Config = None, as_json: _Json = False) -> int:
    """Say why a job ended as it did, and what helps; default: the newest that went wrong."""
    from app.doctor.diagnosis import diagnose

    everybody = states.all_jobs(_logs(config))
    wrong = next((one for one in everybody if one.state in FAILED), None)
    found = wrong if job is None and wrong else lifecycle.find(_logs(config), job)
    diagnosis = diagnose(found)
    if as_json:
        facts = {"job": found.id, "state": found.state, **diagnosis._asdict()}
        facts["remedies"] = [remedy._asdict() for remedy in diagnosis.remedies]
        print_line(json.dumps(facts))
    else:
        _print_diagnosis(found, diagnosis)
    return ExitCode.DONE


def _print_diagnosis(job: Job, diagnosis: "Diagnosis") -> None:
    console = Console()
    given = job.record.name if job.record is not None else None
    console.say(f"{job.stage} {given or job.id}: {diagnosis.cause}", "bold")
    console.say(diagnosis.explanation)
    for line in diagnosis.evidence:
        console.say(f"  {line}", "dim")
    for line in diagnosis.log[-_LOG_LINES:]:
        console.say(f"  | {line}", "dim")
    for number, remedy in enumerate(diagnosis.remedies, 1):
        console.say(f"\n{number}. {remedy.label}", "bold")
        console.say(f"   {remedy.why}")
        if remedy.edit:
            console.say(f"   python main.py jobs retry {job.id} -- OPTIONS", "green")
        elif remedy.command:
            console.say(f"   python main.py jobs retry {job.id} --remedy {number}", "green")
            ran = [as_typed(command) for command in remedy.commands]
            console.say(f"   which runs: {'; '.join(ran)}", "dim")


def list_jobs(*, config: _Config = None, as_json: _Json = False) -> int:
    """List all jobs, newest first."""
    found = states.all_jobs(_logs(config))
    if as_json:
        for job in found:
            print_line(json.dumps(_facts(job)))
    elif found:
        Console().print(table([_row(job) for job in found]))
    else:
        Console(stderr=True).say("No jobs. Start one: python main.py jobs start -- quickstart")
    return ExitCode.DONE


def attach(job: _Id = None, *, config: _Config = None, as_json: _Json = False) -> int:
    """Show a job live; Ctrl-C leaves it running. Ends with the job's exit code."""
    found = lifecycle.find(_logs(config), job)
    renderer: EventRenderer = JsonRenderer() if as_json else TerminalRenderer()
    try:
        with renderer:
            return follow(found, renderer)
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
    found = lifecycle.find(_logs(config), job, running=job is None)
    if found.state not in ACTIVE:
        raise UsageError(
            f"Job {found.id} does not run.",
            found=f"it is {found.state}",
            remedy="{}",
            commands=[("jobs", "list")],
        )
    lifecycle.kill(found) if hard else lifecycle.interrupt(found)
    ended = wait_for_end(found, timeout, silent=as_json)
    if not ended and not as_json and confirmed(f"Job {found.id} still runs. Kill it?"):
        lifecycle.kill(found)
        ended = wait_for_end(found, timeout, silent=False)
    now = states.look(found.folder)
    if as_json:
        print_line(json.dumps(_facts(now)))
    if not ended:
        raise HatcheryError(
            f"Job {found.id} still runs after {human_seconds(timeout)}.",
            found="it was asked to stop and may be saving",
            remedy="wait, or end it without saving: {}",
            commands=[("jobs", "stop", found.id, "--hard")],
        )
    if not as_json:
        print_line(f"{now.id} {now.state}")
    return ExitCode.DONE


def _logs(config: Path | None) -> Path:
    return load_config({}, config).config.paths.logs_dir


def _facts(job: Job) -> dict[str, Any]:
    return {
        "id": job.id,
        "stage": job.stage,
        "name": job.called,
        "state": job.state,
        "percent": job.percent,
        "exit_code": job.exit_code,
        "started": job.started,
        "ended": job.ended,
        "pid": job.record.pid if job.record else None,
        "waits_for": list(job.waits_for),
        "retry_of": job.record.retry_of if job.record else None,
        "folder": str(job.folder),
        "command": job.record.argv if job.record else None,
    }


def _row(job: Job) -> dict[str, str]:
    now = time.time()
    state: str = job.state
    if job.percent is not None:
        state = f"{job.state} {job.percent:.0f} %"
    elif job.waits_for:
        state = f"{job.state} for {', '.join(job.waits_for)}"
    elif job.state == "failed":
        state = f"{job.state} ({job.exit_code})"
    duration = job.duration(now)
    return {
        "id": job.id,
        "stage": job.stage,
        "name": readable(job.called),
        "state": state,
        "duration": "-" if duration is None else human_seconds(duration),
        "age": human_seconds(max(0.0, now - job.started)),
    }
