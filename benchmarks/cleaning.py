"""How fast one core cleans structured Wikipedia, in MB of raw JSON per second.

    python benchmarks/cleaning.py [FOLDER] [--megabytes 300]

FOLDER holds structured-contents .jsonl files; their records are repeated into one temporary file.
The same cleaning as `python main.py cleanup` runs on it in this process, beside two ceilings:
reading the lines, and msgspec decoding the fields that are needed.
"""

import argparse
import re
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.peers import RECORDS
from pipeline.cleaner.worker import CleaningUnit, UnitReport
from pipeline.sources import records
from pipeline.sources.input_files import expand_inputs
from pipeline.sources.items import as_input
from pipeline.sources.lines import Line, read_lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path, nargs="?", default=RECORDS / "wikimedia-structured")
    parser.add_argument("--megabytes", type=int, default=300)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        raw = Path(folder, "raw.jsonl")
        count = write_records(arguments.folder, raw, arguments.megabytes * 1_000_000)
        print(f"{count:,} records, {raw.stat().st_size / 1e6:.0f} MB of JSON, one process")
        print(f"{'what':<28}{'CPU s':>9}{'MB/s':>8}")
        for what, work in (
            ("read lines", lambda: read(raw)),
            ("and decode with msgspec", lambda: decode(raw)),
            ("clean and write", lambda: clean(raw, Path(folder))),
        ):
            seconds = timed(work)
            print(f"{what:<28}{seconds:>9.2f}{raw.stat().st_size / 1e6 / seconds:>8.0f}")


def write_records(source: Path, target: Path, wanted: int) -> int:
    """Repeat the structured records under `source` until `wanted` bytes; each copy gets a title
    of its own, or it would count as a duplicate."""
    lines: list[bytes] = []
    for file in expand_inputs([source]):
        if file.suffix == ".jsonl":
            lines += [item.data for item in read_lines(file) if isinstance(item, Line)]
    lines = [line for line in lines if b'"name":' in line and records.decode(line).has_tree]
    count = 0
    with target.open("wb") as out:
        while out.tell() < wanted:
            for line in lines:
                count += 1
                out.write(re.sub(rb'"name": ?"', b'"name":"%d ' % count, line, count=1))
                out.write(b"\n")
    return count


def timed(work: Callable[[], None]) -> float:
    """Processor seconds, which a busy machine does not change much."""
    start = time.process_time()
    work()
    return time.process_time() - start


def read(raw: Path) -> None:
    for _ in read_lines(raw):
        pass


def decode(raw: Path) -> None:
    decoder = msgspec.json.Decoder(records.Record)
    for item in read_lines(raw):
        decoder.decode(item.data)


def clean(raw: Path, folder: Path) -> None:
    unit = CleaningUnit("bench", folder, [as_input(raw, raw.name)], "jsonl", 20, False)
    *_, report = unit.run()
    assert isinstance(report, UnitReport)
    assert report.counts.kept > 0.8 * report.counts.read, report.counts.rejected


if __name__ == "__main__":
    main()
