"""The serve stage: a server that speaks the OpenAI protocol, until it is asked to stop."""

import os
import secrets
import socket
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from threading import Event as StopSignal

from pipeline.events import Event, Finished, Progress, ServerReady, Started, Warned
from pipeline.inference.loading import device_for
from pipeline.options.config import Config, ServeOptions
from pipeline.runs import inventory
from pipeline.runs.inventory import Checkpoint
from pipeline.server.engine.catalogue import Catalogue
from pipeline.server.http.guard import is_loopback
from pipeline.server.http.uvicorn_thread import Server
from utils.errors import ExitCode, HatcheryError, UsageError
from utils.ports import TAKEN, free_port, listen
from utils.units import human_count

TOKEN_VARIABLE = "HATCHERY_TOKEN"  # noqa: S105
_MIN_TOKEN_LENGTH = 8
_POLL_SECONDS = 0.2  # between looks at the stop signal
_REPORT_SECONDS = 10.0  # between two reports of what was served
_GRACE_SECONDS = 0.8  # to end in when standard input has closed


def run(config: Config, options: ServeOptions, stop: StopSignal) -> Iterator[Event]:
    """Serve until `stop`, or where `attached` until standard input closes.

    Raises:
        UsageError: an address that others reach without a token; no such checkpoint or device.
        HatcheryError: the address cannot be listened on.
    """
    token, is_new = choose_token(options, os.environ.get(TOKEN_VARIABLE))
    device = device_for(options)
    directory = config.paths.checkpoints_dir
    chosen = [inventory.resolve(where, directory) for where in options.checkpoint or ()]
    catalogue = Catalogue(directory, options, chosen)
    listening = _listen(options)
    port = listening.getsockname()[1]
    yield Started("serve", f"Serve {_described(catalogue, chosen)} on {device}")
    with Server(config, options, catalogue, listening, token) as server:
        closed = _end_with_stdin(stop) if options.attached else None
        yield ServerReady(f"http://{_in_url(options.host)}:{port}", token if is_new else None)
        yield from _watch(server, stop)
    yield Finished(dict(server.totals()), stopped=True)
    if closed is not None and closed.is_set():
        os._exit(ExitCode.INTERRUPTED)  # unloading torch takes a second or more


def choose_token(options: ServeOptions, of_environment: str | None) -> tuple[str | None, bool]:
    """What clients have to send, and whether it was made just now. None: nothing.

    Raises:
        UsageError: other machines could ask without a token, or would need one that nobody chose.
    """
    local = is_loopback(options.host)
    if options.open:
        if not local:
            raise UsageError(
                "Everybody who reaches this address could use the server.",
                found=f"--host {options.host} --open",
                remedy="leave --open away and give --token",
            )
        if "*" in (options.allowed_origins or ()):
            raise UsageError(
                "Every page in a browser of this machine could use the server.",
                found="--open and --allow-origin '*'",
                remedy="leave --open away, or name the sites that may use it",
            )
        return None, False
    token = options.token or of_environment
    if token is not None and (len(token) < _MIN_TOKEN_LENGTH or not token.isascii()):
        raise UsageError(
            f"A token has at least {_MIN_TOKEN_LENGTH} characters, all of them ASCII.",
            found=f"{len(token)} characters in {'--token' if options.token else TOKEN_VARIABLE}",
            remedy="python -c 'import secrets; print(secrets.token_urlsafe())' makes a good one",
        )
    if token is None and not local:
        raise UsageError(
            "A server that other machines reach needs a token that you choose.",
            found=f"--host {options.host}, and neither --token nor {TOKEN_VARIABLE}",
            remedy=f"export {TOKEN_VARIABLE}=..., or stay on this machine: leave --host away",
        )
    return (token, False) if token else (secrets.token_urlsafe(24), True)


def _watch(server: Server, stop: StopSignal) -> Iterator[Event]:
    """Warnings and a report every `_REPORT_SECONDS`, until `stop`."""
    reported_at, before = time.monotonic(), server.totals()
    while not stop.wait(_POLL_SECONDS):
        server.check()
        while server.warnings:
            yield Warned(server.warnings.popleft())
        now = time.monotonic()
        if now - reported_at < _REPORT_SECONDS:
            continue
        totals = server.totals()
        if totals != before:
            speed = (totals["new_tokens"] - before["new_tokens"]) / (now - reported_at)
            figures = {
                "tokens": human_count(totals["new_tokens"]),
                "speed": f"{speed:,.0f} tokens/s",
                "rows": str(server.rows),
            }
            yield Progress(totals["requests"], None, "requests", figures=figures)
        reported_at, before = now, totals


def _described(catalogue: Catalogue, chosen: Sequence[Checkpoint]) -> str:
    if len(chosen) == 1:
        return chosen[0].label
    count = len(catalogue.served_models())
    return f"{count} checkpoint{'' if count == 1 else 's'}"


def _listen(options: ServeOptions) -> socket.socket:
    try:
        return listen(options.host, options.port)
    except OSError as error:
        host = options.host if error.errno in TAKEN else Config().serve.host
        kept = ["--host", host] * (host != Config().serve.host)
        other = free_port(host, options.port)
        raise HatcheryError(
            f"{options.host}:{options.port} cannot be listened on.",
            found=str(error.strerror or error),
            remedy="{}",
            commands=[("serve", *kept, "--port", str(other))],
        ) from error


def _in_url(host: str) -> str:
    """An address as a URL has it; one that means all addresses as this machine's name."""
    if host in ("0.0.0.0", "::"):  # noqa: S104
        return socket.gethostname()
    return f"[{host}]" if ":" in host else host


def _end_with_stdin(stop: StopSignal) -> StopSignal:
    """Set `stop` and what is returned when standard input closes; the process is gone soon after,
    whatever it does."""
    stdin, closed = sys.stdin.fileno(), threading.Event()

    def wait() -> None:
        while os.read(stdin, 4096):
            pass
        closed.set()
        stop.set()
        time.sleep(_GRACE_SECONDS)
        os._exit(ExitCode.INTERRUPTED)

    threading.Thread(target=wait, name="stdin", daemon=True).start()
    return closed
