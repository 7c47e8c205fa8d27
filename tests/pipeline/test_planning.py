"""A training's needs are known before it starts, and what is said is what then happens."""

import json
import subprocess
import sys
from datetime import datetime
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from model.config import ModelConfig, parameter_count
from model.device import autocast, fast_half
from model.language_model import create_model
from model.layers.limits import MATH_UP_TO, MATH_UP_TO_IN_HALF
from model.optimizer import build_optimizer, optimizer_state
from pipeline.options.config import TrainOptions
from pipeline.planning.activations import Shape, saved_bytes
from pipeline.planning.deadline import optimal_size, seconds_until, steps_that_fit
from pipeline.planning.estimate import Corpus, estimate
from pipeline.planning.inputs import Inputs, read_inputs
from pipeline.planning.memory import optimizer_bytes
from pipeline.planning.remedies import remedies
from pipeline.planning.target import Target
from pipeline.planning.wording import lines
from tests.support.stage_runner import finished, run_stage, typed_settings
from utils.errors import UsageError
from utils.hardware import multiplies_bf16

ROOT = Path(__file__).parents[2]
GIB = 1 << 30
PLAIN: dict[str, Any] = {
    "vocab_size": 1000,
    "hidden_size": 128,
    "num_layers": 2,
    "num_heads": 4,
    "num_kv_heads": 2,
    "max_position_embeddings": 1024,
}
GPT2 = {"mlp": "gelu", "norm": "layernorm", "position": "learned", "bias": True}
SWITCHES: list[dict[str, Any]] = [
    {},
    {"qk_norm": True},
    {"qk_norm": True, "norm_gain": False},
    {"qk_norm": True, "position": "learned"},
    GPT2,
    {"mlp": "geglu", "num_kv_heads": 4},
    {"mlp": "reglu", "intermediate_size": 200, "head_dim": 48},
    {"mlp": "relu2", "embedding_norm": True, "logit_scale": 0.25},
    {"tie_word_embeddings": False, "dropout": 0.1},
    {"attention_dropout": 0.1},
    {"attention": "math"},
    {"attention": "sdpa"},
]


def _kept(model: ModelConfig, window: int, dtype: torch.dtype, checkpointing: bool) -> int:
    """Bytes that autograd keeps of two windows, weights aside."""
    gpt = create_model(model).train()
    gpt.gradient_checkpointing = checkpointing
    known = {t.untyped_storage().data_ptr() for t in [*gpt.parameters(), *gpt.buffers()]}
    found: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        place = tensor.untyped_storage().data_ptr()
        if place not in known:
            found[place] = tensor
        return tensor

    ids = torch.zeros((2, window), dtype=torch.int64)
    with (
        torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
        autocast(torch.device("cpu"), dtype),
    ):
        gpt.loss(ids, ids)
    return sum(tensor.untyped_storage().nbytes() for tensor in found.values())


@pytest.mark.parametrize("window", [64, MATH_UP_TO + 32, MATH_UP_TO_IN_HALF + 32])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("switches", SWITCHES, ids=str)
def test_the_activations_foretold_are_those_that_autograd_keeps(
    switches: dict[str, Any], dtype: torch.dtype, window: int
) -> None:
    model = ModelConfig(**(PLAIN | switches))
    shape = Shape(model, 2, window, dtype == torch.bfloat16, "cpu")
    for checkpointing in (False, True):
        kept = _kept(model, window, dtype, checkpointing)
        assert saved_bytes(shape, checkpointing=checkpointing) == pytest.approx(kept, rel=0.005)


def test_the_arithmetic_knows_what_this_processor_multiplies_fast() -> None:
    assert multiplies_bf16() == fast_half(torch.device("cpu"))


@pytest.mark.slow
def test_a_process_does_not_count_the_memory_of_the_one_that_started_it() -> None:
    script = (
        "import torch; from model.device import peak_memory\n"
        "print(peak_memory(torch.device('cpu')))"
    )
    held = bytearray(1 << 30)  # this process is now larger than the child ever becomes
    held[:: 1 << 12] = b"x" * (1 << 18)
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert 50 << 20 < int(done.stdout) < 1 << 30


@pytest.mark.parametrize("kind", ["adamw", "muon"])
def test_the_optimizer_foretold_is_the_one_that_is_built(kind: Any) -> None:
    model = ModelConfig(**(PLAIN | GPT2))
    gpt = create_model(model)
    optimizer = build_optimizer(gpt, kind=kind, learning_rate=1e-3)
    gpt.loss(*(torch.zeros((1, 8), dtype=torch.int64),) * 2).backward()
    optimizer.step()
    numbers = [tensor for tensor in optimizer_state(optimizer, gpt).values() if tensor.ndim]
    held = sum(tensor.numel() * tensor.element_size() for tensor in numbers)
    assert optimizer_bytes(model, kind) == held


HEAVY = {
    "model": {"preset": "tiny"},
    "train": {
        "window": 256,
        "batch_size": 24,
        "precision": "fp32",
        "device": "cpu",
        "compile": "off",
        "log_every": 1,
        "val_split": 0.2,
        "max_steps": 2,
        "eval_every": 2,
        "eval_batches": 1,
        "tensorboard": False,
    },
}


@pytest.mark.parametrize("library", ["libtorch_cuda.so", "torch_cuda.dll", None])
def test_libraries_for_cuda_count_where_torch_has_them(
    library: str | None, prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "torch" / "__init__.py"
    (package.parent / "lib").mkdir(parents=True)
    for name in ("libtorch_cpu.so", *filter(None, [library])):
        (package.parent / "lib" / name).touch()
    spec = ModuleSpec("torch", None, origin=str(package))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: spec)
    with_them = finished(run_stage("plan", plan={"probe": False}, **HEAVY)).summary["numbers"][0]
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    without = finished(run_stage("plan", plan={"probe": False}, **HEAVY)).summary["numbers"][0]
    more = with_them["memory"]["process"] - without["memory"]["process"]
    assert more == (350 << 20 if library else 0)


@pytest.mark.slow
def test_memory_and_disk_are_those_of_a_real_training(prepared: Path) -> None:
    Path("heavy.json").write_text(json.dumps({"dataset": {"source": "files"}} | HEAVY), "utf-8")
    plan = finished(run_stage("plan", plan={"probe": False}, **HEAVY)).summary["numbers"][0]
    events = _front_door("train", "--config", "heavy.json")
    memory = max(e["values"].get("memory", 0) for e in events if e["event"] == "metric")
    assert plan["memory"]["total"] == pytest.approx(memory, rel=0.2)
    assert plan["memory"]["activations"] > memory / 4  # it is not all one constant
    saved = [Path(e["path"]) for e in events if e["event"] == "saved"]
    sizes = [sum(f.stat().st_size for f in folder.iterdir()) for folder in saved]
    assert len(saved) == plan["disk"]["kept"]
    assert plan["disk"]["each"] == pytest.approx(max(sizes), abs=1 << 20)
    run = next(Path("checkpoints").glob("run_*")).name
    gone_on = read_inputs(*typed_settings(train={"resume": run, "max_steps": 9}))
    assert (gone_on.steps_done, gone_on.options.batch_size) == (2, 24)
    assert gone_on.estimated().flops == pytest.approx(7 / 2 * plan["flops"], rel=0.3)


def _front_door(*arguments: str) -> list[dict[str, Any]]:
    """The events of `main.py`."""
    command = [sys.executable, str(ROOT / "main.py"), arguments[0], "--json", *arguments[1:]]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return [json.loads(line) for line in done.stdout.splitlines()]


CPU = Target("cpu", "CPU", 16 * GIB, 12 * GIB, 100 * GIB, fast_half=False)
TEXT = Corpus("hens", 10_000_000, 78_000, 4_000, 256, 20_000_000)


def _inputs(preset: str = "mini", target: Target = CPU, text: Corpus = TEXT, **options: Any) -> Any:
    model = ModelConfig(preset=preset, vocab_size=4096)  # type: ignore[arg-type]
    return Inputs(TrainOptions(**options), model, text, target, 0)


def test_steps_and_epochs_count_as_training_does() -> None:
    plan = _inputs(batch_size=8, gradient_accumulation_steps=2, epochs=2.0).estimated()
    assert plan.steps == 4883
    assert plan.tokens_per_step == 4096
    assert plan.tokens_seen == 4883 * 4096
    assert plan.epochs == pytest.approx(2.0, rel=0.01)
    assert plan.corpus.overlap == pytest.approx(0.5, rel=0.01)
    assert plan.parameters == parameter_count(plan.model)


@pytest.mark.parametrize(
    ("preset", "steps", "verdict"),
    [
        ("mini", 2_000, "undertrained"),
        ("tiny", 7_000, "balanced"),
        ("tiny", 20_000, "overfitting"),
    ],
)
def test_the_verdict_follows_tokens_per_parameter_and_epochs(
    preset: str, steps: int, verdict: str
) -> None:
    plan = _inputs(preset, max_steps=steps).estimated()
    assert plan.verdict == verdict
    worried = {line.name for line in lines(plan) if line.worry}
    assert ("Training" in worried) == (verdict != "balanced")


def test_a_model_that_is_small_for_its_text_is_told_so() -> None:
    endless = Corpus("sea", 10**10, 78_000_000, 4_000, 256, 2 * 10**10)
    assert _inputs("tiny", text=endless, max_steps=100_000).estimated().verdict == "small"


def test_time_and_cost_come_from_the_speed() -> None:
    inputs = _inputs(max_steps=1000, eval_every=1000, eval_batches=1)
    plan = inputs.estimated(tokens_per_second=4096.0, price_per_hour=3.6)
    assert plan.seconds == pytest.approx(1000, rel=0.01)
    assert plan.cost == pytest.approx(1.0, rel=0.01)
    assert inputs.estimated().seconds is None


@pytest.mark.usefixtures("torch_for_cpu")
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_checkpointing_halving_the_batch_and_a_shorter_window_take_less_memory(
    precision: str,
) -> None:
    full = _inputs(precision=precision, batch_size=16).estimated().memory.total
    half = _inputs(precision=precision, batch_size=8).estimated().memory.total
    again = _inputs(precision=precision, gradient_checkpointing=True).estimated().memory.total
    assert max(half, again) < 0.8 * full


def test_the_parts_of_the_memory_add_up() -> None:
    memory = _inputs().estimated().memory
    assert memory.total == sum(v for v in memory._asdict().values() if isinstance(v, int))


def test_on_a_gpu_the_program_and_the_tokens_lie_in_its_memory() -> None:
    gpu = Target("cuda", "GPU", 24 * GIB, 23 * GIB, 100 * GIB, fast_half=True)
    plan = _inputs("125M", gpu).estimated()
    assert plan.half
    assert plan.memory.tokens == TEXT.bytes
    on_cpu = _inputs("125M", precision="bf16").estimated().memory
    assert plan.memory.activations < on_cpu.activations  # no scores are kept by flash attention


def test_every_remedy_mends_what_it_was_offered_for() -> None:
    small = Target("cpu", "CPU", 2 * GIB, 2 * GIB, 100 * GIB, fast_half=False)
    inputs = _inputs("small", small, batch_size=16)
    assert not inputs.estimated().fits
    offered = remedies(inputs, inputs.estimated())
    assert {"train.batch_size", "train.gradient_accumulation_steps"} in [
        remedy.changes.keys() for remedy in offered
    ]
    assert any("model.preset" in remedy.changes for remedy in offered)
    for remedy in offered:
        changed = _changed(inputs, remedy.changes)
        assert changed.fits
        assert changed.tokens_per_step == inputs.estimated().tokens_per_step


def test_too_many_and_too_few_steps_are_answered_with_a_number_of_steps() -> None:
    for steps, verdict in ((100, "balanced"), (30_000, "balanced")):
        inputs = _inputs("tiny", max_steps=steps)
        remedy = next(
            r for r in remedies(inputs, inputs.estimated()) if "train.max_steps" in r.changes
        )
        assert _changed(inputs, remedy.changes).verdict == verdict


@pytest.mark.usefixtures("torch_for_cpu")
def test_a_run_that_goes_on_is_offered_only_what_it_may_change() -> None:
    small = Target("cpu", "CPU", 2 * GIB, 2 * GIB, 100 * GIB, fast_half=False)
    inputs = _inputs("small", small, batch_size=16, resume="first")
    changed = [r.changes.keys() for r in remedies(inputs, inputs.estimated())]
    split = {"train.batch_size", "train.gradient_accumulation_steps"}  # the same windows per step
    assert changed == [split, {"train.gradient_checkpointing"}]


def _changed(inputs: Inputs, changes: dict[str, Any]) -> Any:
    model = inputs.model
    if preset := changes.get("model.preset"):
        model = ModelConfig(preset=preset, vocab_size=model.vocab_size)
    update = {n.removeprefix("train."): v for n, v in changes.items() if n.startswith("train.")}
    options = inputs.options.model_copy(update=update)
    return estimate(model, options, inputs.corpus, inputs.target)


NOON = datetime(2026, 5, 1, 12, 0, 0)


@pytest.mark.parametrize(
    ("deadline", "seconds"),
    [
        ("12:30", 1800),
        ("08:00", 20 * 3600),
        ("12:00", 24 * 3600),
        ("90m", 5400),
        ("8h", 28800),
        ("1h30m", 5400),
        ("1.5h", 5400),
        ("2d", 172_800),
        ("45s", 45),
    ],
)
def test_a_deadline_is_a_time_of_day_or_a_duration(deadline: str, seconds: float) -> None:
    assert seconds_until(deadline, NOON) == seconds


@pytest.mark.parametrize("deadline", ["25:00", "12:60", "soon", "8", "0h", "", "3x"])
def test_what_is_no_deadline_is_refused(deadline: str) -> None:
    with pytest.raises(UsageError):
        seconds_until(deadline, NOON)


def test_the_steps_that_fit_are_the_most_that_do() -> None:
    inputs = _inputs()
    steps = steps_that_fit(inputs, 5000.0, 3600.0)

    def seconds(count: int) -> float:
        options = inputs.options.model_copy(update={"max_steps": count})
        took = inputs._replace(options=options).estimated(tokens_per_second=5000.0).seconds
        assert took is not None
        return took

    assert seconds(steps) <= 3600.0 < seconds(steps + 1)
    assert steps_that_fit(inputs, 5000.0, 0.5) == 0


def test_more_time_buys_a_larger_model_until_text_or_memory_end() -> None:
    rich = _inputs(text=Corpus("sea", 10**10, 78_000_000, 4_000, 256, 2 * 10**10), eval_batches=1)
    hour, day = (optimal_size(rich, 1e11, seconds) for seconds in (3600.0, 86400.0))
    assert not isinstance(hour, str)
    assert not isinstance(day, str)
    assert hour.limit == day.limit == "time"
    assert hour.depth < day.depth
    assert hour.seconds <= 3600.0
    fed = optimal_size(_inputs(), 1e15, 86400.0)
    assert not isinstance(fed, str)
    assert fed.limit == "text"
    assert 20 * fed.parameters <= 4 * TEXT.tokens
    tight = Target("cpu", "CPU", 2 * GIB, GIB, 100 * GIB, fast_half=False)
    held = optimal_size(rich._replace(target=tight), 1e15, 86400.0)
    assert not isinstance(held, str)
    assert held.limit == "memory"
    assert optimal_size(rich, 1e11, 1.0) == "time"


def test_without_tokens_the_plan_says_what_training_would_say(workspace: Path) -> None:
    with pytest.raises(UsageError, match="There are no tokens of python yet") as refused:
        run_stage("plan", plan={"probe": False})
    steps = ("cleanup", "tokenize --train bpe", "prepare")  # each needs what the one before makes
    commands = [f"python main.py {step} --source python" for step in steps]
    assert refused.value.remedy == f"make them: {'; then '.join(commands)}"


TINY = {"preset": "tiny"}


@pytest.mark.slow
def test_figures_alone_need_no_torch(prepared: Path) -> None:
    script = (
        "import sys; sys.path.insert(0, sys.argv.pop(1))\n"
        "from app.cli.main import main\n"
        "try:\n    main()\nfinally:\n    print('torch' in sys.modules, file=sys.stderr)"
    )
    command = [sys.executable, "-c", script, str(ROOT), "plan", "--no-probe"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stderr.splitlines()[-1] == "False"
    assert "not measured" in done.stdout


@pytest.mark.slow
def test_a_probe_times_real_steps_and_sizes_a_training_for_a_deadline(prepared: Path) -> None:
    events = run_stage(
        "plan",
        model=TINY,
        train={"batch_size": 2, "precision": "fp32"},
        plan={"finish_by": "8h", "price_per_hour": 2.0},
    )
    summary = finished(events).summary
    numbers = summary["numbers"][0]
    assert numbers["seconds"] > 0
    assert numbers["cost"] == pytest.approx(2.0 * numbers["seconds"] / 3600)
    assert numbers["probe"]["memory"] > 0
    assert "--max-steps" in summary["in_time"]
    assert summary["best_size"].startswith("none: this text is too small")
    assert [row["what"] for row in summary["plan"]][-2:] == ["Time", "Cost"]


def test_a_deadline_without_a_probe_is_refused(prepared: Path) -> None:
    with pytest.raises(UsageError, match="how fast this machine is"):
        run_stage("plan", plan={"probe": False, "finish_by": "8h"})


def test_what_does_not_fit_is_not_tried(prepared: Path) -> None:
    events = run_stage("plan", model={"preset": "1B"}, train={"batch_size": 65536})
    numbers = finished(events).summary["numbers"][0]
    assert not numbers["memory"]["fits"]
    assert "probe" not in numbers
