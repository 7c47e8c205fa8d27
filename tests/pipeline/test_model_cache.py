"""More models than places: everybody's turn comes, and nobody loads in vain."""

import asyncio
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline.options.config import ServeOptions
from pipeline.server.engine import model_cache as module
from pipeline.server.engine.catalogue import Catalogue, ServedModel
from pipeline.server.engine.model_cache import LoadedModel, ModelCache
from pipeline.server.engine.service import Service
from pipeline.server.errors import ApiError
from tests.support.servers.ours import COUNTING, NEW, make_runs

NAMES = [COUNTING, f"{NEW}/step-10", f"{NEW}/step-20"]


class Fake(ModelCache):
    """Loads nothing; `loads` are those that began."""

    loads: Counter[str]

    def _read(self, served: ServedModel) -> Any:
        self.loads[served.id] += 1
        return SimpleNamespace(broken=False, writer=SimpleNamespace(notes=()))


@pytest.fixture
def folder(workspace: Path) -> Path:
    make_runs(workspace)
    return workspace


def model_cache(folder: Path, models: int) -> Fake:
    options = ServeOptions(models=models, device="cpu")
    catalogue = Catalogue(folder / "checkpoints", options, [])
    made = Fake(catalogue, options, folder / "tokenizers", lambda _: None)
    made.loads = Counter()
    return made


async def settled() -> None:
    """Let everything happen that does not wait for a thread."""
    for _ in range(10):
        await asyncio.sleep(0)


async def draining(model: LoadedModel) -> None:
    """Until it takes no new requests."""
    while not model.draining:
        await asyncio.sleep(0)


def test_who_wants_another_model_comes_before_those_who_want_more_of_a_busy_one(
    folder: Path,
) -> None:
    async def scenario() -> None:
        cache = model_cache(folder, models=1)
        first, busy = await cache.acquire(COUNTING), await cache.acquire(COUNTING)
        other = asyncio.create_task(cache.acquire(NEW))
        await draining(first)
        more = asyncio.create_task(cache.acquire(COUNTING))
        cache.release(first)
        await settled()
        assert not other.done()  # one still writes
        cache.release(busy)
        taken = await other
        await settled()
        assert taken.served.id == f"{NEW}/step-10"
        assert not more.done()
        cache.release(taken)
        assert (await more).served.id == COUNTING
        assert cache.loads == {COUNTING: 2, f"{NEW}/step-10": 1}

    asyncio.run(scenario())


def test_who_waited_and_went_away_keeps_nobody_out_and_has_nothing_loaded(folder: Path) -> None:
    async def scenario() -> None:
        cache = model_cache(folder, models=1)
        first = await cache.acquire(COUNTING)
        other = asyncio.create_task(cache.acquire(NEW))
        await draining(first)
        other.cancel()
        await settled()
        assert (await cache.acquire(COUNTING)) is first
        assert cache.loads == {COUNTING: 1}

    asyncio.run(scenario())


@pytest.mark.parametrize("models", [1, 2])
def test_what_was_loaded_for_somebody_is_used_before_it_goes(folder: Path, models: int) -> None:
    rounds = 20

    async def person(cache: Fake, name: str) -> None:
        for _ in range(rounds):
            taken = await cache.acquire(name)
            assert taken.served.id == name
            await settled()
            cache.release(taken)

    async def scenario() -> None:
        cache = model_cache(folder, models)
        await asyncio.gather(*(person(cache, name) for name in NAMES for _ in range(2)))
        assert len(cache) == models
        assert max(cache.loads.values()) <= 2 * rounds

    asyncio.run(scenario())


def test_what_can_never_fit_makes_no_room_for_itself(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        cache = model_cache(folder, models=4)
        first = await cache.acquire(COUNTING)
        cache.release(await cache.acquire(NEW))
        size = first.served.bytes
        monkeypatch.setattr(module, "memory_free", lambda _: -2 * size)
        with pytest.raises(ApiError) as refused:
            await cache.acquire(f"{NEW}/step-20")
        assert refused.value.code == "out_of_memory"
        assert len(cache) == 2
        monkeypatch.setattr(module, "memory_free", lambda _: size // 2)
        waits = asyncio.create_task(cache.acquire(f"{NEW}/step-20"))
        await draining(first)  # the idle one was not enough
        monkeypatch.setattr(module, "memory_free", lambda _: 2 * size)
        cache.release(first)
        assert (await waits).served.id == f"{NEW}/step-20"

    asyncio.run(scenario())


def test_a_cache_that_closes_refuses_those_who_wait(folder: Path) -> None:
    async def scenario() -> None:
        cache = model_cache(folder, models=1)
        first = await cache.acquire(COUNTING)
        other = asyncio.create_task(cache.acquire(NEW))
        await draining(first)
        cache.close()
        with pytest.raises(ApiError) as refused:
            await other
        assert (refused.value.status, refused.value.code) == (503, "stopping")

    asyncio.run(scenario())


def test_a_load_that_finds_no_place_in_time_says_what_would_help(folder: Path) -> None:
    async def scenario() -> None:
        cache = model_cache(folder, models=1)
        await cache.acquire(COUNTING)
        service: Any = SimpleNamespace(options=ServeOptions(request_seconds=0.01), models=cache)
        with pytest.raises(ApiError) as refused:
            await Service.load(service, NEW)
        assert (refused.value.status, refused.value.code) == (408, "request_timeout")
        assert "--models" in refused.value.remedy

    asyncio.run(scenario())
