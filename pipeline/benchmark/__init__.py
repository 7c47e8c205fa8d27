"""Judging: the benchmark stage, its results, how models compare; votes; and the speed of a machine.

`ModelBenchmark` and `format_benchmark_results` are for Python programs.
"""
