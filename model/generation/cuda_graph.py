"""The decoding step on CUDA as a recorded graph: one launch instead of hundreds.

A graph repeats the same kernels on the same addresses. So each new token's row, position and mask
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
_WORTH_RECORDING = 4  # steps with the same rows, after which recording (0.1 s) pays

Play = Callable[[], None]


class GraphDecoder:
    """The step for one model. `record` is told to run a function and returns what repeats it."""

    def __init__(self, model: GPT, record: Callable[[Play], Play] | None = None) -> None:
        self._model = model
        self._record = _Recorder() if record is None else record
        self._steps: OrderedDict[tuple[int, ...], _Step] = OrderedDict()

    def step(self, view: KeyValueCache, ids: Sequence[int], positions: Sequence[int]) -> Tensor:
        """Logits (B, V) float32 after one new id a row, which goes to its position in `view`."""
        keys = view.tensors[0]
        place = (keys.data_ptr(), *keys.shape)
        step = self._steps.get(place)
        if step is None:
            step = self._steps[place] = _Step(self._model, view)
            if len(self._steps) > _MOST_GRAPHS:
                self._steps.popitem(last=False)
        self._steps.move_to_end(place)
        return step.take(ids, positions, self._record)

    def forget(self) -> None:
        """The cache has moved: nothing recorded is true any more."""
        self._steps.clear()


class _Step:
    """Fixed inputs and output of the rows of one view."""

    def __init__(self, model: GPT, view: KeyValueCache) -> None:
        self._model, self._view = model, view
        self._inputs = torch.zeros(2, view.rows, dtype=torch.int64, device=model.device)
        self._logits: Tensor | None = None
        self._play: Play | None = None
        self._taken = 0

    def take(
        self, ids: Sequence[int], positions: Sequence[int], record: Callable[[Play], Play]
    ) -> Tensor:
        self._inputs.copy_(torch.tensor([ids, positions]))
        self._taken += 1
        if self._play is None and self._taken > _WORTH_RECORDING:
            self._play = record(self._compute)
        (self._play or self._compute)()
        assert self._logits is not None
        return self._logits.clone()

    def _compute(self) -> None:
        ids, positions = self._inputs[0, :, None], self._inputs[1, :, None]
        self._view.length = self._view.capacity - 1  # the mask alone says where each row is
        hidden = self._model.hidden(ids, self._view, positions)
        self._logits = self._model.logits(hidden[:, -1]).float()


class _Recorder:
    """Records CUDA graphs that share one pool of memory, since they never play together."""

    def __init__(self) -> None:
        self._pool = torch.cuda.graph_pool_handle()

    def __call__(self, run: Play) -> Play:
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):  # what is set up on first use must not be recorded
            run()
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool):
            run()
        return graph.replay
