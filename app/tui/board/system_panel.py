"""The machine in a panel: processor, memory, disk, and a line for every GPU; and in one line."""

from collections import Counter
from collections.abc import Sequence
from itertools import groupby

from textual.content import Content
from textual.widgets import Static

from app.tui.system import Reading
from app.tui.widgets.meter import columns, meter
from app.tui.widgets.text import MUTED, joined, mark, plain
from utils.gpu import Gpu
from utils.units import human_bytes

_BAR = 10
_LINE_BAR, _CELL_BAR = 8, 5
_CELL, _BETWEEN = 24, 2  # columns of a GPU where several stand side by side, and between them


class SystemPanel(Static):
    """The last reading; where it is `compact`, only the GPUs, several in a line."""

    def __init__(self, *, compact: bool = False, id: str | None = None) -> None:
        super().__init__(id=id)
        self._compact = compact
        self._reading: Reading | None = None

    def show(self, reading: Reading) -> None:
        """Show a new reading."""
        self._reading = reading
        self._draw()

    def on_resize(self) -> None:
        self._draw()

    def _draw(self) -> None:
        if self._reading is not None:
            width = self.size.width or self.app.size.width
            lines = grid(self._reading.gpus, width) if self._compact else panel(self._reading)
            self.update(Content("\n").join(lines))


def panel(reading: Reading) -> list[Content]:
    """Processor, memory, disk, and every GPU, or that there is none."""
    memory = reading.memory_used / reading.memory_total
    disk = 1 - reading.disk_free / reading.disk_total
    lines = [
        _line("CPU", reading.cpu, f"{reading.cpu:4.0%} of {reading.cores} cores"),
        _line("RAM", memory, _of(reading.memory_used, reading.memory_total)),
        _line("Disk", disk, f"{human_bytes(reading.disk_free)} free"),
    ]
    if len(reading.gpus) == 1:
        lines += _alone(reading.gpus[0])
    elif reading.gpus:
        lines += _together(reading.gpus)
    elif not reading.gpu_note:
        lines.append(joined("GPU   ", ("none found: training on the CPU", MUTED)))
    if reading.gpu_note:
        lines.append(plain(reading.gpu_note, "$warning"))
    return lines


def _line(name: str, share: float, figures: str) -> Content:
    return joined(f"{name:<5} ", meter(share, _BAR), "  ", figures)


def _alone(gpu: Gpu) -> list[Content]:
    """A GPU with all the room there is."""
    name = plain(gpu.name, "bold")
    if gpu.fault:
        return [name, _fault(gpu)]
    heat = f"  {gpu.temperature} °C" if gpu.temperature is not None else ""
    lines = [name]
    if gpu.load is not None:
        lines.append(_line(" load", gpu.load, f"{gpu.load:4.0%}{heat}"))
    if gpu.total and gpu.used is not None:
        lines.append(_line(" mem", gpu.used / gpu.total, _of(gpu.used, gpu.total)))
    else:
        lines.append(plain(" shares the RAM", MUTED))
    return lines


def _together(gpus: Sequence[Gpu]) -> list[Content]:
    """A line for each, below the name of those that are alike."""
    lines = []
    for name, numbered in groupby(enumerate(gpus), lambda pair: pair[1].name):
        group = list(numbered)
        count = f"{len(group)} × " if len(group) > 1 else ""
        lines.append(plain(f"{count}{name}", "bold"))
        lines += [_numbered(number, gpu) for number, gpu in group]
    return lines


def _numbered(number: int, gpu: Gpu) -> Content:
    if gpu.fault:
        return joined(f"{number:<2} ", _fault(gpu))
    load = f"{gpu.load:.0%}" if gpu.load is not None else ""
    heat = f"{gpu.temperature}°" if gpu.temperature is not None else ""
    if not gpu.total or gpu.used is None:
        return joined(f"{number:<2} ", ("shares the RAM", MUTED), f"  {load} {heat}")
    return joined(
        f"{number:<2} ",
        meter(gpu.used / gpu.total, _LINE_BAR),
        f"{_short(gpu.used, gpu.total):>16}{load:>6}{heat:>5}",
    )


def grid(gpus: Sequence[Gpu], width: int) -> list[Content]:
    """As many side by side as `width` columns hold: bar, memory, load."""
    if not gpus:
        return []
    across = max(1, (width + _BETWEEN) // (_CELL + _BETWEEN))
    cells = [_cell(number, gpu) for number, gpu in enumerate(gpus)]
    return [
        columns(row := cells[start : start + across], [_CELL] * len(row))
        for start in range(0, len(cells), across)
    ]


def _cell(number: int, gpu: Gpu) -> Content:
    if gpu.fault:
        return joined(f"{number} ", _fault(gpu, short=True))
    load = f"{gpu.load:.0%}" if gpu.load is not None else ""
    if not gpu.total or gpu.used is None:
        return joined(f"{number} ", ("shares the RAM", MUTED), f"{load:>8}")
    figures = f"{gpu.used / 2**30:.0f}/{gpu.total / 2**30:.0f} GiB"
    share = meter(gpu.used / gpu.total, _CELL_BAR)
    return joined(f"{number} ", share, f"{figures:>12}{load:>5}")


def _fault(gpu: Gpu, *, short: bool = False) -> Content:
    text = gpu.fault.partition(":")[0] if short else gpu.fault
    return joined(mark("failed"), (f" {text}", "$error"))


def _of(part: int, whole: int) -> str:
    return f"{part / 2**30:.1f} of {whole / 2**30:.1f} GiB"


def _short(part: int, whole: int) -> str:
    return f"{part / 2**30:.1f}/{whole / 2**30:.1f} GiB"


def in_one_line(reading: Reading) -> str:
    """The machine in a header's corner."""
    return (
        f"{named(reading.gpus)} · {reading.cores} cores at {reading.cpu:.0%} · "
        f"{human_bytes(reading.memory_total - reading.memory_used)} RAM free · "
        f"{human_bytes(reading.disk_free)} disk free"
    )


def named(gpus: Sequence[Gpu]) -> str:
    """The GPUs by name, alike ones counted."""
    counts = sorted(Counter(gpu.name for gpu in gpus).items())
    alike = (f"{count} × {name}" if count > 1 else name for name, count in counts)
    return ", ".join(alike) or "CPU only"
