"""A server over small random models, run by its stage in a thread of this process."""

import json
import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

from pipeline.events import Event, Failed, ServerReady
from pipeline.runs import folders
from pipeline.server.stage import run
from tests.support.stage_runner import settings
from tests.support.tiny_checkpoints import byte_tokenizer, counting_model, lively_model, save_step

TOKEN = "a token of tests"
NEW, OLD = "run_2026_01_02_10_00", "run_2026_01_01_10_00_old"
COUNTING = f"{OLD}/step-5"


class Served:
    """A server that runs; `port` is where, `events` what its stage has told so far."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = 0
        self.events: list[Event] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def ask(
        self,
        path: str,
        body: Any = None,
        *,
        token: str | None = TOKEN,
        method: str | None = None,
        **headers: str,
    ) -> tuple[int, dict[str, Any]]:
        """Status and JSON of one request; `body` is bytes or what JSON can hold."""
        status, _, answer = self.raw(path, body, token=token, method=method, **headers)
        return status, json.loads(answer)

    def raw(
        self,
        path: str,
        body: Any = None,
        *,
        token: str | None = TOKEN,
        method: str | None = None,
        **headers: str,
    ) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body of one request on a connection of its own."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=60)
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        try:
            connection.request(method or ("GET" if data is None else "POST"), path, data, headers)
            answer = connection.getresponse()
            found = {name.lower(): value for name, value in answer.getheaders()}
            return answer.status, found, answer.read()
        finally:
            connection.close()

    def complete(self, prompt: Any, **options: Any) -> dict[str, Any]:
        """The body of a completion that succeeds; greedy unless told otherwise."""
        body = {"prompt": prompt, "temperature": 0, "max_tokens": 12} | options
        status, answer = self.ask("/v1/completions", body)
        assert status == 200, answer
        return answer

    def request(self, body: Any, path: str = "/v1/completions") -> bytes:
        """A request as it goes over the wire."""
        data = json.dumps(body).encode()
        head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {TOKEN}\r\n"
        return f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=60)

    def metric(self, name: str) -> float:
        """The value of a gauge or counter without labels."""
        _, _, text = self.raw("/metrics")
        [line] = [line for line in text.decode().splitlines() if line.startswith(f"{name} ")]
        return float(line.split()[1])


def make_runs(folder: Path) -> None:
    """Two runs in `folder`: one that counts 0123456789 without end, and one of two checkpoints
    with opinions, whose best is not its latest."""
    here = Path.cwd()
    os.chdir(folder)
    try:
        tokenizer = byte_tokenizer()
        save_step(Path("checkpoints", OLD), 5, counting_model(256), tokenizer, val_loss=4.5)
        for step, seed in ((10, 1), (20, 2)):
            model = lively_model(seed, max_position_embeddings=256)
            save_step(Path("checkpoints", NEW), step, model, tokenizer, val_loss=3 + step / 100)
        new = Path("checkpoints", NEW)
        folders.point(new, "best", folders.step_folder(new, 10))
    finally:
        os.chdir(here)


@contextmanager
def serving(folder: Path, **options: Any) -> Iterator[Served]:
    """A server over the runs in `folder`, until the block ends."""
    served, stop, ready = Served(folder), threading.Event(), threading.Event()
    paths = {
        "checkpoints_dir": str(folder / "checkpoints"),
        "tokenizers_dir": str(folder / "tokenizers"),
    }
    config = settings(paths=paths, serve={"port": 0, "token": TOKEN, "device": "cpu"} | options)

    def consume() -> None:
        try:
            for event in run(config, config.serve, stop):
                served.events.append(event)
                if isinstance(event, ServerReady):
                    served.port = int(event.url.rsplit(":")[-1])
                    ready.set()
        except BaseException as error:
            served.events.append(Failed(repr(error)))
        finally:
            ready.set()

    thread = threading.Thread(target=consume)
    thread.start()
    try:
        ready.wait()
        assert served.port, served.events
        yield served
    finally:
        stop.set()
        thread.join()


def until(holds: Callable[[], bool]) -> None:
    """Wait for something that happens in another thread; the test's own time limit ends it."""
    pause = threading.Event()
    while not holds():
        pause.wait(0.02)
