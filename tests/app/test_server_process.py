"""The model server as the app's child: one for all, gone with the app, its death explained."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from app.client.client import Client, Endpoint, Request, Sampling
from app.client.server_process import COMMAND, ServerProcess
from app.jobs.processes import process_start
from tests.support.tiny_checkpoints import counting_model, two_runs
from utils.errors import HatcheryError

PROGRAMS = Path(__file__).parents[1] / "support" / "programs"
_PATIENCE = 60.0  # seconds, on a busy machine


def fake(mode: str, folder: Path) -> list[str]:
    return [sys.executable, str(PROGRAMS / "fake_model_server.py"), mode, str(folder)]


def wait_for(true: Callable[[], object]) -> None:
    deadline = time.monotonic() + _PATIENCE
    while not true():
        assert time.monotonic() < deadline, "it never came to be"
        time.sleep(0.02)


def child(folder: Path) -> int:
    return int((folder / "pid").read_text())


async def eventually(true: Callable[[], object]) -> None:
    async with asyncio.timeout(_PATIENCE):
        while not true():
            await asyncio.sleep(0.02)


def test_screens_share_one_server_that_ends_when_it_is_stopped(tmp_path: Path) -> None:
    async def scene() -> None:
        states: list[str] = []
        serving = ServerProcess(
            tmp_path, lambda: states.append(serving.state), command=fake("serves", tmp_path)
        )
        first, second = await asyncio.gather(serving.client(), serving.client())
        assert first is second is await serving.client()
        (token,) = (tmp_path / "starts").read_text().split()
        assert first.endpoint.token == token
        assert len(token) >= 32
        await serving.stop()
        assert process_start(child(tmp_path)) is None
        assert (states[0], states[-1]) == ("starting", "off")
        await serving.client()
        assert len((tmp_path / "starts").read_text().split()) == 2
        await serving.stop()

    asyncio.run(scene())


def test_a_server_that_dies_says_how_and_is_started_again_by_the_next_question(
    tmp_path: Path,
) -> None:
    async def scene() -> None:
        serving = ServerProcess(tmp_path, command=fake("serves", tmp_path))
        await serving.client()
        os.kill(child(tmp_path), signal.SIGKILL)
        await eventually(lambda: serving.state == "died")
        assert serving.fault is not None
        assert "signal 9" in serving.fault.found
        await serving.client()
        assert (serving.state, serving.fault) == ("up", None)
        await serving.stop()
        assert serving.state == "off"

    asyncio.run(scene())


@pytest.mark.parametrize(
    ("mode", "words"), [("refuses", "No such checkpoint"), ("crashes", "the weights are gone")]
)
def test_a_server_that_does_not_come_up_says_why(mode: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "server.log").write_text("of an earlier server\n")

    async def scene() -> None:
        serving = ServerProcess(tmp_path, command=fake(mode, tmp_path))
        with pytest.raises(HatcheryError) as told:
            await serving.client()
        assert words in str(told.value)
        assert "earlier" not in str(told.value)
        assert serving.state == "died"
        await serving.stop()

    asyncio.run(scene())


def test_a_command_that_is_not_there_is_no_crash(tmp_path: Path) -> None:
    async def scene() -> None:
        serving = ServerProcess(tmp_path, command=[str(tmp_path / "missing")])
        with pytest.raises(HatcheryError, match="could not be started"):
            await serving.client()

    asyncio.run(scene())


def test_a_screen_that_is_left_while_the_server_starts_stops_no_start(tmp_path: Path) -> None:
    async def scene() -> None:
        serving = ServerProcess(tmp_path, command=fake("serves", tmp_path))
        left = asyncio.create_task(serving.client())
        await asyncio.sleep(0)
        left.cancel()
        await serving.client()
        assert len((tmp_path / "starts").read_text().split()) == 1
        await serving.stop()

    asyncio.run(scene())


def hold(folder: Path, *command: str) -> tuple["subprocess.Popen[bytes]", Endpoint]:
    """A process that holds a server, once that listens, and where."""
    argv = [sys.executable, str(PROGRAMS / "server_holder.py"), str(folder), *command]
    holder = subprocess.Popen(argv, stdout=subprocess.PIPE, cwd=folder)
    assert holder.stdout is not None
    url, token = holder.stdout.readline().decode().split()
    assert url.startswith("http://127.0.0.1:")
    return holder, Endpoint(url, token)


def kill(holder: "subprocess.Popen[bytes]") -> None:
    holder.kill()
    holder.wait()
    assert holder.stdout is not None
    holder.stdout.close()


def test_a_killed_app_takes_its_server_along(tmp_path: Path) -> None:
    holder, _ = hold(tmp_path, *fake("serves", tmp_path))
    server = child(tmp_path)
    assert process_start(server) is not None
    kill(holder)
    wait_for(lambda: process_start(server) is None)


@pytest.mark.slow
def test_our_own_server_answers_the_client_and_goes_with_a_killed_app(workspace: Path) -> None:
    two_runs([counting_model(), counting_model(), counting_model()])
    holder, endpoint = hold(workspace, *COMMAND)
    (server,) = children_of(holder.pid)

    async def scene() -> None:
        async with Client(endpoint) as client:
            best = next(model for model in await client.models() if model.best)
            assert (best.step, best.val_loss, best.context) == (10, 3.25, 64)
            await client.load(best.id)
            assert {m.id for m in await client.models() if m.loaded} == {best.id}
            sampling = Sampling(temperature=0.0, max_tokens=12)
            ask = Request(best.id, prompt="9", sampling=sampling, logprobs=True)
            pieces = [piece async for piece in client.stream(ask)]
            assert "".join(piece.text for piece in pieces) == "012345678901"
            assert "".join(text for piece in pieces for text, _ in piece.tokens) == "012345678901"
            assert all(logprob <= 0 for piece in pieces for _, logprob in piece.tokens)
            figures = pieces[-1].figures
            assert figures is not None
            assert (pieces[-1].finish, figures["new_tokens"]) == ("length", 12)
            with pytest.raises(HatcheryError, match="does not exist"):
                await client.load("no/such")

    asyncio.run(scene())
    kill(holder)
    wait_for(lambda: process_start(server) is None)


def children_of(pid: int) -> list[int]:
    import psutil

    return [process.pid for process in psutil.Process(pid).children()]
