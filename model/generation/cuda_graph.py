"""The decoding step on CUDA as a captured graph: one launch instead of hundreds.

A graph replays the same kernels on the same addresses. So each new token's row, position and mask
are values in fixed tensors, and attention goes over the whole capacity of the cache, where what a
row has not reached is masked.
"""

from collections import OrderedDict
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from model.gpt import GPT
from model.layers.cache import KeyValueCache

_MOST_GRAPHS = 32  # of different rows; each holds its intermediate results
_WORTH_CAPTURING = 4  # steps with the same rows, after which capturing (0.1 s) pays

Run = Callable[[], None]


class CudaGraphDecoder:
    """The step for one model. `capture` runs a function and returns what replays it."""

    def __init__(self, model: GPT, capture: Callable[[Run], Run] | None = None) -> None:
        self._model = model
        self._capture = _CudaCapture(model.device) if capture is None else capture
        self._steps: OrderedDict[tuple[int, ...], _Step] = OrderedDict()

    def step(self, view: KeyValueCache, ids: Sequence[int], positions: Sequence[int]) -> Tensor:
        """Logits (B, V) float32 after one new id a row, which goes to its position in `view`."""
        keys = view.tensors[0]
        key = (keys.data_ptr(), *keys.shape)
        step = self._steps.get(key)
        if step is None:
            step = self._steps[key] = _Step(self._model, view)
            if len(self._steps) > _MOST_GRAPHS:
                self._steps.popitem(last=False)
        self._steps.move_to_end(key)
        return step.compute(ids, positions, self._capture)

    def forget(self) -> None:
        """The cache has moved: no captured address is valid any more."""
        self._steps.clear()


class _Step:
    """Fixed inputs and output of the rows of one view."""

    def __init__(self, model: GPT, view: KeyValueCache) -> None:
        self._model, self._view = model, view
        self._inputs = torch.zeros(2, view.rows, dtype=torch.int64, device=model.device)
        self._logits: Tensor | None = None
        self._replay: Run | None = None
        self._count = 0

    def compute(
        self, ids: Sequence[int], positions: Sequence[int], capture: Callable[[Run], Run]
    ) -> Tensor:
        self._inputs.copy_(torch.tensor([ids, positions]))
        self._count += 1
        if self._replay is None and self._count > _WORTH_CAPTURING:
            self._replay = capture(self._forward)
        (self._replay or self._forward)()
        assert self._logits is not None
        return self._logits.clone()

    def _forward(self) -> None:
        ids, positions = self._inputs[0, :, None], self._inputs[1, :, None]
        self._view.length = self._view.capacity - 1  # the mask alone says where each row is
        hidden = self._model.hidden(ids, self._view, positions)
        self._logits = self._model.logits(hidden[:, -1]).float()


class _CudaCapture:
    """Captures CUDA graphs that share one pool of memory, since no two are replayed at once."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._pool = torch.cuda.graph_pool_handle()

    def __call__(self, run: Run) -> Run:
        with torch.cuda.device(self._device):  # streams and graphs are those of the current one
            return self._captured(run)

    def _captured(self, run: Run) -> Run:
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):  # what is set up on first use must not be captured
            run()
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool):
            run()
        return graph.replay
