"""The look of `--help`: names left, sentences right, readable at 80 columns."""

import textwrap
from typing import Any

from cyclopts import App, Group
from cyclopts.help import HelpEntry, HelpPanel
from rich.console import Console as RichConsole
from rich.console import ConsoleOptions
from rich.text import Text

from app.terminal.layout import Console

_NAMES = 28
OTHER_COMMANDS = Group("Beside it", sort_key=95)


class HelpFormatter:
    """Prints commands or options as a two-column list without frames."""

    def __call__(self, console: RichConsole, options: ConsoleOptions, panel: HelpPanel) -> None:
        if not panel.entries:
            return
        console.print(Text(f"\n{panel.title}", style="bold"))
        width = max(20, min(options.max_width, 100) - _NAMES)
        for entry in panel.entries:
            names, sentence = f"  {_names(entry)}", _plain(entry.description)
            lines = textwrap.wrap(sentence, width, break_on_hyphens=False) or [""]
            if len(names) < _NAMES:
                first = names.ljust(_NAMES)
            else:
                console.print(Text(names, style="cyan"), soft_wrap=True)
                first = " " * _NAMES
            console.print(Text.assemble((first, "cyan"), lines[0]), soft_wrap=True)
            for line in lines[1:]:
                console.print(Text(" " * _NAMES + line), soft_wrap=True)

    def render_usage(self, console: RichConsole, options: ConsoleOptions, usage: Any) -> None:
        """The first line."""
        line = _plain(usage).removeprefix("Usage:").strip()
        console.print(Text(f"Usage: python {line}\n", style="bold"))

    def render_description(self, console: RichConsole, options: ConsoleOptions, text: Any) -> None:
        """What the command is for."""
        console.print(Text(_plain(text)))


def _plain(value: Any) -> str:
    text = getattr(value, "primary_renderable", value)
    return "" if text is None else str(getattr(text, "plain", text)).strip()


def _names(entry: HelpEntry) -> str:
    """'--batch-size INT', '--[no-]compile', 'NAME', 'train'."""
    if entry.positional_label:
        return f"[{entry.positional_label}]"
    positive = list(entry.positive_names)
    if entry.negative_names and positive:
        return f"--[no-]{positive[0][2:]}"
    return " ".join([", ".join([*entry.positive_shorts, *positive]), entry.metavar or ""]).rstrip()


def new_app(**settings: Any) -> App:
    """A cyclopts application in the look of this program, which returns what a command does."""
    app = App(
        help_format="plaintext",
        help_formatter=HelpFormatter(),
        result_action="return_value",
        console=Console(),
        **settings,
    )
    for flag in (*app.help_flags, *app.version_flags):
        app[flag].group = OTHER_COMMANDS
    return app
