"""The app's own server: one child process that holds the models, for all screens that use them.

It is started when a screen first needs it, listens on this machine only, and wants a key that
nobody else knows. The app holds its standard input, which closes however the app ends; the child
then leaves by itself.
"""

import asyncio
import os
import secrets
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from subprocess import Popen
from typing import Literal, TypeAlias

import msgspec

from app.client.client import Client, Endpoint
from app.jobs.lifecycle import PROGRAM
from app.jobs.processes import attach, release
from pipeline.events import Failed, Progress, ServerReady, Warned, from_json
from utils.errors import HatcheryError

# 16 models: as many as a comparison may want, where memory allows.
_SERVE = ("serve", "--attached", "--host", "127.0.0.1", "--port", "0", "--models", "16", "--json")
COMMAND = (*PROGRAM, *_SERVE)
TOKEN = "HATCHERY_TOKEN"  # noqa: S105 (the name of the variable)
State: TypeAlias = Literal["off", "starting", "up", "died"]

_STOP_SECONDS = 1.0  # seconds that the server has to leave
_MAX_LOG_BYTES = 1 << 20  # bytes of the log that are kept
_TAIL, _TAIL_LINES = 4096, 6  # bytes read and lines shown of what it complained


class ServerProcess:
    """`token` is the key where the settings name one, else each server has its own.

    `state` is where the server is, `fault` why it died, `note` what it does while it starts or
    last warned of; `changed` is called in the event loop when any of them is another."""

    def __init__(
        self,
        logs: Path,
        changed: Callable[[], None] = lambda: None,
        *,
        token: str | None = None,
        command: Sequence[str] = COMMAND,
    ) -> None:
        self.state: State = "off"
        self.fault: HatcheryError | None = None
        self.note = ""
        self.log = logs / "server.log"
        self._changed = changed
        self._command, self._token = command, token
        self._process: Popen[bytes] | None = None
        self._client: Client | None = None
        self._starting: asyncio.Task[Client] | None = None

    async def client(self) -> Client:
        """The connection that all screens share; starts the server where none runs.

        Raises:
            HatcheryError: it did not come up, with its own reason.
        """
        if self._starting is None or (self._starting.done() and self.state != "up"):
            self._starting = asyncio.create_task(self._start())
            # Looked at here, so that a failure nobody waits for any more is no complaint.
            self._starting.add_done_callback(lambda task: task.cancelled() or task.exception())
        return await asyncio.shield(self._starting)  # a screen that is left stops no start

    async def stop(self) -> None:
        """End the server and free its memory; the next `client` starts another."""
        process, self._process = self._process, None
        client, self._client = self._client, None
        if self._starting is not None:
            self._starting.cancel()
            self._starting = None
        if client is not None:
            await client.close()
        if process is not None:
            await asyncio.to_thread(release, process, _STOP_SECONDS)
        self._set_state("off")

    async def _start(self) -> Client:
        await self._discard_dead()
        self._set_state("starting")
        loop = asyncio.get_running_loop()
        ready_url: asyncio.Future[str] = loop.create_future()
        token = self._token or secrets.token_urlsafe(32)
        try:
            since = self._log_size()
            environment = os.environ | {TOKEN: token}
            process = attach(self._command, self.log, environment)
        except (OSError, HatcheryError) as error:
            fault = HatcheryError("The model server could not be started.", found=str(error))
            self._set_state("died", fault)
            raise fault from error
        self._process = process
        follower = _Follower(self, process, since, loop, ready_url)
        threading.Thread(target=follower.run, daemon=True).start()
        try:
            url = await ready_url
        except asyncio.CancelledError:
            await asyncio.to_thread(release, process, 0.0)
            raise
        self._client = Client(Endpoint(url, token))
        self._set_state("up")
        return self._client

    def _log_size(self) -> int:
        """Bytes of what earlier servers complained, which a large log is emptied of."""
        size = self.log.stat().st_size if self.log.exists() else 0
        if size > _MAX_LOG_BYTES:
            self.log.unlink()
            return 0
        return size

    async def _discard_dead(self) -> None:
        """Clear away the server that died."""
        process, self._process = self._process, None
        client, self._client = self._client, None
        if client is not None:
            await client.close()
        if process is not None:
            await asyncio.to_thread(release, process, 0.0)

    def _set_state(self, state: State, fault: HatcheryError | None = None) -> None:
        self.state, self.fault, self.note = state, fault, ""
        self._changed()

    def set_ended(self, process: "Popen[bytes]", fault: HatcheryError) -> None:
        """`process` has ended by itself, if it is still ours."""
        if process is self._process:
            self._set_state("died", fault)

    def set_note(self, process: "Popen[bytes]", note: str) -> None:
        """What `process` says it does."""
        if process is self._process and note != self.note:
            self.note = note
            self._changed()


class _Follower:
    """Reads what a server prints, in a thread, until it ends."""

    def __init__(
        self,
        serving: ServerProcess,
        process: "Popen[bytes]",
        since: int,
        loop: asyncio.AbstractEventLoop,
        ready_url: "asyncio.Future[str]",
    ) -> None:
        self._serving, self._process, self._since = serving, process, since
        self._loop, self._ready_url = loop, ready_url

    def run(self) -> None:
        """Follow to the end."""
        failed: Failed | None = None
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            for line in lines:
                with suppress(msgspec.DecodeError):
                    event = from_json(line)
                    failed = event if isinstance(event, Failed) else failed
                    self._take(event)
        code = self._process.wait()
        fault = died(failed, code, tail(self._serving.log, self._since))
        self._call(self._fail, fault)

    def _take(self, event: object) -> None:
        if isinstance(event, ServerReady):
            self._call(self._ready, event.url)
        elif isinstance(event, Progress | Warned):
            self._call(self._serving.set_note, self._process, event.message)

    def _ready(self, url: str) -> None:
        if not self._ready_url.done():
            self._ready_url.set_result(url)

    def _fail(self, fault: HatcheryError) -> None:
        self._serving.set_ended(self._process, fault)
        if not self._ready_url.done():
            self._ready_url.set_exception(fault)

    def _call(self, what: Callable[..., None], *arguments: object) -> None:
        with suppress(RuntimeError):  # the app has left
            self._loop.call_soon_threadsafe(what, *arguments)


def died(failed: Failed | None, code: int, complaint: str) -> HatcheryError:
    """Why a server is gone: its own last words, else those on its standard error."""
    if failed is not None:
        return HatcheryError(
            failed.problem, found=failed.found, remedy=failed.remedy, commands=failed.commands
        )
    how = f"ended by signal {-code}" if code < 0 else f"exit code {code}"
    killed = code in (-9, 137)
    return HatcheryError(
        "The model server has ended.",
        found="\n".join(part for part in (how, complaint) if part),
        remedy="close other programs or choose a smaller model: its memory may have been used up"
        if killed
        else "",
    )


def tail(log: Path, since: int) -> str:
    """The last lines of a log, of what was written after byte `since`."""
    try:
        with log.open("rb") as handle:
            end = handle.seek(0, os.SEEK_END)
            handle.seek(max(since, end - _TAIL))
            lines = handle.read().decode("utf-8", "replace").strip().split("\n")
    except OSError:
        return ""
    return "\n".join(lines[-_TAIL_LINES:])
