"""The machine on the board: any number of GPUs, lost ones, ones that say little."""

import re
from pathlib import Path

import pytest

from app.tui.board.screen import BoardScreen
from app.tui.board.system_panel import grid, panel
from app.tui.compare.screen import free_memory
from app.tui.system import Reading
from tests.support.nvml import A100, GIB, H100, Card, Driver, mixed
from tests.support.pilot import NARROW, WIDE, opened, play, shown, until
from tests.support.snapshots import MACHINE, check
from utils.gpu import APPLE, Gpu, GpuReader

_INSIDE = 38  # columns of the panel within its border
_LOST = {"HandleByIndex": 15}
_SILENT = {"UtilizationRates": 3}
_SLICE = Card(f"{A100} MIG 3g.20gb", 9 * GIB, 20 * GIB, faults=_SILENT)


def _cards(name: str) -> list[Card]:
    return {
        "one": mixed(1),
        "four": mixed(4),
        "eight": mixed(8),
        "lost": mixed(4),
        "mig": [Card(A100, instances=[_SLICE, None, _SLICE])],
        "large": [Card("NVIDIA H200", 139 * GIB, 140 * GIB, 100, 101)] * 8,
        "silent": [Card(faults=_SILENT | {"Temperature": 3})],
        "shared": [Card("NVIDIA GB10", faults={"MemoryInfo": 3})],
        "unlike": [Card(), Card(A100), Card(faults=_LOST), Card(A100, faults={"MemoryInfo": 4})],
    }[name]


def _reading(name: str, patch: pytest.MonkeyPatch) -> Reading:
    driver = Driver(_cards(name)).install(patch)
    reader = GpuReader()
    reader.read()
    if name == "lost":
        driver.cards[2].faults.update(_LOST)
    return MACHINE._replace(gpus=reader.read(), gpu_note=reader.note)


_NAMES = ["one", "four", "eight", "lost", "mig", "large", "silent", "shared", "unlike"]


@pytest.mark.parametrize("name", _NAMES)
def test_every_gpu_has_a_line_that_fits(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    reading = _reading(name, monkeypatch)
    lines = [line.plain for line in panel(reading)]
    assert all(len(line) <= _INSIDE for line in lines), lines
    assert len(lines) <= 3 + 3 * len(reading.gpus)
    for line in grid(reading.gpus, 78):
        assert len(line.plain) <= 78
    text = "\n".join(lines)
    for gpu in reading.gpus:
        assert gpu.name in text
        assert not gpu.fault or gpu.fault in text
        assert not gpu.total or f"{gpu.total / GIB:.1f} GiB" in text
    if len(reading.gpus) > 1:
        for number in range(len(reading.gpus)):
            assert re.search(rf"^{number} ", text, re.MULTILINE)


def test_a_gpu_that_is_not_used_is_not_where_models_are_loaded() -> None:
    own = (Gpu(H100, 10, 100), Gpu(H100, None, None, fault="lost"), Gpu(H100, 5, 50))
    reading = MACHINE._replace(gpus=own)
    ram = reading.memory_total - reading.memory_used
    assert free_memory(reading) == 90
    assert free_memory(reading._replace(gpu_note="not used")) == ram
    assert free_memory(reading._replace(gpus=(Gpu(APPLE, None, None),))) == ram
    assert free_memory(reading._replace(gpus=own[1:2])) == ram
    assert free_memory(None) is None


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "size"),
    [("one", NARROW), ("eight", WIDE), ("eight", NARROW), ("lost", NARROW), ("mig", WIDE)],
)
def test_the_board_with_gpus_looks_as_it_did(
    workspace: Path,
    frozen: None,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    size: tuple[int, int],
) -> None:
    reading = _reading(name, monkeypatch)
    monkeypatch.setattr("app.tui.system.SystemReader.read", lambda self: reading)

    async def scene() -> None:
        async with opened(size) as (app, pilot):
            await until(pilot, lambda: "Next: press" in shown(app))
            await check(pilot, f"board_gpus_{name}")

    play(scene)


@pytest.mark.parametrize(
    "note", ["NVIDIA GPU: no permission to read it", "not used: this torch is not for NVIDIA"]
)
def test_why_no_gpu_is_used_is_said(
    note: str, workspace: Path, frozen: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    reading = MACHINE._replace(gpu_note=note)
    monkeypatch.setattr("app.tui.system.SystemReader.read", lambda self: reading)

    async def scene() -> None:
        async with opened(WIDE) as (app, pilot):
            assert isinstance(app.screen, BoardScreen)
            await until(pilot, lambda: note in shown(app))
            assert "none found" not in shown(app)

    play(scene)
