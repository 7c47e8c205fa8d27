"""Models in memory: loaded on first use, the least recently used idle one is evicted.

Where every model is generating, a request for another one waits, in order: the model that was
loaded first is drained, which means that it accepts no new requests until it is idle. So no request
waits for ever, however busy other models are. Everything but reading a checkpoint happens in the
event loop, so that no state needs a lock.
"""

import asyncio
import gc
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import torch

from model.generation.batch import BatchScheduler
from pipeline.chat.encoder import ChatEncoder
from pipeline.inference.loading import device_for, load_writer, memory_free, what_fits
from pipeline.options.config import ServeOptions
from pipeline.server.engine.catalogue import Catalogue, ServedModel
from pipeline.server.engine.work_queue import ModelQueue
from pipeline.server.errors import ApiError, from_hatchery, stopping
from utils.errors import HatcheryError, OutOfMemoryError, UsageError, is_out_of_memory
from utils.hardware import release_heap
from utils.units import human_bytes

_RETRY_AFTER = 2  # seconds
_ENCODERS = 2  # threads of each model
_SUGGESTIONS = 3  # of smaller models in an error


@dataclass(eq=False)
class LoadedModel:
    """A model in memory. `users` counts the requests that use it, `since` is when it was loaded and
    `used` when a request last acquired or released it. While `draining` it accepts no new ones.

    Its prompts are encoded in threads of its own, `encoding`: tokenizer and chat template came with
    the model, and where they take long, only its own requests wait."""

    served: ServedModel
    queue: ModelQueue
    since: float
    used: float
    users: int = 0
    draining: bool = False
    encoding: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(_ENCODERS, "encode"), repr=False
    )

    @property
    def chat(self) -> ChatEncoder:
        """What encodes its conversations, made when first needed; see there for what is raised."""
        try:
            return self.queue.writer.chat
        except UsageError as error:
            remedy = f"use /v1/completions, or {error.remedy}"
            raise UsageError(error.problem, remedy=remedy) from error


class ModelCache:
    """At most `options.models` loaded models. `warn` is called with what could not be loaded."""

    def __init__(
        self,
        catalogue: Catalogue,
        options: ServeOptions,
        tokenizers_dir: Path,
        warn: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.catalogue = catalogue
        self._options, self._tokenizers_dir = options, tokenizers_dir
        self._warn, self._clock = warn, clock
        self._loaded: dict[str, LoadedModel] = {}
        self._loads: dict[str, asyncio.Task[None]] = {}
        self._waiting: Counter[str] = Counter()  # requests that wait for a model
        self._load_lock = asyncio.Lock()
        self._changed = asyncio.Event()
        self._reader = ThreadPoolExecutor(1, "load")
        self.device = device_for(options)

    def __len__(self) -> int:
        return len(self._loaded)

    def is_loaded(self, served: ServedModel) -> bool:
        """Whether it is in memory."""
        return served.id in self._loaded

    def served_models(self) -> list[ServedModel]:
        """Every model that can be acquired: on disk, or deleted but still in memory."""
        listed = self.catalogue.served_models()
        ids = {served.id for served in listed}
        return [
            *listed,
            *(held.served for name, held in [*self._loaded.items()] if name not in ids),
        ]

    def find(self, name: str | None) -> ServedModel:
        """The served model of an id or alias; see `Catalogue.find`. May be called in any thread."""
        held = self._loaded.get(name or "")  # stays available where its files were deleted
        return held.served if held is not None else self.catalogue.find(name)

    def memory_free(self) -> int:
        """Bytes that one more model may take."""
        return memory_free(self.device)

    async def acquire(self, name: str | None) -> LoadedModel:
        """The model of an id or alias, loaded where it is not yet; `release` ends its use.

        Raises:
            ApiError: there is none, it is damaged, or there can be no memory for it.
        """
        held = self._loaded.get(name or "")
        served = held.served if held is not None else await asyncio.to_thread(self.find, name)
        self._waiting[served.id] += 1
        try:
            while (found := self._available(served)) is None:
                if served.id not in self._loads:
                    self._loads[served.id] = task = asyncio.create_task(self._load(served))
                    task.add_done_callback(_retrieve_error)
                await asyncio.shield(self._loads[served.id])
            found.users += 1
            found.used = self._clock()
            return found
        finally:
            self._waiting[served.id] -= 1
            self._changed.set()

    def _available(self, served: ServedModel) -> LoadedModel | None:
        """The model in memory, where it takes requests."""
        found = self._loaded.get(served.id)
        return None if found is None or found.queue.broken or found.draining else found

    def release(self, loaded: LoadedModel) -> None:
        """The request that acquired it has ended."""
        loaded.users -= 1
        loaded.used = self._clock()
        self._changed.set()

    def unload(self, served: ServedModel) -> None:
        """Take a model out of memory; nothing happens where it is not there.

        Raises:
            ApiError: 409, it is writing.
        """
        loaded = self._loaded.get(served.id)
        if loaded is not None and loaded.users:
            raise ApiError(409, f"{served.id} is in use.", code="model_busy",
                           found=f"{loaded.users} requests", retry_after=_RETRY_AFTER)  # fmt: skip
        self._evict(served.id)
        self._changed.set()

    def close(self) -> None:
        """Cancel every load; requests that wait for one fail because the server stops."""
        for load in self._loads.values():
            load.cancel()
        self._reader.shutdown(wait=False, cancel_futures=True)
        for loaded in self._loaded.values():
            loaded.encoding.shutdown(wait=False, cancel_futures=True)

    async def _load(self, served: ServedModel) -> None:
        try:
            async with self._load_lock:
                if await self._free_memory_for(served):
                    loop = asyncio.get_running_loop()
                    queue = await loop.run_in_executor(self._reader, self._read, served)
                    now = self._clock()
                    self._loaded[served.id] = LoadedModel(served, queue, now, now)
                    for note in queue.writer.notes:
                        self._warn(note)
        except ApiError as error:
            self._warn(f"{error.message} {error.found}".rstrip())
            raise
        except asyncio.CancelledError:
            raise stopping() from None
        finally:
            del self._loads[served.id]

    def _read(self, served: ServedModel) -> ModelQueue:
        """Read a checkpoint; in a thread of its own."""
        path = served.checkpoint.path
        try:
            writer = load_writer(path, served.id, self._options, self._tokenizers_dir)
            return ModelQueue(writer, BatchScheduler(writer.runner, self._options.rows))
        except OutOfMemoryError as error:
            raise self._no_memory(served, error.found) from error
        except HatcheryError as error:
            if not path.exists():
                raise ApiError(404, f"{served.id} was deleted.", code="model_not_found",
                               param="model", remedy="ask /v1/models") from error  # fmt: skip
            raise from_hatchery(error, code="model_unusable") from error
        except Exception as error:
            if is_out_of_memory(error):
                raise self._no_memory(served, str(error)[:200]) from error
            raise ApiError(422, f"{served.id} cannot be loaded.", code="model_unusable",
                           found=f"{type(error).__name__}: {error}"[:300]) from error  # fmt: skip

    async def _free_memory_for(self, served: ServedModel) -> bool:
        """Evict models until there are a place and memory for one more. False: it is not needed any
        more, because it was loaded meanwhile or because no request waits for it."""
        try:
            while self._waiting[served.id] and self._available(served) is None:
                self._evict_broken()
                full, free = len(self._loaded) >= self._options.models, self.memory_free()
                if not full and served.bytes <= free:
                    return True
                if served.bytes > free + sum(
                    loaded.served.bytes for loaded in self._loaded.values()
                ):
                    raise self._no_memory(served, f"{human_bytes(free)} are free")
                await self._evict_one()
            return False
        finally:
            for loaded in self._loaded.values():
                loaded.draining = False

    async def _evict_one(self) -> None:
        """Evict the least recently used idle model; where none is idle, drain the one that was
        loaded first and wait for a change. A model just loaded for a request that has not acquired
        it yet is neither idle nor in use."""
        self._changed.clear()
        used = [held for held in self._loaded.values() if held.users]
        idle = [
            held
            for name, held in self._loaded.items()
            if not held.users and (held.draining or not self._waiting[name])
        ]
        if idle:
            self._evict(min(idle, key=lambda held: held.used).served.id)
            return
        if used:
            min(used, key=lambda held: held.since).draining = True
        await self._changed.wait()

    def _no_memory(self, served: ServedModel, found: str) -> ApiError:
        free = self.memory_free()
        fitting = [
            o.id for o in self.catalogue.served_models() if o.bytes <= free and o.id != served.id
        ]
        remedy = what_fits(served.checkpoint.path, self._options, free)
        if fitting:
            remedy = f"{remedy}; as it is: {', '.join(fitting[:_SUGGESTIONS])}"
        return ApiError(
            503,
            f"{served.id} does not fit into memory: its weights need about "
            f"{human_bytes(served.bytes)}.",
            code="out_of_memory",
            param="model",
            found=found,
            remedy=remedy,
        )

    def _evict_broken(self) -> None:
        for name in [name for name, loaded in self._loaded.items() if loaded.queue.broken]:
            self._evict(name)

    def _evict(self, name: str) -> None:
        loaded = self._loaded.pop(name, None)
        if loaded is not None:
            loaded.encoding.shutdown(wait=False)
            del loaded
            gc.collect()
            release_heap()
            if self.device.type == "cuda":
                torch.cuda.empty_cache()


def _retrieve_error(load: "asyncio.Task[None]") -> None:
    """Mark the error of a load as seen: asyncio reports those that no request awaits any more."""
    if not load.cancelled():
        load.exception()
