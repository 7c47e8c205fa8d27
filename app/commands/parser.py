"""A command line parsed into a stage, its settings and how to show its events, without running it.

The command tree has one subcommand per stage, generated from the options models. Only what is typed
is built: `--help` answers before pydantic, Rich's progress or a stage is loaded.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, cast

from cyclopts import App, CycloptsError, Group, UnusedCliTokensError

from app.commands.help import OTHER_COMMANDS, new_app
from pipeline import stages
from pipeline.stages import Stage
from utils import VERSION
from utils.errors import ExitCode, UsageError

if TYPE_CHECKING:
    from app.commands.flags import Invocation

_PIPELINE = Group("The pipeline, in order", sort_key=1)
_EPILOGUE = """First model in minutes:  python main.py quickstart
Options of a command:    python main.py train --help"""
_STAGE_EPILOGUE = """Any setting of config.json can be typed too, with its path:
--model.hidden-size 384"""
_SUBCOMMANDS = {
    "jobs": ["start", "chain", "retry", "list", "attach", "stop", "why"],
    "runs": ["list", "delete"],
    "chat": [],
}
_RUNS_HELP = "List training runs, or delete runs and checkpoints."
_CHAT_HELP = "Talk to a checkpoint in the terminal, message after message."
# What other programs call it, and the commands that do it here.
_CALLED_HERE: dict[tuple[str, ...], tuple[tuple[str, ...], ...]] = {
    ("compare", "arena"): (("inference", "--checkpoint", "A", "B", "--prompt", "TEXT"),),
    ("generate", "sample", "complete", "predict"): (("inference", "--prompt", "TEXT"),),
    ("talk", "run"): (("chat",),),
    ("finetune", "fine-tune", "tune"): (("train", "--init-from", "RUN"),),
    ("resume", "continue"): (("train", "--resume", "auto"),),
    ("ls", "models", "checkpoints"): (("runs",),),
    ("rm", "delete", "remove"): (("runs", "delete", "RUN"),),
    ("speed",): (("bench",),),
    ("evaluate", "eval", "judge"): (("benchmark",),),
    ("clean",): (("cleanup",),),
    ("tokenizer", "bpe"): (("tokenize", "--train", "bpe"),),
    ("prep", "encode"): (("prepare",),),
    ("start", "demo"): (("quickstart",),),
    ("server", "api"): (("serve",),),
    ("convert", "gguf"): (("export", "--to", "gguf"),),
    ("estimate",): (("plan",),),
    ("ui", "gui", "browser"): (("web",),),
}
_WEB_HELP = "Open the app in a browser."
_JOBS_HELP = "Start, chain, list, attach to, stop, diagnose and retry background jobs."


def parse_stage(arguments: Sequence[str]) -> "Invocation":
    """What a stage's command line means, without running it.

    Raises:
        UsageError: no such stage or flag, or a value that is not valid.
    """
    outcome = parse(command_tree(arguments), arguments) if arguments else None
    if not isinstance(outcome, tuple):  # --help, `jobs` and `web` are no stages
        raise UsageError(
            "There is no stage to start.",
            found=f"the arguments {' '.join(arguments)}" if arguments else "no command",
            remedy="{}",
            commands=[("jobs", "start", "--", "train", "--test")],
        )
    return cast("Invocation", outcome)


def parse(app: App, arguments: Sequence[str], *parents: str) -> Any:
    """What the command in `arguments` returns; `parents` are the commands that lead to `app`.

    Raises:
        UsageError: no such command or flag, or a value that is not valid.
    """
    try:
        return app(list(arguments), exit_on_error=False, print_error=False)
    except CycloptsError as error:
        known = _SUBCOMMANDS[parents[0]] if parents else _commands()
        command = [name for name in known if name in arguments[:1]]
        if not parents and not command and (meant := _meant(arguments)):
            raise UsageError(
                f"There is no command {arguments[0]}.",
                found="what does that is called differently here",
                remedy="{}",
                commands=meant,
            ) from error
        problem = " ".join(str(error).split())
        if isinstance(error, UnusedCliTokensError) and error.unused_tokens:
            problem = f"{' '.join(error.unused_tokens)} is one argument too many."
        helped = (*parents, *command, "--help")
        raise UsageError(problem, remedy="{}", commands=[helped]) from error


def _commands() -> list[str]:
    return [*_SUBCOMMANDS, "web", *(stage.command for stage in stages.STAGES)]


def _meant(arguments: Sequence[str]) -> tuple[tuple[str, ...], ...]:
    """The commands here that do what somebody may mean by another name; none where it is known."""
    word = arguments[0].lower() if arguments else ""
    found = (commands for names, commands in _CALLED_HERE.items() if word in names)
    return next(found, ())


def _no_command() -> int:
    return ExitCode.USAGE


def command_tree(arguments: Sequence[str], *, web: Callable[..., Any] = _no_command) -> App:
    """The command tree, in which only the typed command has its options; `web` opens the app in a
    browser."""
    app = new_app(
        name="main.py",
        help="Hatchery: raise a language model from raw text in your terminal.",
        version=VERSION,
        help_epilogue=_EPILOGUE,
    )
    for order, stage in enumerate(stages.STAGES):
        command = _command(stage, arguments)
        app.command(
            command,
            name=stage.command,
            sort_key=order,
            group=_PIPELINE,
            help=stage.purpose + ".",
            help_epilogue=_epilogue(stage, arguments),
        )
    app.command(_no_command, name="chat", group=OTHER_COMMANDS, help=_CHAT_HELP)
    app.command(_no_command, name="runs", group=OTHER_COMMANDS, help=_RUNS_HELP)
    app.command(_no_command, name="jobs", group=OTHER_COMMANDS, help=_JOBS_HELP)
    app.command(web, name="web", group=OTHER_COMMANDS, help=_WEB_HELP)
    return app


def _epilogue(stage: Stage, arguments: Sequence[str]) -> str:
    """What its help ends with; where a model is trained, the shapes that have a name."""
    if "tokens" not in stage.needs or list(arguments[:1]) != [stage.command]:
        return _STAGE_EPILOGUE
    from model.config import PRESETS

    names = ", ".join(PRESETS)
    return f"Shapes of the model: --model.preset {names}\n{_STAGE_EPILOGUE}"


def _command(stage: Stage, arguments: Sequence[str]) -> Callable[..., Any]:
    if list(arguments[:1]) != [stage.command]:
        return _no_command
    from app.commands.flags import stage_command

    return stage_command(stage, arguments)
