"""Judging: the benchmark stage, its results, how models compare; votes; and the speed of a machine.

`ModelBenchmark` and `format_benchmark_results` are for Python programs; the first is loaded, torch
with it, when it is asked for.
"""

from typing import TYPE_CHECKING, Any

from pipeline.benchmark.report import format_benchmark_results

if TYPE_CHECKING:
    from pipeline.benchmark.model_benchmark import ModelBenchmark

__all__ = ["ModelBenchmark", "format_benchmark_results"]


def __getattr__(name: str) -> Any:
    if name == "ModelBenchmark":
        from pipeline.benchmark.model_benchmark import ModelBenchmark

        return ModelBenchmark
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
