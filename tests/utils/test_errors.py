"""What counts as being out of memory, and causes that are not their own effect."""

import ast
import errno
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from app.commands.parser import parse_stage
from app.jobs.runner import describe
from pipeline.options.config import Config
from pipeline.stages import STAGES, Stage
from utils.errors import HatcheryError, OutOfMemoryError, explain_memory, is_out_of_memory

ROOT = Path(__file__).parents[2]
LAYERS = ("app", "pipeline", "model", "utils", "benchmarks")


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
        OutOfMemoryError("It does not fit."),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory"),
        RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 8 bytes."),
        RuntimeError("CUDA error: out of memory"),
        RuntimeError("MPS backend out of memory (MPS allocated: 9 GB)"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate(handle)"),
    ],
)
def test_every_way_to_run_out_of_memory_is_known(error: Exception) -> None:
    assert is_out_of_memory(error)
    meant = explain_memory(error)
    assert "GPU" in meant.problem if "CUDA" in str(error) else meant.found


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("CUDA error: out of memory")])
@pytest.mark.parametrize("stage", STAGES, ids=lambda stage: stage.command)
def test_less_memory_is_advised_by_flags_that_the_command_has(
    stage: Stage, error: Exception, workspace: Path
) -> None:
    options = getattr(Config(), stage.section)
    advised = re.findall(r"--[a-z-]+(?: \w+(?=,))?", describe(error, options).remedy)
    for flag in advised:
        name, _, value = flag.partition(" ")
        parse_stage([stage.command, name, value or "1"])
    usual = {"--batch-size", "--workers 1"} if isinstance(error, MemoryError) else {"--batch-size"}
    fields = type(options).model_fields
    assert set(advised) >= {f for f in usual if f[2:].partition(" ")[0].replace("-", "_") in fields}


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("mat1 and mat2 shapes cannot be multiplied"),
        OSError(errno.ENOSPC, "No space left on device"),
        HatcheryError("The text 'out of memory' is no word of the tokenizer."),
        ValueError("out of memory"),
    ],
)
def test_other_errors_do_not_count_as_out_of_memory(error: Exception) -> None:
    assert not is_out_of_memory(error)


def _returned_arguments(tree: ast.AST) -> Iterator[str]:
    """Names of functions that may return an argument of theirs as it is."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            arguments = {argument.arg for argument in node.args.args}
            values = [n.value for n in ast.walk(node) if isinstance(n, ast.Return)]
            if any(isinstance(value, ast.Name) and value.id in arguments for value in values):
                yield node.name


def _own_causes(tree: ast.AST, returning: set[str]) -> Iterator[int]:
    """Lines of `raise X from X`, and of `raise f(X) from X` where f may return X."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Raise) or not isinstance(node.cause, ast.Name):
            continue
        raised, cause = node.exc, node.cause.id
        if isinstance(raised, ast.Name) and raised.id == cause:
            yield node.lineno
        if isinstance(raised, ast.Call):
            called = getattr(raised.func, "id", getattr(raised.func, "attr", ""))
            given = {argument.id for argument in raised.args if isinstance(argument, ast.Name)}
            if called in returning and cause in given:
                yield node.lineno


@pytest.mark.parametrize(
    "source", ["raise e from e", "def f(e):\n    return e\ntry: ...\nexcept E: raise f(e) from e"]
)
def test_the_search_for_own_causes_finds_them(source: str) -> None:
    tree = ast.parse(source)
    assert list(_own_causes(tree, set(_returned_arguments(tree))))


@pytest.mark.slow
def test_no_exception_is_its_own_cause() -> None:
    paths = [path for layer in LAYERS for path in (ROOT / layer).rglob("*.py")]
    trees = {path: ast.parse(path.read_text("utf-8")) for path in paths}
    returning = {name for tree in trees.values() for name in _returned_arguments(tree)}
    found = [
        f"{path}:{line}" for path, tree in trees.items() for line in _own_causes(tree, returning)
    ]
    assert found == []
