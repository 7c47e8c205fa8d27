"""Models in memory: loaded when first asked for, the least recently used and idle one makes room.

Where all are writing, whoever wants another one waits, in order: the model that has been here
longest takes no new requests until it is idle. So nobody waits for ever, however busy others are.
Everything but reading a checkpoint happens in the event loop: no state needs a lock.
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
from pipeline.inference.loading import device_for, load_writer, memory_free, what_fits
from pipeline.options.config import ServeOptions
from pipeline.server.engine.catalogue import Catalogue, Offer
from pipeline.server.engine.chat_template import ChatTemplate
from pipeline.server.engine.work_queue import Desk
from pipeline.server.errors import ApiError, from_hatchery, stopping
from utils.errors import HatcheryError, OutOfMemoryError, is_out_of_memory
from utils.hardware import release_heap
from utils.units import human_bytes

_COME_AGAIN = 2  # seconds
_SUGGESTED = 3  # models that an error names


@dataclass(eq=False)
class Loaded:
    """A model in memory; `users` are the requests that hold it, `since` when it came and `used`
    when a request last did. One that is `leaving` takes no new ones."""

    offer: Offer
    desk: Desk
    since: float
    used: float
    users: int = 0
    leaving: bool = False
    _chat: ChatTemplate | None = field(default=None, repr=False)

    @property
    def chat(self) -> ChatTemplate:
        """Its chat template, read when first needed; see there for what is raised."""
        if self._chat is None:
            self._chat = ChatTemplate(self.desk.writer.tokenizer)
        return self._chat


class Shelf:
    """At most `options.models` models. `warn` hears what could not be loaded."""

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
        self._loaded: dict[str, Loaded] = {}
        self._loads: dict[str, asyncio.Task[None]] = {}
        self._wanted: Counter[str] = Counter()  # requests that wait for a model
        self._one_at_a_time = asyncio.Lock()
        self._changed = asyncio.Event()
        self._reader = ThreadPoolExecutor(1, "load")
        self.device = device_for(options)

    def __len__(self) -> int:
        return len(self._loaded)

    def holds(self, offer: Offer) -> bool:
        """Whether it is in memory."""
        return offer.id in self._loaded

    def offers(self) -> list[Offer]:
        """All that can be asked for: what lies on disk, and what was deleted but is in memory."""
        listed = self.catalogue.offers()
        ids = {offer.id for offer in listed}
        return [*listed, *(held.offer for name, held in [*self._loaded.items()] if name not in ids)]

    def find(self, name: str | None) -> Offer:
        """The offer of an id or alias; see `Catalogue.find`. May be called in any thread."""
        held = self._loaded.get(name or "")  # goes on serving where its files are gone
        return held.offer if held is not None else self.catalogue.find(name)

    def memory_free(self) -> int:
        """Bytes that one more model may take."""
        return memory_free(self.device)

    async def lease(self, name: str | None) -> Loaded:
        """The model of an id or alias, loaded if need be; given back by `release`.

        Raises:
            ApiError: there is none, it is damaged, or there can be no memory for it.
        """
        held = self._loaded.get(name or "")
        offer = held.offer if held is not None else await asyncio.to_thread(self.find, name)
        self._wanted[offer.id] += 1
        try:
            while (found := self._open(offer)) is None:
                if offer.id not in self._loads:
                    self._loads[offer.id] = task = asyncio.create_task(self._load(offer))
                    task.add_done_callback(_hear)
                await asyncio.shield(self._loads[offer.id])
            found.users += 1
            found.used = self._clock()
            return found
        finally:
            self._wanted[offer.id] -= 1
            self._changed.set()

    def _open(self, offer: Offer) -> Loaded | None:
        """The model in memory, where it takes requests."""
        found = self._loaded.get(offer.id)
        return None if found is None or found.desk.broken or found.leaving else found

    def release(self, loaded: Loaded) -> None:
        """The request that held it is over."""
        loaded.users -= 1
        loaded.used = self._clock()
        self._changed.set()

    def unload(self, offer: Offer) -> None:
        """Take a model out of memory; nothing happens where it is not there.

        Raises:
            ApiError: 409, it is writing.
        """
        loaded = self._loaded.get(offer.id)
        if loaded is not None and loaded.users:
            raise ApiError(409, f"{offer.id} is in use.", code="model_busy",
                           found=f"{loaded.users} requests", retry_after=_COME_AGAIN)  # fmt: skip
        self._drop(offer.id)
        self._changed.set()

    def close(self) -> None:
        """Wait for no load that is still going on; whoever does is told that the server stops."""
        for load in self._loads.values():
            load.cancel()
        self._reader.shutdown(wait=False, cancel_futures=True)

    async def _load(self, offer: Offer) -> None:
        try:
            async with self._one_at_a_time:
                if await self._make_room(offer):
                    loop = asyncio.get_running_loop()
                    desk = await loop.run_in_executor(self._reader, self._read, offer)
                    now = self._clock()
                    self._loaded[offer.id] = Loaded(offer, desk, now, now)
                    for note in desk.writer.notes:
                        self._warn(note)
        except ApiError as error:
            self._warn(f"{error.message} {error.found}".rstrip())
            raise
        except asyncio.CancelledError:
            raise stopping() from None
        finally:
            del self._loads[offer.id]

    def _read(self, offer: Offer) -> Desk:
        """Read a checkpoint; in a thread of its own."""
        path = offer.checkpoint.path
        try:
            writer = load_writer(path, offer.id, self._options, self._tokenizers_dir)
            return Desk(writer, BatchScheduler(writer.runner, self._options.rows))
        except OutOfMemoryError as error:
            raise self._no_memory(offer, error.found) from error
        except HatcheryError as error:
            if not path.exists():
                raise ApiError(404, f"{offer.id} was deleted.", code="model_not_found",
                               param="model", remedy="ask /v1/models") from error  # fmt: skip
            raise from_hatchery(error, code="model_unusable") from error
        except Exception as error:
            if is_out_of_memory(error):
                raise self._no_memory(offer, str(error)[:200]) from error
            raise ApiError(422, f"{offer.id} cannot be loaded.", code="model_unusable",
                           found=f"{type(error).__name__}: {error}"[:300]) from error  # fmt: skip

    async def _make_room(self, offer: Offer) -> bool:
        """Let models go until there is a place and memory for one more. False: it is not needed any
        more, because it has come or because nobody waits for it."""
        try:
            while self._wanted[offer.id] and self._open(offer) is None:
                self._drop_broken()
                full, free = len(self._loaded) >= self._options.models, self.memory_free()
                if not full and offer.bytes <= free:
                    return True
                if offer.bytes > free + sum(loaded.offer.bytes for loaded in self._loaded.values()):
                    raise self._no_memory(offer, f"{human_bytes(free)} are free")
                await self._let_one_go()
            return False
        finally:
            for loaded in self._loaded.values():
                loaded.leaving = False

    async def _let_one_go(self) -> None:
        """Drop the least recently used idle model; where none is idle, wait for a change, while the
        one that has been here longest takes no new requests. One that has just come for somebody
        who has not taken it yet is neither idle nor in use."""
        self._changed.clear()
        used = [held for held in self._loaded.values() if held.users]
        idle = [
            held
            for name, held in self._loaded.items()
            if not held.users and (held.leaving or not self._wanted[name])
        ]
        if idle:
            self._drop(min(idle, key=lambda held: held.used).offer.id)
            return
        if used:
            min(used, key=lambda held: held.since).leaving = True
        await self._changed.wait()

    def _no_memory(self, offer: Offer, found: str) -> ApiError:
        free = self.memory_free()
        fitting = [o.id for o in self.catalogue.offers() if o.bytes <= free and o.id != offer.id]
        remedy = what_fits(offer.checkpoint.path, self._options, free)
        if fitting:
            remedy = f"{remedy}; as it is: {', '.join(fitting[:_SUGGESTED])}"
        return ApiError(
            503,
            f"{offer.id} does not fit into memory: its weights need about "
            f"{human_bytes(offer.bytes)}.",
            code="out_of_memory",
            param="model",
            found=found,
            remedy=remedy,
        )

    def _drop_broken(self) -> None:
        for name in [name for name, loaded in self._loaded.items() if loaded.desk.broken]:
            self._drop(name)

    def _drop(self, name: str) -> None:
        loaded = self._loaded.pop(name, None)
        if loaded is not None:
            del loaded
            gc.collect()
            release_heap()
            if self.device.type == "cuda":
                torch.cuda.empty_cache()


def _hear(load: "asyncio.Task[None]") -> None:
    """Whoever waited may have gone; asyncio complains of errors that nobody looks at."""
    if not load.cancelled():
        load.exception()
