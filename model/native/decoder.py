"""The decoding step in C (`decode.c`), compiled on first use for the processor at hand.

One token of a small model is a few hundred operators of torch, each of which takes longer to call
than to compute, and torch's matrix-vector products reach half of the memory's speed. The whole
step as one function reads the weights as fast as memory gives them, for short prompts too.
"""

import ctypes
import time
from collections.abc import Iterator, Sequence
from itertools import accumulate, chain
from typing import cast

import torch
from torch import Tensor, nn

from model.gpt import GPT, Block
from model.layers.cache import KeyValueCache
from model.layers.norm import Norm
from model.native.build import DECODE, load
from model.native.threads import ThreadChoice, candidates
from model.quantization.layers import Int4Linear, Int8Linear, Int8Table
from model.quantization.model import QuantizedGPT

_KINDS = {torch.float32: 0, torch.bfloat16: 1, torch.int8: 2, torch.uint8: 3}  # the last: int4
_ACTIVATIONS = ("swiglu", "geglu", "reglu", "gelu", "relu2")
_FEW_ROWS = 16  # new ids that are read so fast that waking a thread can take longer
_pointer, _int, _long, _float = ctypes.c_void_p, ctypes.c_int32, ctypes.c_int64, ctypes.c_float


class _Matrix(ctypes.Structure):
    _fields_ = [
        *((name, _pointer) for name in ("weight", "scale", "factors", "bias")),
        *((name, _int) for name in ("kind", "outputs", "inputs")),
    ]


class _Norm(ctypes.Structure):
    _fields_ = [("gain", _pointer), ("shift", _pointer)]


class _Layer(ctypes.Structure):
    _fields_ = [
        *((name, _Norm) for name in ("attention_norm", "mlp_norm")),
        *((name, _pointer) for name in ("q_gain", "k_gain")),
        *((name, _Matrix) for name in ("qkv", "out", "up", "down")),
    ]


class _Model(ctypes.Structure):
    _fields_ = [
        *((name, _Matrix) for name in ("embedding", "positions", "head")),
        *((name, _Norm) for name in ("embedding_norm", "norm")),
        *((name, _pointer) for name in ("cos", "sin")),
        ("layers", ctypes.POINTER(_Layer)),
        *((name, _int) for name in ("count", "heads", "kv_heads", "head_size", "mlp_size")),
        *((name, _int) for name in ("activation", "layer_norm", "embedding_normed", "qk_norm")),
        *((name, _float) for name in ("eps", "logit_scale")),
    ]


class _Cache(ctypes.Structure):
    _fields_ = [
        *((name, _pointer) for name in ("keys", "values")),
        *((name, _long) for name in ("layer_stride", "text_stride")),
        *((name, _int) for name in ("capacity", "kind")),
    ]


class _Batch(ctypes.Structure):
    _fields_ = [
        *((name, _pointer) for name in ("ids", "firsts", "starts", "slots")),
        ("texts", _int),
    ]


class _Scratch(ctypes.Structure):
    _fields_ = [
        *((name, _pointer) for name in ("x", "mixed", "qkv", "scores", "inputs")),
        *((name, _int) for name in ("width", "shared")),
    ]


class NativeDecoder:
    """The step for one model; its weights are used where they are, not copied."""

    def __init__(self, model: GPT, library: ctypes.CDLL) -> None:
        self._step = library.decode_step
        self._config = model.config
        self._pointed_to: list[Tensor] = []  # lives as long as this object
        self._buffers = [torch.empty(0)] * 5
        self._most_threads = torch.get_num_threads()
        self._threads: dict[int, ThreadChoice] = {}
        self._model = self._describe(model)

    def step(
        self,
        cache: KeyValueCache,
        slots: Sequence[int],
        ids: Sequence[Sequence[int]],
        starts: Sequence[int],
        threads: int | None = None,
        *,
        every: bool = False,
    ) -> Tensor:
        """Logits (B, V) float32 after new ids of each of these rows of the cache, which stand from
        position starts[b] on; (all ids, V) after every one.

        A text's logits are the same to the bit whatever stands beside it, in whatever pieces its
        ids come and however many threads compute; without `threads` the number that is fastest
        is found while writing.
        """
        firsts = [0, *accumulate(map(len, ids))]
        texts, rows = len(ids), firsts[-1]
        choice = self._choice(rows)
        count = threads or choice.threads
        keys, values = cache.tensors
        cached = _Cache(
            *(tensor.data_ptr() for tensor in (keys, values)),
            *keys.stride()[:2],
            cache.capacity,
            _KINDS[keys.dtype],
        )
        lists = [(_int * len(n))(*n) for n in (list(chain(*ids)), firsts, starts, slots)]
        batch = _Batch(*(ctypes.cast(n, _pointer) for n in lists), texts)
        logits = torch.empty(rows if every else texts, self._config.vocab_size)
        scratch = self._scratch(rows, cache.capacity, count)
        begin = time.perf_counter()
        self._step(
            *map(ctypes.byref, (self._model, cached, scratch, batch)),
            _pointer(logits.data_ptr()),
            every,
            count,
        )
        if threads is None:
            choice.record(time.perf_counter() - begin)
        return logits

    def _choice(self, rows: int) -> ThreadChoice:
        """All threads where there is much to do: such a step is too long to try others."""
        rows = min(rows, _FEW_ROWS + 1)
        if rows not in self._threads:
            most = self._most_threads
            self._threads[rows] = ThreadChoice(candidates(most) if rows <= _FEW_ROWS else [most])
        return self._threads[rows]

    def _scratch(self, rows: int, capacity: int, threads: int) -> _Scratch:
        """Memory for a step; buffers are replaced where they are too small."""
        c = self._config
        heads, mlp = c.num_heads * c.head_size, c.mlp_size
        width, shared = max(c.hidden_size, heads, mlp), rows > _FEW_ROWS
        sizes = (
            rows * c.hidden_size,
            rows * max(heads, 2 * mlp),
            rows * (heads + 2 * c.kv_heads * c.head_size),
            threads * capacity,
            rows * width * (1 if shared else threads),
        )
        self._buffers = [
            buffer if buffer.numel() >= size else torch.empty(size)
            for buffer, size in zip(self._buffers, sizes, strict=True)
        ]
        return _Scratch(*(buffer.data_ptr() for buffer in self._buffers), width, shared)

    def _describe(self, model: GPT) -> _Model:
        c = model.config
        layers = (_Layer * c.num_layers)()
        for layer, block in zip(layers, _blocks(model), strict=True):
            attention, mlp = block.attention, block.mlp
            layer.attention_norm = self._norm(block.attention_norm)
            layer.mlp_norm = self._norm(block.mlp_norm)
            if attention.q_norm is not None and attention.k_norm is not None:
                layer.q_gain = self._floats(attention.q_norm.weight)
                layer.k_gain = self._floats(attention.k_norm.weight)
            layer.qkv, layer.out = self._matrix(attention.qkv), self._matrix(attention.out)
            layer.up, layer.down = self._matrix(mlp.up), self._matrix(mlp.down)
        result = _Model(
            embedding=self._matrix(model.embedding),
            head=self._matrix(_head(model)),
            norm=self._norm(model.norm),
            layers=layers,
            count=c.num_layers,
            heads=c.num_heads,
            kv_heads=c.kv_heads,
            head_size=c.head_size,
            mlp_size=c.mlp_size,
            activation=_ACTIVATIONS.index(c.mlp),
            layer_norm=c.norm == "layernorm",
            embedding_normed=c.embedding_norm,
            qk_norm=c.qk_norm,
            eps=c.layer_norm_eps,
            logit_scale=c.logit_scale,
        )
        if model.positions is not None:
            result.positions = self._matrix(model.positions)
        if model.rotary is not None:
            result.cos, result.sin = map(self._floats, (model.rotary.cos, model.rotary.sin))
        if model.embedding_norm is not None:
            result.embedding_norm = self._norm(model.embedding_norm)
        return result

    def _matrix(self, module: nn.Module) -> _Matrix:
        module = module.table if isinstance(module, Int8Table) else module
        scales = factors = None
        if isinstance(module, Int8Linear | Int4Linear):
            weight, bias = module.quantized, module.bias
            if isinstance(module, Int8Linear):
                scales = self._floats(module.scales)
            else:
                factors = self._address(module.factors)
            outputs, inputs = module.shape
        else:
            assert isinstance(module, nn.Linear | nn.Embedding)
            weight, bias = module.weight, getattr(module, "bias", None)
            outputs, inputs = weight.shape
        pointers = (self._address(weight), scales, factors, self._floats(bias))
        return _Matrix(*pointers, _KINDS[weight.dtype], outputs, inputs)

    def _norm(self, norm: Norm) -> _Norm:
        return _Norm(self._floats(norm.weight), self._floats(norm.bias))

    def _floats(self, values: Tensor | None) -> int | None:
        """Address of the values as contiguous float32, None for none."""
        return None if values is None else self._address(values.detach().float().contiguous())

    def _address(self, values: Tensor) -> int:
        self._pointed_to.append(values)
        return values.data_ptr()


def native_decoder(model: GPT) -> NativeDecoder | None:
    """The step in C, where it can run: on a CPU, with weights in float32, bfloat16, int8 or int4
    and a compiler."""
    known = all(map(_is_known, _matrices(model))) and model.dtype in _KINDS
    library = load(DECODE) if known and model.device.type == "cpu" else None
    return None if library is None else NativeDecoder(model, library)


def argmax_logsumexp(scores: Tensor) -> tuple[Tensor, Tensor] | None:
    """See `model.generation.sampling.argmax_logsumexp`; None where C cannot compute it."""
    library = load(DECODE) if scores.device.type == "cpu" and scores.stride(1) == 1 else None
    if library is None:
        return None
    rows, count = scores.shape
    found = torch.empty(rows, dtype=torch.int64), torch.empty(rows)
    library.argmax_logsumexp(
        _pointer(scores.data_ptr()),
        _long(scores.stride(0)),
        _int(rows),
        _int(count),
        *(_pointer(tensor.data_ptr()) for tensor in found),
    )
    return found


def _is_known(module: nn.Module) -> bool:
    if type(module) in (nn.Linear, nn.Embedding):
        weight = cast(nn.Linear, module).weight
        return weight.dtype in _KINDS and weight.is_contiguous()
    return isinstance(module, Int8Linear | Int8Table | Int4Linear)


def _matrices(model: GPT) -> Iterator[nn.Module]:
    for block in _blocks(model):
        yield from (block.attention.qkv, block.attention.out, block.mlp.up, block.mlp.down)
    yield model.embedding
    yield _head(model)
    if model.positions is not None:
        yield model.positions


def _blocks(model: GPT) -> list[Block]:
    return [cast(Block, block) for block in model.blocks]


def _head(model: GPT) -> nn.Module:
    if isinstance(model, QuantizedGPT):
        return model.scores
    return model.embedding if model.head is None else model.head
