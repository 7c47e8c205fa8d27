"""The command line: one subcommand per stage, generated from the options models.

Progress goes to stderr, results to stdout (see `app.terminal.event_renderers`). It parses and
resolves settings; `app.jobs.runner` runs the stage. Never imports textual, and only what is typed
is built: `--help` answers before pydantic, Rich's progress or a stage is loaded.
"""

import os
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from cyclopts import App, CycloptsError, Group, UnusedCliTokensError

from app.commands.help import BESIDE, new_app
from app.terminal.layout import report_failure
from pipeline.stages import STAGES, Stage
from utils import VERSION
from utils.errors import ExitCode, HatcheryError, UsageError

if TYPE_CHECKING:
    from app.commands.flags import Invocation

_PIPELINE = Group("The pipeline, in order", sort_key=1)
_EPILOGUE = """First model in minutes:  python main.py quickstart
Options of a command:    python main.py train --help"""
_STAGE_EPILOGUE = """Any setting of config.json can be typed too, with its path:
--model.hidden-size 384"""
_JOB_COMMANDS = ["start", "chain", "retry", "list", "attach", "stop", "why"]
_WEB_HELP = "Open the app in a browser."
_JOBS_HELP = "Start, chain, list, attach to, stop, diagnose and retry background jobs."


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Run one command and exit with its code."""
    _steady_streams()
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        code = _run(arguments)
        sys.stdout.flush()
    except HatcheryError as error:
        code = _fail(error, arguments)
    except BrokenPipeError:
        from app.jobs.runner import leave_quietly

        leave_quietly()
        code = ExitCode.FAILED
    except OSError as error:
        from app.jobs.runner import explained

        if not error.errno:
            raise
        code = _fail(explained(error), arguments)
    except KeyboardInterrupt:
        code = ExitCode.INTERRUPTED
    sys.exit(code)


def _steady_streams() -> None:
    """Streams that exist and never fail on a character: a closed one becomes the null device."""
    for name in ("stdin", "stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            mode = "r" if name == "stdin" else "w"
            setattr(sys, name, open(os.devnull, mode))  # noqa: PTH123, SIM115
        elif name != "stdin" and hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def _fail(error: HatcheryError, arguments: Sequence[str]) -> int:
    from app.jobs.folder import JOB_FOLDER

    if JOB_FOLDER in os.environ:
        from app.jobs.runner import fail_job

        fail_job(error)
    elif "--json" in arguments:
        from app.terminal.event_renderers import JsonFace
        from pipeline.events import Failed

        JsonFace().show(Failed(error.problem, error.found, error.remedy, error.exit_code))
    else:
        report_failure(error)
    return error.exit_code


def _run(arguments: list[str]) -> int:
    while arguments[:1] == ["--"]:
        del arguments[0]
    if arguments[1:2] == ["--"]:
        del arguments[1]
    if arguments[:1] == ["jobs"]:
        from app.cli.jobs import job_app

        outcome = _parse(job_app(parse_stage), _job_arguments(arguments[1:]), "jobs")
    else:
        outcome = _parse(_tree(arguments), arguments)
    if isinstance(outcome, tuple):
        from app.jobs.runner import run_stage

        stage, config, as_json = outcome
        if stage.command == "inference":
            from app.cli import generate

            if generate.wanted(config, as_json=as_json):
                return generate.run(config)
            config = generate.with_piped_prompt(config)
        return run_stage(stage, config, as_json=as_json)
    return int(outcome or ExitCode.DONE)


def _job_arguments(typed: list[str]) -> list[str]:
    """`jobs` alone lists; what follows `jobs start STAGE` belongs to the stage, -- or not."""
    if not typed or (typed[0].startswith("--") and typed[0] != "--help"):
        return ["list", *typed]
    if typed[0] == "start" and "--" not in typed:
        names = {stage.command for stage in STAGES}
        for at, word in enumerate(typed):
            if word in names and typed[at - 1] not in ("--name", "--after"):
                return [*typed[:at], "--", *typed[at:]]
    if typed[0] == "chain" and len(typed) > 1 and not typed[1].startswith("--"):
        return ["chain", "--", *typed[1:]]
    return typed


def parse_stage(arguments: Sequence[str]) -> "Invocation":
    """What a stage's command line means, without running it.

    Raises:
        UsageError: no such stage or flag, or a value that is not valid.
    """
    outcome = _parse(_tree(arguments), arguments) if arguments else None
    if not isinstance(outcome, tuple):
        raise UsageError(
            "There is no stage to start.",
            found=f"the arguments {' '.join(arguments)}" if arguments else "no command",
            remedy="python main.py jobs start -- train --test",
        )
    return outcome


def _parse(app: App, arguments: Sequence[str], *chain: str) -> Any:
    try:
        return app(list(arguments), exit_on_error=False, print_error=False)
    except CycloptsError as error:
        known = _JOB_COMMANDS if chain else ["web", *(stage.command for stage in STAGES)]
        command = [name for name in known if name in arguments[:1]]
        problem = " ".join(str(error).split())
        if isinstance(error, UnusedCliTokensError) and error.unused_tokens:
            problem = f"{' '.join(error.unused_tokens)} is one argument too many."
        helped = " ".join(["python main.py", *chain, *command, "--help"])
        raise UsageError(problem, remedy=helped) from error


def _tree(arguments: Sequence[str]) -> App:
    """The command tree, in which only the typed command has its options."""
    app = new_app(
        name="main.py",
        help="Hatchery: raise a language model from raw text in your terminal.",
        version=VERSION,
        help_epilogue=_EPILOGUE,
    )
    for order, stage in enumerate(STAGES):
        command = _command(stage, arguments)
        app.command(
            command,
            name=stage.command,
            sort_key=order,
            group=_PIPELINE,
            help=stage.purpose + ".",
            help_epilogue=_STAGE_EPILOGUE,
        )
    app.command(_no_command, name="jobs", group=BESIDE, help=_JOBS_HELP)
    app.command(_web(arguments), name="web", group=BESIDE, help=_WEB_HELP)
    return app


def _web(arguments: Sequence[str]) -> Callable[..., Any]:
    if list(arguments[:1]) != ["web"]:
        return _no_command
    from app.web.command import web

    return web


def _no_command() -> int:
    return ExitCode.USAGE


def _command(stage: Stage, arguments: Sequence[str]) -> Callable[..., Any]:
    if list(arguments[:1]) != [stage.command]:
        return _no_command
    from app.commands.flags import stage_command

    return stage_command(stage, arguments)
