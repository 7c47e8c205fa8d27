"""The benchmark for Python programs: what the stage does, with models called as a program likes."""

import json
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pipeline.benchmark.selection import select
from pipeline.benchmark.stage import judge_checkpoints
from pipeline.events import Event, Saved
from pipeline.options.config import Config
from pipeline.runs import inventory
from utils.config import Layer, read_layers, resolve
from utils.errors import UsageError


class ModelBenchmark:
    """Judges models by name.

        from pipeline.benchmark import ModelBenchmark, format_benchmark_results

        report = ModelBenchmark(preset="quick").run_full_benchmark({"mine": "checkpoints/run_a"})
        print(format_benchmark_results(report))

    `config` is a configuration, or a file of one; without it that of the working directory, else
    the defaults. `preset` (quick, standard or comprehensive; default: the configuration's) and
    `options` are those of `python main.py benchmark`, such as `tasks`, `data`, `samples`, `text` or
    `device`. `on_event` is called with everything that happens: progress, warnings, scores.

    Raises:
        UsageError: the file or an option is not valid.
    """

    def __init__(
        self,
        config: Config | str | Path | None = None,
        preset: str | None = None,
        *,
        on_event: Callable[[Event], None] | None = None,
        **options: Any,
    ) -> None:
        here = Path("config.json")
        given: list[Layer] = []
        if isinstance(config, Config):
            given.append(Layer("the given configuration", config.model_dump(exclude_unset=True)))
        elif config is not None or here.exists():
            given += read_layers(here if config is None else Path(config))
        named = {} if preset is None else {"preset": preset}
        own = Layer("ModelBenchmark", {"benchmark": options | named})
        self.config = resolve(Config, [*given, own])
        self._on_event = on_event

    def run_full_benchmark(self, models: Mapping[str, str | Path]) -> dict[str, Any]:
        """Judge models, each a run by name, a run or checkpoint folder, a Hugging Face folder or
        id, or a .pt file; returns the report, as `benchmark_results/benchmark_<time>.json` has it.

        Raises:
            UsageError: there is no model.
            HatcheryError: see `pipeline.benchmark.stage.run`.
        """
        directory = self.config.paths.checkpoints_dir
        if not models:
            raise UsageError("No model is named.", remedy="give names and paths of checkpoints")
        options = self.config.benchmark
        selected = select(self.config, options)
        chosen = {name: inventory.resolve(str(path), directory) for name, path in models.items()}
        stop = threading.Event()  # nothing sets it
        written = ""
        events = judge_checkpoints(selected, chosen, self.config, options, stop, called=True)
        for event in events:
            if self._on_event is not None:
                self._on_event(event)
            if isinstance(event, Saved):
                written = event.path
        report: dict[str, Any] = json.loads(Path(written).read_text(encoding="utf-8"))
        return report
