"""The serve stage as a process: addresses, tokens, and how it ends."""

import json
import re
import signal
import socket
import subprocess
import sys
from contextlib import ExitStack
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest

from app.jobs import lifecycle, retry, states
from app.jobs.history import EventReader, last_event
from app.jobs.job import ACTIVE
from app.jobs.processes import process_start
from pipeline.events import Event, Finished, ServerReady, Started
from pipeline.options.config import ServeOptions
from pipeline.server.stage import choose_token
from tests.support.programs import endless_load
from tests.support.servers.ours import COUNTING, TOKEN, make_runs, serving, until
from tests.support.stage_runner import run_stage
from utils.errors import HatcheryError, UsageError

MAIN = Path(__file__).parents[2] / "main.py"
ENDLESS = Path(endless_load.__file__)


def options(**given: Any) -> ServeOptions:
    return ServeOptions(**given)


def test_the_token_is_the_one_given_else_that_of_the_environment_else_a_new_one() -> None:
    assert choose_token(options(token="typed it"), "environment") == ("typed it", False)
    assert choose_token(options(), "environment") == ("environment", False)
    made, new = choose_token(options(), None)
    assert new
    assert made is not None
    assert len(made) >= 24
    assert choose_token(options(), None)[0] != made
    assert choose_token(options(open=True), "environment") == (None, False)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "example.org", ""])
def test_an_address_that_others_reach_needs_a_token_that_somebody_chose(host: str) -> None:
    with pytest.raises(UsageError) as refused:
        choose_token(options(host=host), None)
    assert refused.value.exit_code == 2
    with pytest.raises(UsageError):
        choose_token(options(host=host, open=True, token="typed it"), None)
    assert choose_token(options(host=host, token="typed it"), None) == ("typed it", False)


def test_a_token_that_could_be_guessed_is_refused() -> None:
    with pytest.raises(UsageError, match="8 characters"):
        choose_token(options(), "short")


def test_a_port_in_use_names_the_next_command(workspace: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(HatcheryError) as refused:
            run_stage("serve", serve={"port": port})
    advised = re.search(r"--port (\d+)", refused.value.remedy)
    assert advised is not None
    assert port < int(advised[1]) <= port + 100  # the next that nobody has


@pytest.mark.slow
def test_an_open_server_asks_for_no_token_but_for_its_own_name(workspace: Path) -> None:
    with serving(workspace, open=True, token=None) as served:
        assert served.ask("/v1/models", token=None)[0] == 200
        assert served.ask("/v1/models", token=None, Host="evil.example")[0] == 403


@pytest.mark.slow
def test_a_stage_tells_where_it_listens_and_what_it_did(workspace: Path) -> None:
    make_runs(workspace)
    with serving(workspace) as served:
        served.complete("0", model=COUNTING, max_tokens=3)
    started, listening, *_, finished = served.events
    assert isinstance(started, Started)
    assert isinstance(listening, ServerReady)
    assert listening.token is None  # somebody gave it
    assert isinstance(finished, Finished)
    assert finished.summary == {"requests": 1, "prompt_tokens": 2, "new_tokens": 3}


@pytest.mark.slow
def test_a_stop_ends_running_streams_with_an_error(workspace: Path) -> None:
    make_runs(workspace)
    body = {"model": COUNTING, "prompt": ["0"] * 16, "max_tokens": 250, "stream": True}
    with serving(workspace) as served:
        connection = served.connect()
        connection.sendall(served.request(body))
        assert connection.recv(12) == b"HTTP/1.1 200"
    with connection, connection.makefile("rb") as stream:
        lines = [line for line in stream if line.startswith(b"data: ")]
    assert json.loads(lines[-1][6:])["error"]["code"] == "stopping"
    assert not any(b"[DONE]" in line for line in lines)


@pytest.mark.slow
def test_too_many_connections_cost_the_slowest_its_own(workspace: Path) -> None:
    make_runs(workspace)
    with serving(workspace, connections=8) as served, ExitStack() as stack:
        idle = [stack.enter_context(served.connect()) for _ in range(20)]
        answer = served.complete("0", model=COUNTING, max_tokens=3)
        assert answer["choices"][0]["text"] == "123"
        try:
            end = idle[0].recv(1)
        except ConnectionResetError:
            end = b""
        assert end == b""


class Process:
    """`serve` in a process of its own, with our hands on its standard input."""

    def __init__(self, *flags: str, program: Path = MAIN) -> None:
        command = [sys.executable, str(program), "serve", "--json", "--port", "0", *flags]
        self.child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self.child.stdout is not None
        self.first: list[Any] = []
        for line in self.child.stdout:
            self.first.append(json.loads(line))
            if self.first[-1]["event"] == "listening":
                return
        raise AssertionError(self.first)

    def rest(self) -> list[Any]:
        assert self.child.stdout is not None
        events = [json.loads(line) for line in self.child.stdout]
        self.child.stdout.close()
        return events


@pytest.mark.slow
def test_an_attached_server_ends_with_its_standard_input(workspace: Path) -> None:
    make_runs(workspace)
    process = Process("--attached")
    listening = process.first[-1]
    host = listening["url"].removeprefix("http://")
    connection = HTTPConnection(host, timeout=60)
    body = json.dumps({"model": COUNTING, "prompt": "0", "max_tokens": 2, "temperature": 0})
    headers = {"Authorization": f"Bearer {listening['token']}"}
    connection.request("POST", "/v1/completions", body, headers)
    answer = json.loads(connection.getresponse().read())
    assert answer["choices"][0]["text"] == "12"
    connection.close()
    assert process.child.stdin is not None
    process.child.stdin.close()
    assert process.rest()[-1]["event"] == "finished"
    assert process.child.wait(30) == 130


@pytest.mark.slow
def test_a_signal_ends_a_server_in_order(workspace: Path) -> None:
    process = Process("--token", TOKEN)
    assert process.first[-1]["token"] is None
    process.child.send_signal(signal.SIGTERM)
    assert process.rest()[-1]["event"] == "finished"
    assert process.child.wait(30) == 143
    assert process.child.stdin is not None
    process.child.stdin.close()


def load(url: str) -> HTTPConnection:
    """A request whose model never ends loading."""
    connection = HTTPConnection(url.removeprefix("http://"), timeout=60)
    body = json.dumps({"model": COUNTING})
    connection.request("POST", "/v1/models/load", body, {"Authorization": f"Bearer {TOKEN}"})
    until(endless_load.BEGUN.exists)
    return connection


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stop_does_not_wait_for_a_model_that_is_being_loaded(
    workspace: Path, number: signal.Signals, code: int
) -> None:
    make_runs(workspace)
    process = Process("--token", TOKEN, program=ENDLESS)
    connection = load(process.first[-1]["url"])
    process.child.send_signal(number)
    answer = connection.getresponse()
    assert (answer.status, json.loads(answer.read())["error"]["code"]) == (503, "stopping")
    connection.close()
    assert process.rest()[-1]["event"] == "finished"
    assert process.child.wait(60) == code
    assert process.child.stdin is not None
    process.child.stdin.close()


@pytest.mark.slow
def test_a_job_that_is_stopped_while_it_loads_a_model_records_how_it_ended(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_runs(workspace)
    monkeypatch.setattr(lifecycle, "PROGRAM", (sys.executable, str(ENDLESS)))
    job = lifecycle.start(Path("logs"), ["serve", "--port", "0", "--token", TOKEN], "serve", None)
    told: list[Event] = []
    reader = EventReader(job.folder)
    until(lambda: told.extend(reader.read()) or any(isinstance(e, ServerReady) for e in told))
    [listening] = [event for event in told if isinstance(event, ServerReady)]
    connection = load(listening.url)
    lifecycle.interrupt(job)
    record = job.record
    assert record is not None
    until(lambda: process_start(record.pid) != record.process_start)
    ended = states.look(job.folder)
    assert (ended.state, ended.exit_code) == ("stopped", 130)
    connection.close()


@pytest.mark.slow
def test_a_stage_can_be_stopped_as_soon_as_it_listens(workspace: Path) -> None:
    events: list[Event] = []
    run_stage(
        "serve", into=events, stop_when=lambda e: isinstance(e, ServerReady), serve={"port": 0}
    )
    assert isinstance(events[-1], Finished)
    assert events[-1].stopped


@pytest.mark.parametrize(
    "origin", ["localhost:3000", "http://a/b", "http://", "", "http://a/", "javascript:x"]
)
def test_what_is_no_origin_is_refused(origin: str) -> None:
    with pytest.raises(ValueError, match="an origin is"):
        options(allowed_origins=[origin])


def test_all_sites_may_ask_only_with_a_token() -> None:
    for origin in ("*", "http://localhost:3000", "https://a.example", "http://[::1]:80", "app://a"):
        assert options(allowed_origins=[origin]).allowed_origins == [origin]
    assert choose_token(options(allowed_origins=["*"]), "environment") == ("environment", False)
    with pytest.raises(UsageError, match="Every page"):
        choose_token(options(allowed_origins=["*"], open=True), None)


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [
        ["--token", "a secret of mine"],
        ["--token=a secret of mine"],
        ["--serve.token", "a secret of mine"],
        ["--serve.token=a secret of mine"],
        [],
    ],
)
def test_the_key_of_a_detached_server_is_where_only_its_owner_can_read(
    workspace: Path, words: list[str]
) -> None:
    make_runs(workspace)
    logs = workspace / "logs"
    job = lifecycle.start(logs, ["serve", "--port", "0", "--device", "cpu", *words], "serve", "s")
    try:
        key = _key_that_works(job.folder)
        if words:
            assert key == "a secret of mine"
        _nothing_else_holds(job.folder, key)
        lifecycle.interrupt(job)
        until(lambda: states.look(job.folder).state not in ACTIVE)
        _nothing_else_holds(job.folder, key)
        again = retry.start_again(logs, states.look(job.folder), retry.command_of(job))
        try:
            assert _key_that_works(again.folder) == key
            _nothing_else_holds(again.folder, key)
        finally:
            lifecycle.interrupt(again)
            until(lambda: states.look(again.folder).state not in ACTIVE)
    finally:
        if states.look(job.folder).state in ACTIVE:
            lifecycle.kill(job)


def _key_that_works(folder: Path) -> str:
    """The key in a job's folder, with which its server answers."""
    found: list[ServerReady] = []

    def ready() -> bool:
        event = last_event(folder, ServerReady)
        found.extend([event] if event is not None else [])
        return bool(found)

    until(ready)
    until((folder / "key").exists)
    assert (folder / "key").stat().st_mode & 0o777 == 0o600
    key = (folder / "key").read_text().strip()
    connection = HTTPConnection(found[0].url.removeprefix("http://"), timeout=60)
    connection.request("GET", "/v1/models", headers={"Authorization": f"Bearer {key}"})
    assert connection.getresponse().status == 200
    connection.close()
    return key


def _nothing_else_holds(folder: Path, key: str) -> None:
    """No other file of the job and no command line."""
    for path in folder.iterdir():
        assert path.name == "key" or key not in path.read_text("utf-8"), path
    record = states.look(folder).record
    assert record is not None
    command = Path(f"/proc/{record.pid}/cmdline")
    if command.exists():
        assert key.encode() not in command.read_bytes()
