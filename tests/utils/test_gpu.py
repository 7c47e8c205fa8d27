"""Reading GPUs: any number, any fault, of any maker. One that cannot be read costs only itself."""

from pathlib import Path

import pynvml
import pytest

from pipeline.planning.target import find_target
from tests.support.nvml import A100, GIB, H100, Card, Driver, amd_card, mixed
from utils.gpu import APPLE, Gpu, GpuReader, amd_gpus
from utils.hardware import machine

WELL = Gpu(H100, 61 * GIB, 80 * GIB, 0.98, 71)


@pytest.fixture(autouse=True)
def _no_other_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("utils.gpu._CARDS", tmp_path / "none")
    monkeypatch.setattr("utils.gpu.is_apple", lambda: False)
    monkeypatch.setattr("pipeline.planning.target.is_apple", lambda: False)


@pytest.mark.parametrize("count", [0, 1, 2, 4, 8])
def test_every_gpu_is_read(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    Driver(mixed(count)).install(monkeypatch)
    reader = GpuReader()
    gpus = reader.read()
    assert len(gpus) == count
    assert all(gpu.total == 80 * GIB and gpu.load is not None and not gpu.fault for gpu in gpus)
    assert reader.note == ""


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (pynvml.NVML_ERROR_GPU_IS_LOST, "lost"),
        (pynvml.NVML_ERROR_RESET_REQUIRED, "needs a reset"),
        (pynvml.NVML_ERROR_NO_PERMISSION, "no permission"),
        (pynvml.NVML_ERROR_INSUFFICIENT_POWER, "its power cables"),
        (pynvml.NVML_ERROR_UNKNOWN, "NVML says Unknown Error"),
    ],
)
@pytest.mark.parametrize("function", ["HandleByIndex", "MemoryInfo"])
def test_a_gpu_that_fails_between_two_readings_costs_only_itself(
    function: str, code: int, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = Driver([Card() for _ in range(4)]).install(monkeypatch)
    reader = GpuReader()
    assert reader.read() == (WELL,) * 4
    driver.cards[2].faults[function] = code
    first, second, third, fourth = reader.read()
    assert (first, second, fourth) == (WELL,) * 3
    assert third.name == H100  # as it was known before
    assert third.fault.startswith(said)
    assert third.total is None
    driver.cards[2].faults.clear()
    assert reader.read() == (WELL,) * 4


@pytest.mark.parametrize("broken", [0, 3])
def test_a_gpu_that_was_never_readable_costs_only_itself(
    broken: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = Driver([Card() for _ in range(4)])
    driver.cards[broken].faults["HandleByIndex"] = pynvml.NVML_ERROR_GPU_IS_LOST
    driver.install(monkeypatch)
    gpus = GpuReader().read()
    assert [bool(gpu.fault) for gpu in gpus] == [n == broken for n in range(4)]


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (pynvml.NVML_ERROR_NO_PERMISSION, "no permission"),
        (pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH, "differ: restart"),
        (pynvml.NVML_ERROR_DRIVER_NOT_LOADED, "not loaded"),
        (pynvml.NVML_ERROR_UNKNOWN, "Unknown Error"),
        (pynvml.NVML_ERROR_IRQ_ISSUE, "Interrupt"),
    ],
)
def test_a_driver_that_cannot_be_asked_is_told(
    code: int, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    Driver([Card()], init=code).install(monkeypatch)
    reader = GpuReader()
    assert reader.read() == ()
    assert said in reader.note


@pytest.mark.parametrize("code", [pynvml.NVML_ERROR_LIBRARY_NOT_FOUND, pynvml.NVML_ERROR_NOT_FOUND])
def test_a_machine_without_nvidia_is_nothing_to_tell(
    code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    Driver([], init=code).install(monkeypatch)
    reader = GpuReader()
    assert (reader.read(), reader.note) == ((), "")


@pytest.mark.parametrize(
    ("missing", "expected"),
    [
        (["UtilizationRates"], WELL._replace(load=None)),
        (["Temperature"], WELL._replace(temperature=None)),
        (["UtilizationRates", "Temperature"], WELL._replace(load=None, temperature=None)),
        (["MemoryInfo"], WELL._replace(used=None, total=None)),  # a GB10 shares the machine's
        (["MigMode"], WELL),
        (["Name"], WELL._replace(name="NVIDIA GPU")),
    ],
)
def test_what_a_gpu_does_not_tell_hides_nothing_else(
    missing: list[str], expected: Gpu, monkeypatch: pytest.MonkeyPatch
) -> None:
    faults = dict.fromkeys(missing, pynvml.NVML_ERROR_NOT_SUPPORTED)
    Driver([Card(faults=faults)]).install(monkeypatch)
    assert GpuReader().read() == (expected,)


def test_a_gpu_lost_while_it_is_asked_for_its_load_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    Driver([Card(faults={"UtilizationRates": 15})]).install(monkeypatch)
    (gpu,) = GpuReader().read()
    assert gpu.fault.startswith("lost")


def test_mig_instances_stand_for_their_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    unsupported = {"UtilizationRates": pynvml.NVML_ERROR_NOT_SUPPORTED}
    small = Card(f"{A100} MIG 1g.5gb", 1 * GIB, 5 * GIB, faults=unsupported)
    large = Card(f"{A100} MIG 3g.20gb", 9 * GIB, 20 * GIB, faults=unsupported)
    parent = Card(A100, faults={"MemoryInfo": pynvml.NVML_ERROR_NO_PERMISSION})
    parent.instances = [small, None, large]
    Driver([parent, Card()]).install(monkeypatch)
    first, second, third = GpuReader().read()
    assert (first.name, first.total, first.load) == (small.name, 5 * GIB, None)
    assert (second.name, second.used) == (large.name, 9 * GIB)
    assert third == WELL
    parent.instances = [None, None]
    assert "no instance" in GpuReader().read()[0].fault


@pytest.mark.parametrize(
    ("built", "noted"), [("cuda", ""), ("cpu", "not for NVIDIA"), ("rocm", "not for NVIDIA")]
)
def test_a_torch_that_cannot_use_the_gpu_is_told(
    built: str, noted: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    Driver([Card()]).install(monkeypatch)
    monkeypatch.setattr("utils.gpu.torch_built_for", lambda: built)
    note = GpuReader().note
    assert noted in note if noted else note == ""


def test_an_amd_gpu_is_read_from_the_files_of_its_driver(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Driver([], init=pynvml.NVML_ERROR_LIBRARY_NOT_FOUND).install(monkeypatch)
    monkeypatch.setattr("utils.gpu.torch_built_for", lambda: "rocm")
    cards = tmp_path / "drm"
    first = amd_card(cards, 0, product_name="AMD Instinct MI210")
    amd_card(cards, 1)
    amd_card(cards, 2, vendor="0x8086")  # Intel's
    amd_card(cards, 3, mem_info_vram_total="")
    (cards / "card0-DP-1").mkdir()
    reader = GpuReader(cards)
    named = Gpu("AMD Instinct MI210", 6 * GIB, 24 * GIB, 0.37, 54)
    assert reader.read() == (named, named._replace(name="AMD GPU"))
    assert reader.note == ""
    (first / "gpu_busy_percent").unlink()
    (first / "hwmon/hwmon3/temp1_input").write_text("\n")
    assert reader.read()[0] == named._replace(load=None, temperature=None)
    (first / "mem_info_vram_used").unlink()
    assert reader.read()[0].fault.startswith("lost")


def test_an_apple_gpu_shares_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    Driver([], init=pynvml.NVML_ERROR_LIBRARY_NOT_FOUND).install(monkeypatch)
    monkeypatch.setattr("utils.gpu.is_apple", lambda: True)
    reader = GpuReader()
    assert (reader.read(), reader.note) == ((Gpu(APPLE, None, None),), "")


def test_the_plan_names_the_gpu_that_training_would_take(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cards = [Card(used=GIB), Card(A100, total=40 * GIB, used=GIB)]
    driver = Driver(cards).install(monkeypatch)
    target = find_target("cuda:1", tmp_path)
    assert (target.name, target.memory, target.memory_free) == (A100, 40 * GIB, 39 * GIB)
    driver.cards[0].faults["MemoryInfo"] = pynvml.NVML_ERROR_NOT_SUPPORTED
    assert find_target("auto", tmp_path).memory == machine(tmp_path).memory
    driver.cards[0].faults["HandleByIndex"] = pynvml.NVML_ERROR_GPU_IS_LOST
    assert find_target("auto", tmp_path).kind == "cpu"
    monkeypatch.setattr("pipeline.planning.target.torch_built_for", lambda: "cpu")
    assert find_target("cuda:1", tmp_path).kind == "cpu"


@pytest.mark.parametrize(
    ("hidden", "device", "memory"),
    [
        ("1", "auto", 40),
        ("1", "cuda:1", None),
        ("2,0", "cuda", 24),
        ("2,0", "cuda:1", 80),
        (" 1 , 2", "cuda:1", 24),
        ("", "auto", None),
        ("-1", "auto", None),
        ("0,-1,1", "cuda:1", None),
        ("none", "auto", None),
        ("1,1", "auto", None),
        ("7", "auto", None),
        ("GPU-2f", "auto", 24),
        ("GPU-9", "auto", None),
        ("0,GPU-1f00", "cuda:1", 40),
        ("MIG-1-1", "auto", 10),
    ],
)
def test_the_plan_counts_only_the_gpus_that_the_environment_shows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hidden: str, device: str, memory: int | None
) -> None:
    parts = [Card("first", total=5 * GIB), Card("part", used=GIB, total=10 * GIB)]
    parts[1].faults["CudaComputeCapability"] = pynvml.NVML_ERROR_NOT_SUPPORTED
    divided = Card(A100, used=GIB, total=40 * GIB, instances=[*parts])
    Driver([Card(), divided, Card("small", used=2 * GIB, total=24 * GIB)]).install(monkeypatch)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hidden)
    target = find_target(device, tmp_path)  # type: ignore[arg-type]
    assert (target.kind == "cuda") == (memory is not None)
    if memory is not None:
        assert (target.memory, target.fast_half) == (memory * GIB, True)


@pytest.mark.parametrize(
    ("hip", "cuda", "names"),
    [
        (None, None, ["a", "b"]),
        ("1", None, ["b"]),
        ("1,0", "0", ["b", "a"]),
        (None, "0", ["a"]),
        ("", "0", []),
        ("0,5", None, ["a"]),
    ],
)
def test_of_amd_gpus_too_only_those_that_are_shown_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hip: str, cuda: str, names: list[str]
) -> None:
    for number, name in enumerate("ab"):
        amd_card(tmp_path / "drm", number, product_name=name)
    gpus = amd_gpus(tmp_path / "drm")
    monkeypatch.setattr("pipeline.planning.target.torch_built_for", lambda: "rocm")
    monkeypatch.setattr("pipeline.planning.target.amd_gpus", lambda: gpus)
    for name, value in (("HIP_VISIBLE_DEVICES", hip), ("CUDA_VISIBLE_DEVICES", cuda)):
        monkeypatch.delenv(name, raising=False)
        if value is not None:
            monkeypatch.setenv(name, value)
    found = [find_target(device, tmp_path) for device in ("cuda:0", "cuda:1")]
    assert [target.name for target in found if target.kind == "cuda"] == names


def test_the_plan_knows_the_memory_of_an_amd_gpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    amd_card(tmp_path / "drm", 0)
    gpus = amd_gpus(tmp_path / "drm")
    for name in ("HIP_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("pipeline.planning.target.torch_built_for", lambda: "rocm")
    monkeypatch.setattr("pipeline.planning.target.amd_gpus", lambda: gpus)
    target = find_target("auto", tmp_path)
    assert (target.kind, target.memory, target.memory_free) == ("cuda", 24 * GIB, 18 * GIB)
    assert find_target("cuda:1", tmp_path).kind == "cpu"
