"""The command line: runs what was typed and exits with its code.

`app.commands.parser` says what a command line means, `app.jobs.runner` runs the stage. Progress
goes to stderr, results to stdout (see `app.terminal.event_renderers`).
"""

import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, NoReturn

from app.commands.parser import command_tree, parse
from app.terminal.layout import report_failure
from pipeline import stages
from utils.errors import ExitCode, HatcheryError

if TYPE_CHECKING:
    from pipeline.options.config import Config


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
        from app.jobs.runner import system_failure

        if not error.errno:
            raise
        code = _fail(system_failure(error), arguments)
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
        from app.terminal.event_renderers import JsonRenderer
        from pipeline.events import Failed

        code, commands = error.exit_code, error.commands
        failed = Failed(error.problem, error.found, error.remedy, code, commands=commands)
        JsonRenderer().show(failed)
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

        outcome = parse(job_app(), _job_arguments(arguments[1:]), "jobs")
    elif arguments[:1] == ["runs"]:
        from app.cli.runs import runs_app

        outcome = parse(runs_app(), _with_list(arguments[1:]), "runs")
    elif arguments[:1] == ["chat"]:
        from app.cli.chat import chat_app

        outcome = parse(chat_app(), arguments[1:], "chat")
    elif arguments[:1] == ["web"]:
        from app.web.command import web

        outcome = parse(command_tree(arguments, web=web), arguments)
    else:
        outcome = parse(command_tree(arguments), arguments)
    if isinstance(outcome, tuple):
        from app.jobs.runner import run_stage

        stage, settings, as_json = outcome
        if stage.command == "inference":
            from app.cli import generate

            if generate.is_interactive(settings.config, as_json=as_json):
                return generate.run(settings.config)
            settings = settings._replace(config=generate.with_piped_prompt(settings.config))
        code = run_stage(stage, settings, as_json=as_json)
        if code == ExitCode.DONE and stage.command == "quickstart":
            return _chat_after(settings.config, as_json=as_json)
        return code
    return int(outcome or ExitCode.DONE)


def _chat_after(config: "Config", *, as_json: bool) -> int:
    """`quickstart --chat` ends in the chat, where a person is there to talk."""
    from app.jobs.folder import JOB_FOLDER

    a_person = sys.stdin.isatty() and sys.stdout.isatty() and JOB_FOLDER not in os.environ
    if not config.quickstart.chat or as_json or not a_person:
        return ExitCode.DONE
    from app.cli.chat import chat
    from pipeline.quickstart import tuned_name
    from pipeline.runs.folders import find_run

    name = tuned_name(config.quickstart.name)
    return chat(str(find_run(config.paths.checkpoints_dir, name, "sft")), config=config.file)


def _with_list(typed: list[str]) -> list[str]:
    """`runs` and `jobs` alone list."""
    alone = not typed or (typed[0].startswith("--") and typed[0] != "--help")
    return ["list", *typed] if alone else typed


def _job_arguments(typed: list[str]) -> list[str]:
    """`jobs` alone lists; what follows `jobs start STAGE` belongs to the stage, -- or not."""
    typed = _with_list(typed)
    if typed[0] == "start" and "--" not in typed:
        names = {stage.command for stage in stages.STAGES}
        for at, word in enumerate(typed):
            if word in names and typed[at - 1] not in ("--name", "--after"):
                return [*typed[:at], "--", *typed[at:]]
    if typed[0] == "chain" and len(typed) > 1 and not typed[1].startswith("--"):
        return ["chain", "--", *typed[1:]]
    return typed
