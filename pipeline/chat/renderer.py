"""Chat templates rendered: our own in this process, those of others in one that may be killed."""

import json
import os
import subprocess
import sys
import weakref
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from threading import Lock
from typing import Any

import jinja2

from pipeline.chat import renderer_process
from pipeline.chat.renderer_process import SECONDS, environment
from pipeline.tokenizer.chat_template import DEFAULT

_OURS = "HATCHERY_"  # environment variables that begin so are no business of a template: a key
_KILLED = f"it takes more than {SECONDS:g} seconds, or more memory than a template may"


class TemplateError(Exception):
    """The template cannot be read, or does not take what it is given; says why."""


class TemplateRenderer:
    """Renders one template. Safe to call from any thread.

    Raises:
        TemplateError: the template cannot be read.
    """

    def __init__(self, source: str) -> None:
        self._source = source
        self._lock = Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._own: jinja2.Template | None = None
        if source == DEFAULT:
            self._own = environment().from_string(source)
        else:
            with self._lock:
                self._start()

    def render(self, values: Mapping[str, Any]) -> str:
        """The text for `values`, which are what JSON can hold.

        Raises:
            TemplateError: it fails, or takes too long or too much memory.
        """
        if self._own is not None:
            return self._own.render(values)
        with self._lock:
            return self._ask(values)

    def _start(self) -> subprocess.Popen[bytes]:
        """A process that has read the template."""
        self._process = process = subprocess.Popen(
            [sys.executable, "-P", renderer_process.__file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=Path(sys.executable).anchor,
            env={name: value for name, value in os.environ.items() if not name.startswith(_OURS)},
        )
        weakref.finalize(self, _end, process)
        self._ask(self._source)
        return process

    def _ask(self, value: object) -> str:
        """What the process answers to a line; one that has died is started anew next time."""
        process = self._process or self._start()
        assert process.stdin is not None
        assert process.stdout is not None
        line = b""
        with suppress(BrokenPipeError):
            process.stdin.write(json.dumps(value).encode() + b"\n")
            process.stdin.flush()
            line = process.stdout.readline()
        if not line.endswith(b"\n"):
            self._process = None
            _end(process)
            raise TemplateError(_KILLED)
        answer = json.loads(line)
        if "error" in answer:
            raise TemplateError(answer["error"])
        return str(answer["text"])


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    for stream in (process.stdin, process.stdout):
        assert stream is not None
        with suppress(BrokenPipeError):  # of what was not yet written
            stream.close()
    process.wait()
