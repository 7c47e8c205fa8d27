"""What an Apple GPU must be able to compute: it has no float64."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch

from model.device import dtype_on, float64_sum
from model.generation.batch import BatchScheduler
from model.generation.runner import TorchRunner, UncachedRunner, runner_for
from model.generation.sampling import SamplingSettings, draw
from model.generation.scoring import score
from model.quantization.model import QuantizedGPT
from tests.model.test_sampler import KINDS, PROMPTS, lively
from tests.support.apple_gpu import APPLE, AppleTensor, apple_gpu, moved

SETTINGS: dict[str, dict[str, Any]] = {
    "greedy": {"temperature": 0},
    "defaults": {},
    "no limits": {"top_k": None, "top_p": None},
    "top-p alone": {"top_k": None},
    "min-p": {"top_k": None, "top_p": None, "min_p": 0.05},
    "penalties": {"repetition_penalty": 1.3, "presence_penalty": 0.4, "frequency_penalty": 0.2},
    "bias and alternatives": {"logit_bias": ((3, 2.5), (7, -1.0)), "alternatives": 4},
}


@pytest.fixture
def device() -> Iterator[torch.device]:
    with torch.inference_mode(), apple_gpu() as device:
        yield device


def test_the_pretended_one_refuses_float64(device: torch.device) -> None:
    numbers = torch.arange(3, device=device) / 2
    assert (numbers.device, numbers.sum().item()) == (APPLE, 1.5)
    for refused in (numbers.double, lambda: torch.zeros(2, dtype=torch.float64, device=device)):
        with pytest.raises(TypeError, match="float64"):
            refused()
    assert numbers.cpu().double().dtype == torch.float64


@pytest.mark.parametrize("name", SETTINGS)
def test_a_token_is_drawn_as_on_the_cpu(name: str, device: torch.device) -> None:
    logits = 3 * torch.randn(2, 3000, generator=torch.Generator().manual_seed(4))
    seen = [[1, 2, 2], [5]]

    def drawn(where: torch.Tensor) -> Any:
        generators = [torch.Generator().manual_seed(row) for row in range(2)]
        return draw(where, SamplingSettings(**SETTINGS[name]), generators, seen, seen)

    expected, found = drawn(logits), drawn(logits.to(device))
    assert found.ids == expected.ids
    assert found.logprobs == pytest.approx(expected.logprobs, abs=1e-5)
    assert [[i for i, _ in row] for row in found.alternatives] == [
        [i for i, _ in row] for row in expected.alternatives
    ]


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_texts_are_written_as_on_the_cpu(kind: str, device: torch.device) -> None:
    settings = {"max_length": 30, "seed": 7, "repetition_penalty": 1.2}
    expected = lively(**KINDS[kind]).generate(PROMPTS, **settings)
    assert moved(lively(**KINDS[kind])).generate(PROMPTS, **settings) == expected


@pytest.mark.parametrize("runner", [TorchRunner, UncachedRunner])
def test_a_text_is_scored_as_on_the_cpu(runner: Any, device: torch.device) -> None:
    ids = [(7 * i * i + 3) % 53 for i in range(30)]
    expected, found = (
        [one for piece in score(each.logits_along(ids[:-1]), ids, 53, 3) for one in piece]
        for each in (TorchRunner(lively()), runner(moved(lively())))
    )
    logprobs = [one.logprob for one in expected]
    assert [one.logprob for one in found] == pytest.approx(logprobs, abs=1e-4)


def test_float64_weights_become_quantized_ones(device: torch.device) -> None:
    model = lively(hidden_size=64)
    state = {name: tensor.double() for name, tensor in model.state_dict().items()}
    small = QuantizedGPT(model.config, state, "int8", device, torch.float32)
    batch = BatchScheduler(runner_for(small), 1)
    batch.join([1, 2, 3], SamplingSettings(temperature=0, max_new_tokens=4))
    assert [len(batch.step()) for _ in range(4)] == [1] * 4


def test_a_sum_in_float64_is_that_of_the_cpu(device: torch.device) -> None:
    values = torch.tensor([1e8, 1.0, -1e8, 1e-3] * 9)
    assert isinstance(values.to(device), AppleTensor)
    assert float64_sum(values.to(device)) == float64_sum(values) == float(values.double().sum())


def test_only_there_float32_takes_the_place_of_float64() -> None:
    assert dtype_on(APPLE, torch.float64) == torch.float32
    assert dtype_on(APPLE, torch.bfloat16) == torch.bfloat16
    assert dtype_on(torch.device("cpu"), torch.float64) == torch.float64
