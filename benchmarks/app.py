"""How fast the app is to open and to use, and how little it costs, in a real pseudo-terminal.

    python benchmarks/app.py [--seconds 60] [--repeats 5]

Goals: first frame 0.5 s and no torch in the process; while a job writes 100,000 log lines/s and
1,000 events/s: 99 of 100 key presses answered within 150 ms, memory 200 MB; a run with 1,000,000
metric events on the screen in 1 s; idle 2 % of a core. On a busy machine the times are upper
bounds; the load average is printed with them.
"""

import argparse
import json
import os
import platform
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fcntl import ioctl
from pathlib import Path
from random import Random

import psutil

ROOT = Path(__file__).parent.parent
RUN = "run_2026_01_01_00_00_bench"
LINES, EVENTS, TICK = 100_000, 1_000, 0.01  # per second, per second, seconds
_SEQUENCES = re.compile(
    rb"\x1b\[[0-9;?<>=]*[A-Za-z]|\x1b[()][A-Z0-9]|\x1b\][^\x07\x1b]*(\x07|\x1b\\)"
)
_PATIENCE = 30.0


class Terminal:
    """A program in a pseudo-terminal of 120 by 40; what it drew is read as plain text."""

    def __init__(self, argv: list[str], folder: Path) -> None:
        self.begun = time.perf_counter()
        self.pid, self._fd = pty.fork()
        if self.pid == 0:
            ioctl(1, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
            os.chdir(folder)
            os.environ |= {"TERM": "xterm-256color", "COLORTERM": "truecolor"}
            os.execv(argv[0], argv)

    def press(self, keys: str) -> None:
        os.write(self._fd, keys.encode())

    def until(self, *words: str, within: float = _PATIENCE) -> float:
        """Seconds until all words were drawn since this call."""
        begin, seen = time.perf_counter(), b""
        while time.perf_counter() - begin < within:
            seen += self._read(0.5)
            text = _SEQUENCES.sub(b"", seen).decode(errors="replace")
            if all(word in text for word in words):
                return time.perf_counter() - begin
        raise TimeoutError(f"not drawn within {within:.0f} s: {', '.join(words)}")

    def drain(self, seconds: float) -> None:
        """Let it draw for a while."""
        end = time.perf_counter() + seconds
        while (left := end - time.perf_counter()) > 0:
            self._read(left)

    def _read(self, seconds: float) -> bytes:
        ready, _, _ = select.select([self._fd], [], [], seconds)
        return os.read(self._fd, 1 << 16) if ready else b""

    def processes(self) -> list[psutil.Process]:
        """The app's processes, the one that draws last."""
        first = psutil.Process(self.pid)
        return [first, *first.children(recursive=True)]

    def close(self) -> None:
        self.press("\x11")  # Ctrl+Q
        with suppress(OSError):  # it has gone
            self.drain(2.0)
        os.close(self._fd)
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)


@contextmanager
def app_in(folder: Path) -> Iterator[Terminal]:
    """The app, after its first frame."""
    terminal = Terminal([sys.executable, str(ROOT / "main.py")], folder)
    try:
        yield terminal
    finally:
        terminal.close()


def metric(step: int, loss: float) -> bytes:
    values = {"loss": loss, "grad_norm": 0.9, "learning_rate": 0.00125, "tokens": step * 2048}
    values |= {"memory": 1030590464, "matrix_learning_rate": 0.005, "mfu": 0.32604119}
    values |= {"tokens_per_second": 16645.454846636938}
    event = {"event": "metric", "step": step, "values": values, "time": 1.8e9 + step / 10}
    return json.dumps(event, separators=(",", ":")).encode() + b"\n"


def started(run: Path, total: int) -> bytes:
    event = {"event": "started", "stage": "train", "title": f"Train {RUN}", "total": total}
    event |= {"unit": "steps", "run": str(run), "time": time.time()}
    return json.dumps(event).encode() + b"\n"


def make_run(folder: Path, steps: int) -> Path:
    """A run folder with so many metric events, as if just trained."""
    run, random = folder / "checkpoints" / RUN, Random(1)
    run.mkdir(parents=True)
    with (run / "events.jsonl").open("wb") as handle:
        handle.write(started(run, steps))
        for step in range(1, steps + 1):
            handle.write(metric(step, 3 + 6 / (1 + 50 * step / steps) + random.gauss(0, 0.1)))
            if step % max(1, steps // 100) == 0:
                values = {"val_loss": 3.1, "bits_per_byte": 1.4}
                event = {"event": "metric", "step": step, "values": values, "time": 1.8e9}
                handle.write(json.dumps(event, separators=(",", ":")).encode() + b"\n")
    return run


def flood(job: Path, run: Path, lines: int, seconds: float) -> None:
    """Be a job that trains the run: write log lines and the run's events at the full rate, then
    only wait."""
    begin, step = time.monotonic(), 0
    with (
        (job / "output.log").open("ab", buffering=0) as log,
        (run / "events.jsonl").open("ab", buffering=0) as kept,
    ):
        for folder in (job, run):
            with (folder / "events.jsonl").open("ab", buffering=0) as handle:
                handle.write(started(run, 10**6))
        while (now := time.monotonic() - begin) < seconds:
            due = int(now * EVENTS) if lines else min(50, int(now * EVENTS))
            if due > step:
                kept.write(b"".join(metric(n, 3 + n % 7 / 10) for n in range(step + 1, due + 1)))
                first, last = step * lines // EVENTS, due * lines // EVENTS
                log.write(
                    b"".join(b"line %09d of a very busy log\n" % n for n in range(first, last))
                )
                step = due
            time.sleep(TICK)


@contextmanager
def flooding(folder: Path, lines: int, seconds: float) -> Iterator[None]:
    """A running job in the folder that writes `lines` a second."""
    from app.jobs.folder import Record, record_run, write_record
    from app.jobs.processes import process_start

    job = folder / "logs" / "jobs" / "2026_01_01_00_00_00-train-ab12"
    run = folder / "checkpoints" / RUN
    for path in (job, run):
        path.mkdir(parents=True)
    (run / "events.jsonl").touch()
    record_run(job, run)
    rest = ["--flood", str(job), str(run), str(lines), str(seconds)]
    child = subprocess.Popen([sys.executable, __file__, *rest])
    start = process_start(child.pid) or ""
    host, now = platform.node(), time.time()
    record = Record(["main.py", "train"], "train", "bench", child.pid, start, host, ".", now, {})
    write_record(job, record)
    try:
        yield
    finally:
        child.kill()
        child.wait()


def first_paint(workspace: Path) -> tuple[float, bool]:
    """Seconds to the board's first frame; whether torch is in any of its processes."""
    with app_in(workspace) as terminal:
        terminal.until("Pipeline", "Jobs")
        taken = time.perf_counter() - terminal.begun
        terminal.drain(3.0)
        torch = any(
            "libtorch" in mapped.path for p in terminal.processes() for mapped in p.memory_maps()
        )
    return taken, torch


def help_time() -> float:
    begin = time.perf_counter()
    subprocess.run([sys.executable, ROOT / "main.py", "--help"], capture_output=True, check=True)
    return time.perf_counter() - begin


def under_flood(seconds: float) -> tuple[float, float, float]:
    """Median and 99th percentile of key-press latency in seconds, and the largest memory in
    bytes, on the watch screen of a job that floods its files."""
    answers: list[float] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with flooding(folder, LINES, seconds + 60), app_in(folder) as terminal:
            _open_job(terminal)
            terminal.press("g")
            terminal.until("busy log")
            memory, log, end = 0, False, time.perf_counter() + seconds
            while time.perf_counter() < end:
                log = not log
                terminal.press("l")
                answers.append(terminal.until("log axis" if log else "linear axis"))
                memory = max(memory, terminal.processes()[-1].memory_info().rss)
                terminal.drain(0.13)
    answers.sort()
    return answers[len(answers) // 2], answers[int(0.99 * (len(answers) - 1))], memory


def _open_job(terminal: Terminal) -> None:
    terminal.until("Pipeline", "bench")
    terminal.drain(1.0)
    terminal.press("j")
    terminal.until("Filter")
    terminal.drain(0.5)
    terminal.press("\r")
    terminal.until("training")


def attach(steps: int, repeats: int) -> list[float]:
    """Seconds from opening a run to its chart on the screen."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_run(folder, steps)
        return [
            float(
                subprocess.run(
                    [sys.executable, __file__, "--attach", RUN],
                    cwd=folder,
                    capture_output=True,
                    check=True,
                    text=True,
                ).stdout
            )
            for _ in range(repeats)
        ]


def attach_here(run: str) -> None:
    """Open the run in this process and print the seconds until its chart is drawn."""
    import asyncio

    from app.tui.app import HatcheryApp

    async def scene() -> None:
        app = HatcheryApp()
        async with app.run_test(size=(120, 40)) as pilot:
            while not app.products:
                await pilot.pause(0.05)
            begin = time.perf_counter()
            app.open_run(Path("checkpoints") / run)
            text = ""
            while "── training" not in text or "1 M" not in text:
                await asyncio.sleep(0.005)
                strips = app.screen._compositor.render_strips()
                text = "\n".join(strip.text for strip in strips)
            print(time.perf_counter() - begin)

    asyncio.run(scene())


def idle(seconds: float, *, watching: bool) -> float:
    """Share of a core that the app takes while nothing happens."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with flooding(folder, 0, 600), app_in(folder) as terminal:
            if watching:
                _open_job(terminal)
            else:
                terminal.until("Pipeline", "bench")
            terminal.drain(5.0)
            before, begin = _cpu(terminal), time.perf_counter()
            terminal.drain(seconds)
            return (_cpu(terminal) - before) / (time.perf_counter() - begin)


def _cpu(terminal: Terminal) -> float:
    return sum(sum(p.cpu_times()[:2]) for p in terminal.processes())


def main() -> None:
    """Measure everything and print goal beside measurement."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=20, help="length of flood and idling")
    parser.add_argument("--repeats", type=int, default=5, help="of each start and attachment")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        make_run(Path(name), 1000)
        paints = sorted(first_paint(Path(name)) for _ in range(chosen.repeats))
    helps = sorted(help_time() for _ in range(chosen.repeats))
    attached = sorted(attach(1_000_000, chosen.repeats))
    median, slowest, memory = under_flood(chosen.seconds)
    _row("", "goal", "measured")
    _row("first frame", "0.5 s", _spread([taken for taken, _ in paints]))
    _row("torch in the app's processes", "no", "yes" if any(t for _, t in paints) else "no")
    _row("--help", "", _spread(helps))
    _row("attach to 1,000,000 metric events", "1 s", _spread(attached))
    _row(
        "key press under the flood, 99 of 100",
        "150 ms",
        f"{slowest * 1e3:.0f} ms, median {median * 1e3:.0f} ms",
    )
    _row("memory under the flood", "200 MB", f"{memory / 1e6:.0f} MB")
    for words, watching in (("idle, board", False), ("idle, watching a job", True)):
        _row(words, "2 %", f"{idle(chosen.seconds, watching=watching):.1%}")
    print(f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")


def _row(*cells: str) -> None:
    print("{:<40}{:>10}{:>36}".format(*cells))


def _spread(seconds: list[float]) -> str:
    return f"{seconds[0]:.2f} s fastest, {seconds[len(seconds) // 2]:.2f} s median"


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    if sys.argv[1:2] == ["--flood"]:
        job, run, lines, seconds = sys.argv[2:]
        flood(Path(job), Path(run), int(lines), float(seconds))
    elif sys.argv[1:2] == ["--attach"]:
        attach_here(sys.argv[2])
    else:
        main()
