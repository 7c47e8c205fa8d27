"""llama.cpp as the engine: a GGUF file of the checkpoint, read through its C interface.

Ids go in and logits come out, so that drawing, batching, stop texts and seeds stay ours. The
package llama-cpp-python is an extra: it is imported when the engine is asked for.
"""

import ctypes
import importlib
import weakref
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from model.checkpoint import load_weights
from model.generation.batch import BatchScheduler
from model.generation.runner import Chunk, ModelRunner, piece_length, runner_for
from model.generation.sampling import SamplingSettings
from model.huggingface.folding import fold_into_weights
from model.layers.limits import SMALL_MODEL
from pipeline.options.config import LoadOptions
from pipeline.runs.inventory import safe_name
from pipeline.runs.lineage import EXPORTS
from utils.artefacts import build_folder, is_current, source
from utils.errors import HatcheryError, RefusedError, UsageError
from utils.files import require_space
from utils.verification import verify

_FORMATS = {torch.float32: "f32", torch.bfloat16: "bf16", torch.float16: "f16"}
_CONTEXT_STEP = 256  # positions by which llama.cpp rounds up
_PIECE = 1024  # ids that it takes in one call
_CHECKED, _TIE = 16, 1e-3  # tokens to compare, and logits so close that either may be chosen
_F32, _F16 = 0, 1  # ggml's numbers of its formats
_PLAIN, _FLASH_WHERE_FASTER = 0, -1  # llama.cpp's numbers of its kinds of attention
_ERROR = 4  # level in ggml's log
_SMALL_FILES = 1 << 20  # bytes beside the weights

_last_errors: deque[str] = deque(maxlen=3)  # its last errors, for ours


def llama_runner(
    path: Path, name: str, options: LoadOptions, dtype: torch.dtype
) -> tuple[ModelRunner, tuple[str, ...]]:
    """A runner of the checkpoint at `path`, and notes on it.

    In float32 its choices are compared with those of our own model first.

    Raises:
        UsageError: the package is not installed, or int4, which no export writes.
        RefusedError: no GGUF file can hold the model, or llama.cpp computes something else.
    """
    library = _library()
    if options.quantize == "int4":
        raise UsageError(
            "The engine llamacpp has no int4 here.",
            found="GGUF files are exported in f32, f16, bf16 and q8_0",
            remedy="use --quantize int8, or --engine torch --quantize int4",
        )
    form = "q8_0" if options.quantize == "int8" else _FORMATS[dtype]
    file = weights_file(path, form)
    runner = LlamaRunner(library, file, exact=form == "f32")
    notes = []
    if form == "f32":
        ours = load_weights(path, "cpu", dtype)
        compare(runner, runner_for(ours), name)
        if ours.config.mlp == "gelu":
            notes.append(f"llama.cpp looks GELU up in 16 bits: {name} may write other texts here.")
    if form == "q8_0":
        notes.append(
            f"{name} in q8_0 by llama.cpp: what that costs was not measured. --engine torch "
            "--quantize int8 measures much the same."
        )
    return runner, tuple(notes)


def weights_file(path: Path, form: str) -> Path:
    """The weights of a checkpoint as a GGUF file in `form` (f32, f16, bf16 or q8_0), kept in
    exports/ and written unless it is there and the checkpoint is still the same.

    It has no tokenizer, since ids go in and come out: so it holds models whose tokenizer no
    exported GGUF could.

    Raises:
        RefusedError: no GGUF file can hold the model, or one that is there is damaged.
        DiskFullError: there is no room for it.
    """
    from pipeline.export.gguf_model import GgufModel, refuse_unknown  # 200 ms

    name = safe_name(f"{path.absolute().parent.name}-{path.stem}")
    target, plan, inputs = EXPORTS / f"{name}-llamacpp-{form}", {"dtype": form}, [source(path)]
    file = f"weights-{form}.gguf"
    if is_current(target, "inference", plan, inputs) is not None:
        verify(target)
        return target / file
    try:
        model = fold_into_weights(load_weights(path))
        refuse_unknown(model.config)
    except RefusedError as error:
        raise RefusedError(error.problem, found=error.found, remedy="--engine torch") from error
    weights = GgufModel(model, None, None, name, form)
    require_space(target, weights.bytes + _SMALL_FILES)
    with build_folder(
        target, kind="engine weights", command="inference", options=plan, inputs=inputs
    ) as builder:
        for leftover in list(builder.units):
            (builder.path / leftover).unlink(missing_ok=True)
            del builder.units[leftover]
        deque(weights.write(builder.path / file), maxlen=0)
        builder.adopt(file)
    return target / file


def compare(theirs: ModelRunner, ours: ModelRunner, name: str) -> None:
    """Let both say what follows a short text of ours, token by token.

    Raises:
        RefusedError: they choose differently where the model is not undecided.
    """
    batch = BatchScheduler(ours, 1)
    written = [min(1, ours.vocabulary - 1)]
    count = min(_CHECKED, ours.context - 1)
    batch.join(written, SamplingSettings(temperature=0, max_new_tokens=count))
    while batch:
        written += [token.id for token in batch.step()]
    for start in range(len(written) - 1):
        chunks = [Chunk(0, start, written[start : start + 1])]
        expected, found = ours.forward(chunks)[0], theirs.forward(chunks)[0]
        ours_id, theirs_id = int(expected.argmax()), int(found.argmax())
        if ours_id != theirs_id and not expected[ours_id] - expected[theirs_id] < _TIE:
            raise RefusedError(
                f"llama.cpp computes {name} differently.",
                found=f"after the ids {written[: start + 1]} it chooses {theirs_id}, we choose "
                f"{ours_id}, by {expected[ours_id] - expected[theirs_id]:.3g}",
                remedy="use --engine torch",
            )


class LlamaRunner:
    """See `model.generation.runner.ModelRunner`; a slot is one of llama.cpp's sequences.

    Sequences and positions grow by doubling, after which everything held is read once more.
    """

    def __init__(self, library: Any, file: Path, *, exact: bool) -> None:
        self._library, self.exact = library, exact
        settings = library.llama_model_default_params()
        settings.n_gpu_layers = 0
        self._model = library.llama_model_load_from_file(str(file).encode(), settings)
        if not self._model:
            raise _failed(f"llama.cpp cannot load {file}.")
        vocabulary = library.llama_model_get_vocab(self._model)
        self.context: int = library.llama_model_n_ctx_train(self._model)
        self.vocabulary: int = library.llama_vocab_n_tokens(vocabulary)
        small = library.llama_model_n_params(self._model) < SMALL_MODEL
        self._threads = 1 if small else torch.get_num_threads()
        self._batch = library.llama_batch_init(_PIECE, 0, 1)
        self._slots = self._capacity = 0
        self._context: Any = None
        self._held: dict[int, list[int]] = {}
        weakref.finalize(self, library.llama_model_free, self._model)
        weakref.finalize(self, library.llama_batch_free, self._batch)
        self._free_context: Callable[[], object] = _no_context

    def forward(self, chunks: Sequence[Chunk]) -> Tensor:
        """See `ModelRunner`.

        Raises:
            HatcheryError: llama.cpp reports a failure; what it said.
        """
        self._make_room(
            max(chunk.slot for chunk in chunks) + 1,
            max(chunk.start + len(chunk.ids) for chunk in chunks),
        )
        memory = self._library.llama_get_memory(self._context)
        for chunk in chunks:
            self._library.llama_memory_seq_rm(memory, chunk.slot, chunk.start, -1)
            held = self._held.setdefault(chunk.slot, [])
            held[chunk.start :] = chunk.ids
        return self._read(chunks)

    def logits_along(self, ids: Sequence[int]) -> Iterator[Tensor]:
        """See `ModelRunner`; a context of its own holds the text.

        Raises:
            HatcheryError: see `read`.
        """
        context = self._new_context(1, _rounded(len(ids)))
        try:
            size = piece_length(self.vocabulary)
            for start in range(0, len(ids), size):
                piece = ids[start : start + size]
                entries = [(token, start + n, 0, n) for n, token in enumerate(piece)]
                yield self._decode(context, entries, len(piece))
        finally:
            self._library.llama_free(context)

    def _make_room(self, slots: int, positions: int) -> None:
        """A context for so many sequences and positions of each."""
        if slots <= self._slots and positions <= self._capacity:
            return
        if slots > self._slots:
            self._slots = max(slots, 2 * self._slots)
        if positions > self._capacity:
            capacity = max(_rounded(positions), 2 * self._capacity)
            self._capacity = min(_rounded(self.context), capacity)
        self._free_context()
        self._context = self._new_context(self._slots, self._capacity)
        self._free_context = weakref.finalize(self, self._library.llama_free, self._context)
        self._read([Chunk(slot, 0, ids) for slot, ids in self._held.items() if ids])

    def _new_context(self, slots: int, capacity: int) -> Any:
        settings = self._library.llama_context_default_params()
        settings.n_ctx = slots * capacity
        settings.n_seq_max = slots
        settings.n_batch = _PIECE
        settings.n_threads = settings.n_threads_batch = self._threads
        settings.kv_unified = False
        settings.type_k = settings.type_v = _F32 if self.exact else _F16
        settings.flash_attn_type = _PLAIN if self.exact else _FLASH_WHERE_FASTER
        settings.no_perf = True
        context = self._library.llama_init_from_model(self._model, settings)
        if not context:
            raise _failed(f"llama.cpp has no room for {slots} texts.")
        return context

    def _read(self, chunks: Sequence[Chunk]) -> Tensor:
        """Logits after the end of each chunk: (chunks, V) float32."""
        entries = [
            (token, chunk.start + place, chunk.slot, number if place + 1 == len(chunk.ids) else -1)
            for number, chunk in enumerate(chunks)
            for place, token in enumerate(chunk.ids)
        ]
        return self._decode(self._context, entries, len(chunks))

    def _decode(
        self, context: Any, entries: Sequence[tuple[int, int, int, int]], rows: int
    ) -> Tensor:
        """Logits (rows, V) float32 of entries: id, position, sequence, and the row that gets what
        may follow, -1 for none."""
        logits = torch.empty(rows, self.vocabulary)
        batch = self._batch
        for begin in range(0, len(entries), _PIECE):
            piece = entries[begin : begin + _PIECE]
            batch.n_tokens = len(piece)
            for place, (token, position, slot, row) in enumerate(piece):
                batch.token[place], batch.pos[place] = token, position
                batch.n_seq_id[place], batch.seq_id[place][0] = 1, slot
                batch.logits[place] = row >= 0
            code = self._library.llama_decode(context, batch)
            if code:
                raise _failed(f"llama.cpp cannot read on (code {code}).")
            for place, (_, _, _, row) in enumerate(piece):
                if row >= 0:
                    values = self._library.llama_get_logits_ith(context, place)
                    found = np.ctypeslib.as_array(values, (self.vocabulary,))
                    logits[row] = torch.from_numpy(found)
        return logits


def _rounded(positions: int) -> int:
    return -(-positions // _CONTEXT_STEP) * _CONTEXT_STEP


@cache
def _library() -> Any:
    """llama-cpp-python, told to keep its log to itself."""
    try:
        library = importlib.import_module("llama_cpp")
    except ImportError as error:
        raise UsageError(
            "The engine llamacpp needs the package llama-cpp-python.",
            found=f"{type(error).__name__}: {error}",
            remedy='install it: pip install -e ".[cpu-fast]" (it builds llama.cpp: a C++ compiler '
            "and some minutes), or use --engine torch",
        ) from error
    library.llama_log_set(_log_callback(), None)
    return library


@cache
def _log_callback() -> Any:
    """A C function that keeps the last errors; it must live as long as the library."""

    def listen(level: int, text: bytes, _data: object) -> None:
        if level == _ERROR:
            _last_errors.append(text.decode("utf-8", "replace").strip())

    return ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)(listen)


def _failed(problem: str) -> HatcheryError:
    found = " ".join(_last_errors) or "it gave no reason"
    _last_errors.clear()
    return HatcheryError(problem, found=found, remedy="use --engine torch")


def _no_context() -> None:
    """What there is to free before there is a context."""
