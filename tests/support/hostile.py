"""Text that wants to be obeyed, and a workspace in which every file is full of it."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

from app.jobs.folder import Exit, Record
from pipeline.events import (
    Event,
    Example,
    Failed,
    Finished,
    Metric,
    Progress,
    Rejected,
    Sample,
    Saved,
    Started,
    Warned,
    to_json,
)
from tests.support.run_folders import finished_run
from tests.support.stage_runner import run_stage

FRAGMENTS = (
    "\x1b]52;c;aGF0Y2hlcnk=\x07",
    "\x1b]8;;http://evil.example\x1b\\link\x1b]8;;\x1b\\",
    "\x1b[2J",
    "\x1b[5m",
    "\x1b[53m",
    "\x1b[?1049l",
    "\x1b[6n",
    "\x1bc",
    "\x1bP$qm\x1b\\",
    "\x9b31m",
    "\x90q\x9c",
    "\x85\x84\x8d",
    "\u202egnp.exe\u202c",
    "\u2066\u2067\u2068\u2069\u200f\u061c",
    "\u2028\u2029\ufeff",
    "\U000e0041\U000e007f",
    "\ud800",
    "\udfff\udcff",
    "\x00\x01\x08\x0b\x0c\x0e\x7f",
    "\rover\r",
    "\t\t",
    "\n\n",
    "[/foo]",
    "[bold",
    "[@click=app.quit]x[/]",
    "[link='http://evil.example']x",
    "[red on blue]",
    "$accent[/$x]",
    "\\[\\",
    "漢字かな",
    "👩‍👩‍👧‍👦🏳️‍🌈",
    "e" + "\u0301" * 40,
    "\u0301\u200d",
    "ﷺ𒐫",
    "%s{0}{x!r}",
    "x" * 3000,
    " ",
    "",
)


def strings(count: int, seed: int = 0) -> list[str]:
    """Fragments, random characters and words in random order; the same for the same seed."""
    random = Random(seed)

    def piece() -> str:
        if random.random() < 0.6:
            return random.choice(FRAGMENTS)
        if random.random() < 0.5:
            return "".join(chr(random.choice((random.randrange(0x300), random.randrange(0x11000))))
                           for _ in range(random.randrange(1, 12)))  # fmt: skip
        return random.choice(("loss", "def f():", "step 7", "a/b", "--flag", "<td>"))

    return ["".join(piece() for _ in range(random.randrange(1, 6))) for _ in range(count)]


class Source:
    """Strings without end."""

    def __init__(self, seed: int) -> None:
        self._strings = strings(2000, seed)
        self._next = 0

    def __call__(self) -> str:
        self._next += 1
        return self._strings[self._next % len(self._strings)]

    def name(self) -> str:
        """One that can be a file's name: neither empty, too long, nor with a slash or NUL."""
        raw = self().replace("/", "").replace("\0", "")
        cut = raw.encode("utf-8", "surrogateescape" if _escaped(raw) else "replace")[:60]
        return cut.decode("utf-8", "surrogateescape") or "unnamed"


def _escaped(text: str) -> bool:
    return not any(0xD800 <= ord(c) <= 0xDFFF and not 0xDC80 <= ord(c) <= 0xDCFF for c in text)


def fill(seed: int = 0) -> None:
    """Make the working directory hostile: documents, tokens, jobs, runs, results, config.json."""
    text = Source(seed)
    Path("config.json").write_text(_config(text))
    _documents(text)
    flags = {"source": "files"}
    run_stage("cleanup", cleanup=flags | {"input": ["raw"], "workers": 1})
    run_stage("tokenize", tokenize={"train": "char", "name": "chars", "source": "files"})
    run_stage("prepare", prepare=flags | {"tokenizer": "chars", "window": 32, "workers": 1})
    for number in range(4):
        _job(text, number)
    for number in range(2):
        _run(text, number)
    _broken(text)
    for path in Path().glob("*/**/manifest.json"):
        path.write_text(json.dumps(_poisoned(json.loads(path.read_text()), text)))


def _config(text: Source) -> str:
    train = {"sample_prompt": text() + "x", "data": text.name()}
    return json.dumps({"dataset": {"source": "files"}, "train": train})


def _documents(text: Source) -> None:
    Path("raw").mkdir()
    rows = [
        {"id": text(), "title": text(), "text": "\n".join(text() for _ in range(12)) + " word" * 40}
        for _ in range(60)
    ]
    name = text.name().encode("utf-8", "replace").decode() + ".jsonl"
    Path("raw", name).write_text("\n".join(json.dumps(row) for row in rows))
    Path("raw/plain.txt").write_text("A plain text, so that something is kept.\n" * 30)


def _events(text: Source) -> Iterator[Event]:
    yield Started(stage="train", title=text(), total=10, unit=text())
    for step in range(1, 12):
        yield Progress(done=step, total=12, unit=text(), message=text(), figures={text(): text()})
        yield Metric(step=step, values={"loss": 3.0, "val_loss": 3.1, text(): 1.0, "x": None})
        yield Sample(text=text() + text(), prompt=text(), step=step, statistics={text(): text()})
        yield Warned(message=text(), remedy=text())
        yield Rejected(rule=text(), where=text(), detail=text())
        yield Example(rule=text(), where=text(), question=text(), answer=text())
        yield Saved(kind=text(), path=text(), facts={text(): text()})


def _job(text: Source, number: int) -> None:
    folder = Path("logs/jobs") / f"2026_01_01_10_00_{number:02}-{text.name()}-{number:04x}"
    folder.mkdir(parents=True)
    argv = ["python", "main.py", "train", *(text() for _ in range(4))]
    versions = {text(): text()}
    after = (text(),) if number % 4 == 3 else ()
    stage = ("train", text(), "cleanup")[number % 3]
    record = Record(argv, stage, text(), 1, "x", os.uname().nodename, text(), 1e9, versions, after)
    _json(folder / "job.json", {name: getattr(record, name) for name in record.__struct_fields__})
    last: list[Event] = [Failed(text(), text(), text()), Finished({text(): text()}, path=text())]
    log = [*_events(text), *last[number % 2 : number % 2 + 1]]
    (folder / "events.jsonl").write_bytes(b"".join(to_json(event) + b"\n" for event in log))
    output = "\n".join(text() for _ in range(120)).encode("utf-8", "surrogatepass")
    (folder / "output.log").write_bytes(output + bytes(range(256)))
    if number % 4 != 2:
        done = Exit(number % 2 and 1, 1e9 + 60, killed=number % 4 == 3, signal=text())
        _json(folder / "exit.json", {name: getattr(done, name) for name in done.__struct_fields__})


def _run(text: Source, number: int) -> None:
    folder = finished_run(f"run_2026_01_01_10_0{number}_{text.name()}", sample=text() + text())
    record = {
        "options": {"name": text(), "sample_prompt": text(), "learning_rate": 1e-3, text(): text()},
        "model": {"hidden_size": 64, "num_layers": 2, "num_heads": 2, text(): text()},
        "data": ("data/tokenized_datasets/files_full_dataset", text())[number % 2],
        "fingerprints": {"data": text(), "tokenizer": text()},
        "created": text(),
        "version": text(),
        "parent": text(),
    }
    _json(folder / "run.json", record)
    with (folder / "events.jsonl").open("ab") as log:
        log.write(b"".join(to_json(event) + b"\n" for event in _events(text)))


def _broken(text: Source) -> None:
    """What was half-written, deleted, or made by a newer version."""
    jobs, runs = Path("logs/jobs"), Path("checkpoints")
    (jobs / "empty").mkdir()
    (jobs / "no-dashes" / "events.jsonl").mkdir(parents=True)
    (jobs / "2026-train-beef").mkdir()
    (jobs / "2026-train-beef" / "job.json").write_bytes(b'{"argv": [')
    (jobs / "2026-train-beef" / "events.jsonl").write_bytes(b'{"event":"newer","x":1}\n\xff\xfe{')
    (jobs / "2026-train-dead").symlink_to("nowhere")
    (runs / "run_2026_01_01_11_00_torn").mkdir()
    (runs / "run_2026_01_01_11_00_torn" / "run.json").write_bytes(b'{"options": {"a": NaN')
    (runs / "checkpoint_latest").symlink_to(text.name())
    Path("benchmark_results").mkdir()
    for name in ("one", "two"):
        _json(Path(f"benchmark_results/benchmark_{name}.json"), _benchmark(text))
    _json(Path("benchmark_results/benchmark_bad.json"), {"results": {text(): text()}})


def _benchmark(text: Source) -> Any:
    """A report whose every word is hostile, with a task that one checkpoint has no score of."""
    from tests.support.benchmarks import report

    asked = {"piqa": [1.0, 0.0, 1.0], "embedded_python_text": [-9.0, -8.0, -7.0]}
    made = report({"step 10": asked, "step 20": asked, "step 30": asked}, run=text())
    for origin in made["checkpoints"].values():
        origin |= {"run": text(), "name": text(), "path": text()}
    for by_task in made["results"].values():
        for result in by_task.values():
            result |= {"title": text(), "where": text(), "left_out": {text(): 3}}
            result["recipe"] |= {name: text() for name in ("join", "precision", "data", "window")}
            result["recipe"]["metrics"] = {name: text() for name in result["metrics"]}
        by_task[text()] = {"error": text()}
    made["trends"] = [{"task": "piqa", "said": text()}]
    return made


def _json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value))  # in ASCII, so that lone surrogates can be said


def _poisoned(value: Any, text: Source) -> Any:
    """The options in a manifest with hostile values; what identifies files stays."""
    options = value.get("made_by", {}).get("options", {})
    options.update({name: text() for name, given in options.items() if isinstance(given, str)})
    value.get("facts", {})[text()] = text()
    return value
