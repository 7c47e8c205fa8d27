"""Fair comparisons: one process per variant, all warmed up, rounds in turn, medians.

A variant is a function `make(name) -> step` where `step()` does one unit of work; the script that
calls `compare` is started again with `--variant NAME` for each of them.
"""

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

_BESIDE = Path(__file__).parent.parent.parent / "shared" / "data"
RECORDS = Path(os.environ.get("HATCHERY_SHARED_DATA", _BESIDE))
"""Real records that are not the project's to ship; the tests look for them there too."""

Step = Callable[[], None]


def serve(step: Step, warm_up: int, steps: int) -> None:
    """Worker: warm up, then answer each line on stdin with the seconds that `steps` steps took."""
    for _ in range(warm_up):
        step()
    print("ready", flush=True)
    for _ in sys.stdin:
        begin = time.perf_counter()
        for _ in range(steps):
            step()
        print(time.perf_counter() - begin, flush=True)


def compare(
    script: str,
    variants: Sequence[str],
    *,
    rounds: int,
    extra: Sequence[str] = (),
    interpreters: Mapping[str, str] = MappingProxyType({}),
) -> dict[str, list[float]]:
    """Seconds of every round of every variant, interleaved. `interpreters` are the Pythons of
    variants whose packages are not installed beside ours."""
    workers: dict[str, subprocess.Popen[str]] = {}
    for name in variants:
        workers[name] = subprocess.Popen(
            [interpreters.get(name, sys.executable), script, "--variant", name, *extra],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        _expect(workers[name], name)  # one after the other: warm-ups must not disturb each other
        print(f"  {name} is warm", file=sys.stderr)
    times: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(rounds):
        for name, worker in workers.items():
            assert worker.stdin is not None
            worker.stdin.write("go\n")
            worker.stdin.flush()
            times[name].append(float(_expect(worker, name)))
    for worker in workers.values():
        worker.communicate()
    return times


def _expect(worker: "subprocess.Popen[str]", name: str) -> str:
    assert worker.stdout is not None
    line = worker.stdout.readline()
    if not line:
        raise SystemExit(f"{name} ended with code {worker.wait()}")
    return line.strip()


def table(times: Mapping[str, Sequence[float]], work: float, unit: str, base: str) -> None:
    """Print median, range and the ratio of medians to `base`, in `unit` per second."""
    reference = work / statistics.median(times[base])
    print(f"{'':28}{unit + '/s':>12}{'range':>20}{'ratio':>8}")
    for name, seconds in times.items():
        speed = work / statistics.median(seconds)
        low, high = work / max(seconds), work / min(seconds)
        print(f"{name:28}{speed:12,.0f}{f'{low:,.0f} to {high:,.0f}':>20}{speed / reference:8.2f}")


def parser(description: str | None) -> argparse.ArgumentParser:
    """Arguments that all comparisons share."""
    result = argparse.ArgumentParser(description=(description or "").partition("\n")[0])
    result.add_argument("--variant", help=argparse.SUPPRESS)
    result.add_argument("--rounds", type=int, default=5, help="measured rounds per variant")
    return result
