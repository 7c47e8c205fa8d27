"""A program that renders one chat template, within limits of time and memory.

A template is a program that came with a model: one without an end, or that makes a text of
gigabytes, must cost nobody but itself. So `pipeline.chat.renderer` runs this file as a process of
its own. Lines of JSON go in: first the template, then what each rendering is given; for each a line
comes out. It needs nothing but Jinja, and ends with its standard input.
"""

import json
import resource
import signal
import sys
from datetime import datetime
from typing import Any, NoReturn

import jinja2
from jinja2.sandbox import ImmutableSandboxedEnvironment

SECONDS = 5.0  # for reading the template, and for each rendering
MEMORY = 1 << 29  # bytes of addresses, of which Python itself takes a fifth
LONGEST = 1 << 24  # characters of a rendered text


def environment() -> ImmutableSandboxedEnvironment:
    """Jinja as chat templates expect it (transformers, chat_template_utils.py), without a way out
    to Python."""
    made = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )
    made.filters["tojson"] = _to_json
    made.globals["raise_exception"] = _refuse
    made.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
    return made


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    return json.dumps(
        value,
        ensure_ascii=ensure_ascii,
        indent=indent,
        separators=separators,
        sort_keys=sort_keys,
    )


def _refuse(message: str) -> NoReturn:
    raise jinja2.TemplateError(message)


def _main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the program that asks
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    template: jinja2.Template | None = None
    for line in sys.stdin:
        signal.setitimer(signal.ITIMER_REAL, SECONDS)  # its signal ends the process, whatever runs
        try:
            given = json.loads(line)
            if template is None:
                template = environment().from_string(given)
                answer = {"text": ""}
            else:
                answer = {"text": template.render(given)}
            if len(answer["text"]) > LONGEST:
                answer = {"error": f"it makes a text of more than {LONGEST:,} characters"}
        except MemoryError:
            answer = {"error": f"it needs more than {MEMORY >> 20} MB of memory"}
        except Exception as error:
            answer = {"error": str(error)[:1000]}
        signal.setitimer(signal.ITIMER_REAL, 0)
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    _main()
