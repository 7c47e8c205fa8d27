"""The house rules: who may import whom, and that only the durable writer writes."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).parents[2]
SOURCES = sorted(
    path for layer in ("app", "pipeline", "model", "utils") for path in (ROOT / layer).rglob("*.py")
)
WRITERS = {"write_text", "write_bytes", "savez", "save_file", "memmap", "open_memmap"}
WRITERS |= {"save_pretrained", "np.save", "numpy.save", "torch.save", "json.dump", "pickle.dump"}
ALLOWED = {
    "utils/files.py": "it is the durable writer",
    "app/cli/main.py": "opens the null device in place of a closed stream",
}
HEAVY = {"torch", "textual", "transformers", "datasets", "pyarrow", "tokenizers", "numpy"}
HEAVY |= {"aiohttp", "textual_serve"}
LONGEST, SMALL = 400, 80  # lines
CRUMBS = {
    "app/cli/attach.py": "following a job is a subject of its own, and jobs.py is long",
    "app/environment.py": "runs before any package that we need is there; only main.py has it",
    "app/web/command.py": "what is typed, parsed and explained without loading aiohttp",
    "model/native/threads.py": "how many threads pay, measured; no subject of the decoder",
    "pipeline/benchmark/model_benchmark.py": "loads torch, which who reads reports need not",
    "pipeline/server/http/page.py": "serves page.html, as each route has a file",
    "pipeline/sft/answers.py": "what a model writes between steps is no part of how it learns",
    "utils/metrics.py": "arithmetic without torch or files",
    "utils/scheduler.py": "the shapes of a learning rate, looked for by that name",
}
"""Small files with one importer, and why each is not a part of it."""
FAMILIES = {
    "model/huggingface": "one adapter a family, which a table lists",
    "pipeline/evaluation/tasks": "one task each, which a table lists",
    "pipeline/sources/formats": "one form of raw files each",
    "pipeline/conversations/mining": "one family of rules each, which a table lists",
}
"""Folders in which a small file is one of a kind, and of which kind."""


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments", [["--help"], ["train", "--help"], ["jobs"], ["web", "--help"], ["--version"]]
)
def test_the_front_door_loads_nothing_heavy(arguments: list[str], workspace: Path) -> None:
    script = (
        "import sys; sys.path.insert(0, sys.argv.pop(1))\n"
        "from app.cli.main import main\n"
        "try:\n    main()\nfinally:\n    print('LOADED', *sys.modules, file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(ROOT), *arguments],
        capture_output=True,
        text=True,
        check=True,
    )
    loaded = {name.partition(".")[0] for name in done.stderr.split("LOADED")[1].split()}
    assert loaded & HEAVY == set()


@pytest.mark.slow
def test_the_layers_point_downward_only() -> None:
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def _writes(tree: ast.AST) -> Iterator[int]:
    """Lines that open a file for writing or call a function that writes one."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        called = node.func
        name = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")
        owner = getattr(getattr(called, "value", None), "id", "")
        literals = [
            part.value
            for argument in [*node.args, *(k.value for k in node.keywords if k.arg == "mode")]
            for part in ast.walk(argument)
            if isinstance(part, ast.Constant) and isinstance(part.value, str)
        ]
        modes = {text for text in literals if 0 < len(text) <= 3 and set(text) <= set("rwaxbt+")}
        opens = name in ("open", "fdopen") and any(set(mode) & set("wax+") for mode in modes)
        if opens or WRITERS & {name, f"{owner}.{name}"}:
            yield node.lineno


@pytest.mark.parametrize(
    "source",
    [
        "open('a', 'w')",
        "p.open(mode='ab')",
        "np.save(f, x)",
        "torch.save(x, 'a')",
        "p.write_text('')",
    ],
)
def test_the_search_for_writes_finds_them(source: str) -> None:
    assert list(_writes(ast.parse(source))) == [1]


@pytest.mark.slow
def test_nothing_writes_a_file_but_the_durable_writer() -> None:
    found = {
        f"{path.relative_to(ROOT)}:{line}"
        for path in SOURCES
        if str(path.relative_to(ROOT)) not in ALLOWED
        for line in _writes(ast.parse(path.read_text()))
    }
    assert found == set()


@pytest.mark.slow
def test_importing_any_module_prints_nothing_and_changes_nothing(workspace: Path) -> None:
    names = [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in SOURCES]
    light = [name for name in names if name.startswith(("app.", "utils."))]
    script = f"import sys; sys.path.insert(0, {str(ROOT)!r})\n" + "\n".join(
        f"import {name}" for name in light
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert list(workspace.iterdir()) == []


def test_no_file_is_longer_than_a_reader_forgives() -> None:
    """The model is one file that is read from top to bottom; the C kernels are no Python."""
    lengths = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in SOURCES}
    long = {path: n for path, n in lengths.items() if n > LONGEST and path != "model/gpt.py"}
    assert long == {}


def _small_with_one_importer() -> set[str]:
    """Modules of under 80 lines that at most one other imports, late and type-only imports too;
    a module of `app` with none is what main.py imports."""
    graph = grimp.build_graph("app", "pipeline", "model", "utils")
    return {
        str(path.relative_to(ROOT))
        for path in SOURCES
        if path.name != "__init__.py"
        and len(path.read_text().splitlines()) < SMALL
        and len(graph.find_modules_that_directly_import(_module(path))) <= 1
        and path.parent.relative_to(ROOT).as_posix() not in FAMILIES
    }


def _module(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


def test_a_small_file_that_one_other_needs_belongs_to_it_or_has_a_reason() -> None:
    found = _small_with_one_importer()
    assert found - CRUMBS.keys() == set(), "merge it into its importer, or say why not in CRUMBS"
    assert CRUMBS.keys() - found == set(), "no longer small, or needed by more: take it out"
