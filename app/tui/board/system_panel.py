"""The system panel: what this machine is busy with."""

from textual.content import Content
from textual.widgets import Static

from app.tui.system import Gpu, Reading
from app.tui.widgets.meter import meter
from app.tui.widgets.text import MUTED, joined, plain
from utils.units import human_bytes

_BAR = 10


class SystemPanel(Static):
    """Processor, memory, disk, and every GPU, or that there is none."""

    def show(self, reading: Reading) -> None:
        """Show a new reading."""
        memory = reading.memory_used / reading.memory_total
        disk = 1 - reading.disk_free / reading.disk_total
        used = _of(reading.memory_used, reading.memory_total)
        lines = [
            _line("CPU", reading.cpu, f"{reading.cpu:4.0%} of {reading.cores} cores"),
            _line("RAM", memory, used),
            _line("Disk", disk, f"{human_bytes(reading.disk_free)} free"),
        ]
        for gpu in reading.gpus:
            lines += _gpu_lines(gpu)
        if not reading.gpus:
            lines.append(joined("GPU   ", ("none found: training on the CPU", MUTED)))
        self.update(Content("\n").join(lines))


def _line(name: str, share: float, figures: str) -> Content:
    return joined(f"{name:<5} ", meter(share, _BAR), "  ", figures)


def _gpu_lines(gpu: Gpu) -> list[Content]:
    heat = f"  {gpu.temperature} °C" if gpu.temperature is not None else ""
    return [
        plain(gpu.name, "bold"),
        _line(" load", gpu.load, f"{gpu.load:4.0%}{heat}"),
        _line(" mem", gpu.used / max(1, gpu.total), _of(gpu.used, gpu.total)),
    ]


def _of(part: int, whole: int) -> str:
    return f"{part / 2**30:.1f} of {whole / 2**30:.1f} GiB"


def in_one_line(reading: Reading) -> str:
    """The machine in a header's corner."""
    gpus = ", ".join(sorted({gpu.name for gpu in reading.gpus})) or "CPU only"
    return (
        f"{gpus} · {reading.cores} cores at {reading.cpu:.0%} · "
        f"{human_bytes(reading.memory_total - reading.memory_used)} RAM free · "
        f"{human_bytes(reading.disk_free)} disk free"
    )
