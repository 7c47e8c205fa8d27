"""Models come and go in a server: what is damaged, deleted, too large or NaN stops nobody else."""

import json
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch

from model.generation.batch import BatchScheduler
from pipeline.chat import renderer_process
from pipeline.events import Warned
from pipeline.server.engine import model_cache
from pipeline.server.engine.catalogue import Catalogue, ServedModel
from pipeline.tokenizer import chat_template
from pipeline.tokenizer.tokenizer import Tokenizer
from tests.support.models_of_others import MAKERS, change
from tests.support.servers.ours import COUNTING, NEW, OLD, Served, make_runs, serving, until
from tests.support.tiny_checkpoints import byte_tokenizer, lively_model, save_step

COUNTS = "123456789012"


@pytest.fixture
def folder(workspace: Path) -> Path:
    make_runs(workspace)
    return workspace


def counts(served: Served) -> bool:
    return bool(served.complete("0", model=COUNTING)["choices"][0]["text"] == COUNTS)


def refused(served: Served, model: str, status: int) -> dict[str, Any]:
    """The error of a completion with `model`."""
    found, answer = served.ask("/v1/completions", {"model": model, "prompt": "a", "max_tokens": 4})
    assert found == status, answer
    error: dict[str, Any] = answer["error"]
    return error


def loaded(served: Served) -> list[str]:
    _, answer = served.ask("/v1/models")
    return [model["id"] for model in answer["data"] if model["hatchery"]["loaded"]]


@pytest.mark.slow
def test_damaged_deleted_and_nan_checkpoints_leave_the_others_up(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.server.engine.catalogue._FRESH_SECONDS", 0.0)
    new = folder / "checkpoints" / NEW
    weights = new / "checkpoint_step_000020/model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    broken = lively_model(3)
    with torch.no_grad():
        broken.blocks[0].mlp.down.weight.fill_(float("nan"))
    save_step(new, 30, broken, byte_tokenizer())
    with serving(folder) as served:
        assert counts(served)
        error = refused(served, f"{NEW}/step-20", 422)
        assert error["code"] == "model_unusable"
        assert "model.safetensors" in error["message"] + error["found"]
        assert "NaN" in refused(served, f"{NEW}/step-30", 422)["message"]
        shutil.rmtree(new / "checkpoint_step_000010")
        assert refused(served, f"{NEW}/step-10", 404)["code"] == "model_not_found"
        shutil.rmtree(folder / "checkpoints" / OLD)
        assert counts(served)  # from memory
        assert COUNTING in loaded(served)
        until(lambda: any(isinstance(event, Warned) for event in served.events))
    told = [event.message for event in served.events if isinstance(event, Warned)]
    assert any("step-20" in message or "model.safetensors" in message for message in told)


@pytest.mark.slow
def test_only_so_many_models_stay_in_memory_and_the_least_used_goes(folder: Path) -> None:
    with serving(folder, models=2) as served:
        for model in (COUNTING, f"{NEW}/step-10", COUNTING, f"{NEW}/step-20"):
            served.complete("a", model=model, max_tokens=1)
        assert sorted(loaded(served)) == sorted([COUNTING, f"{NEW}/step-20"])
        assert served.metric("hatchery_models_loaded") == 2
        status, answer = served.ask("/v1/models/unload", {"model": COUNTING})
        assert (status, answer["hatchery"]["loaded"]) == (200, False)
        status, answer = served.ask("/v1/models/load", {"model": NEW})
        assert (status, answer["id"]) == (200, f"{NEW}/step-10")
        assert sorted(loaded(served)) == sorted([f"{NEW}/step-10", f"{NEW}/step-20"])


@pytest.mark.slow
def test_a_model_in_use_is_neither_unloaded_nor_pushed_out(folder: Path) -> None:
    with serving(folder, models=1) as served, ThreadPoolExecutor(1) as thread:
        with Held(served):
            assert served.ask("/v1/models/unload", {"model": COUNTING})[0] == 409
            waiting = thread.submit(served.complete, "a", model=NEW, max_tokens=1)
            until(lambda: served.metric("hatchery_requests_waiting") == 1)
            assert loaded(served) == [COUNTING]
        assert waiting.result()["model"] == f"{NEW}/step-10"
        assert loaded(served) == [f"{NEW}/step-10"]


@pytest.mark.slow
def test_what_does_not_fit_into_memory_says_what_would(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_step(folder / "checkpoints" / "big", 1, lively_model(hidden_size=128), byte_tokenizer())
    monkeypatch.setattr(model_cache, "memory_free", lambda device: 300_000)
    with serving(folder) as served:
        error = refused(served, "big/step-1", 503)
        assert error["code"] == "out_of_memory"
        assert "293.0 KiB" in error["found"]
        assert f"{NEW}/step-20" in error["remedy"]
        assert counts(served)


@pytest.mark.slow
def test_memory_that_ends_while_loading_or_writing_ends_that_request_only(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load, step = model_cache.load_writer, BatchScheduler.step

    def loading(path: Path, name: str, *rest: Any) -> Any:
        if name.endswith("step-10"):
            raise MemoryError
        return load(path, name, *rest)

    failing = threading.Event()

    def stepping(batch: BatchScheduler) -> Any:
        if failing.is_set():
            failing.clear()
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
        return step(batch)

    monkeypatch.setattr(model_cache, "load_writer", loading)
    monkeypatch.setattr(BatchScheduler, "step", stepping)
    with serving(folder) as served:
        assert refused(served, f"{NEW}/step-10", 503)["code"] == "out_of_memory"
        assert counts(served)
        failing.set()
        assert refused(served, COUNTING, 503)["code"] == "out_of_memory"
        assert counts(served)  # loaded anew


@pytest.mark.slow
def test_a_mistake_of_ours_is_told_and_ends_one_request_only(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(folder) as served:
        with monkeypatch.context() as patch:
            patch.setattr("pipeline.server.http.api.parse", lambda *_: 1 / 0)
            error = refused(served, COUNTING, 503)
            assert (error["code"], error["found"]) == ("internal", "ZeroDivisionError")
        assert counts(served)
        until(lambda: any(isinstance(event, Warned) for event in served.events))


class Held:
    """A model whose engine thread stands still in a step, with one text being written."""

    def __init__(self, served: Served) -> None:
        self._served, self._go = served, threading.Event()
        self._patch = pytest.MonkeyPatch()

    def __enter__(self) -> "Held":
        self._served.complete("0", model=COUNTING, max_tokens=1)
        step, inside = BatchScheduler.step, threading.Event()

        def waiting(batch: BatchScheduler) -> Any:
            inside.set()
            self._go.wait()
            return step(batch)

        self._patch.setattr(BatchScheduler, "step", waiting)
        self._connection = self._served.connect()
        self._connection.sendall(self._served.request({"model": COUNTING, "prompt": "0"}))
        inside.wait()
        return self

    def __exit__(self, *_: object) -> None:
        self._go.set()
        self._patch.undo()
        self._connection.close()


@pytest.mark.slow
def test_a_full_queue_tells_clients_when_to_come_again(folder: Path) -> None:
    body = {"model": COUNTING, "prompt": "0"}
    with serving(folder, rows=1, queue=2) as served, Held(served):
        waiting = [served.connect() for _ in range(2)]
        for connection in waiting:
            connection.sendall(served.request(body))
        until(lambda: served.metric("hatchery_requests_waiting") == 2)
        status, headers, _ = served.raw("/v1/completions", body)
        assert status == 429
        assert int(headers["retry-after"]) > 0
        for connection in waiting:
            connection.close()
        until(lambda: served.metric("hatchery_requests_waiting") == 0)


@pytest.mark.slow
def test_a_request_that_takes_too_long_is_told_so(folder: Path) -> None:
    body = {"model": COUNTING, "prompt": "0"}
    with serving(folder, request_seconds=0.5) as served, Held(served):
        status, answer = served.ask("/v1/completions", body)
        assert (status, answer["error"]["code"]) == (408, "request_timeout")


@pytest.mark.slow
def test_chosen_checkpoints_are_the_only_ones_offered(folder: Path) -> None:
    with serving(folder, checkpoint=[f"checkpoints/{NEW}", OLD]) as served:
        _, answer = served.ask("/v1/models")
        assert [model["id"] for model in answer["data"]] == [f"{NEW}/step-10", COUNTING]
        refused(served, f"{NEW}/step-20", 404)
        assert served.complete("a", max_tokens=1)["model"] == f"{NEW}/step-10"


def test_names_that_are_no_names_become_ids_that_are(folder: Path) -> None:
    run = folder / "checkpoints" / "a b.. ünï\n%2f"
    save_step(run, 1, lively_model(), byte_tokenizer())
    catalogue = Catalogue(folder / "checkpoints", model_cache.ServeOptions(), [])
    ids = [served.id for served in catalogue.served_models()]
    assert "a-b..-n-2f/step-1" in ids
    assert all(isinstance(catalogue.find(name), ServedModel) for name in ids)


@pytest.mark.slow
def test_what_was_taught_to_answer_is_known_by_its_files_and_by_no_name(folder: Path) -> None:
    checkpoints = folder / "checkpoints"
    save_step(checkpoints / "tuned", 1, lively_model(), byte_tokenizer(), command="sft")
    save_step(checkpoints / "sft_by_name", 1, lively_model(), byte_tokenizer())
    for name, template in (
        ("theirs", "{{ messages }}"),
        ("base", None),
        ("ours", chat_template.DEFAULT),
    ):
        other = save_step(checkpoints / "made", 1, lively_model(), byte_tokenizer())
        other.rename(checkpoints / name)
        (checkpoints / name / "manifest.json").unlink()
        settings = {} if template is None else {"chat_template": template}
        (checkpoints / name / "tokenizer_config.json").write_text(json.dumps(settings))
    shutil.rmtree(checkpoints / "made")
    shutil.copytree(checkpoints / "base", checkpoints / "newer")
    (checkpoints / "newer" / "chat_template.jinja").write_text("{{ messages }}")
    with serving(folder) as served:
        listed = served.ask("/v1/models")[1]["data"]
    answering = {model["id"] for model in listed if model["hatchery"]["chat"]}
    assert answering == {"tuned/step-1", "theirs", "newer"}
    assert len(listed) == 9


@pytest.mark.slow
def test_a_server_without_models_says_how_to_make_one(workspace: Path) -> None:
    with serving(workspace) as served:
        assert served.ask("/v1/models")[1]["data"] == []
        status, answer = served.ask("/v1/completions", {"prompt": "a"})
        assert status == 404
        assert "quickstart" in answer["error"]["remedy"]


@pytest.mark.slow
def test_a_model_whose_files_take_for_ever_lets_the_others_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = Path(renderer_process.__file__).read_text().replace("SECONDS = 5.0", "SECONDS = 1.0")
    (tmp_path / "impatient.py").write_text(limits)
    monkeypatch.setattr(renderer_process, "__file__", str(tmp_path / "impatient.py"))
    make_runs(tmp_path)
    slow = tmp_path / "checkpoints" / "slow"
    shutil.copytree(tmp_path / "checkpoints" / OLD / "checkpoint_step_000005", slow)
    (slow / "manifest.json").unlink()
    endless = "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"
    (slow / "chat_template.jinja").write_text(endless)
    message = {"role": "user", "content": "a"}
    with serving(tmp_path) as served, ThreadPoolExecutor(6) as pool:
        body = {"model": "slow", "messages": [message]}
        stuck = [pool.submit(served.ask, "/v1/chat/completions", body) for _ in range(6)]
        assert served.complete("0", model=COUNTING)["choices"][0]["text"] == "123456789012"
        ours = {"model": COUNTING, "messages": [message], "max_tokens": 2}
        assert served.ask("/v1/chat/completions", ours)[0] == 200
        assert not all(future.done() for future in stuck)
        for future in stuck:
            status, answer = future.result()
            assert (status, answer["error"]["code"]) == (400, "chat_template")
            assert "seconds" in answer["error"]["found"]


@pytest.mark.slow
def test_a_pattern_that_the_library_gives_up_on_is_an_error_in_the_protocol_form(
    tmp_path: Path,
) -> None:
    make_runs(tmp_path)
    bad = tmp_path / "checkpoints" / "bad"
    shutil.copytree(tmp_path / "checkpoints" / OLD / "checkpoint_step_000005", bad)
    (bad / "manifest.json").unlink()
    spec = json.loads((bad / "tokenizer.json").read_text())
    split = {"type": "Split", "pattern": {"Regex": "(a+)+$"}, "behavior": "Isolated",
             "invert": False}  # fmt: skip
    spec["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [split, spec["pre_tokenizer"]]}
    if spec["pre_tokenizer"]["pretokenizers"][1] is None:
        spec["pre_tokenizer"] = split
    (bad / "tokenizer.json").write_text(json.dumps(spec))
    hostile = "a" * 60 + "b"
    with serving(tmp_path) as served:
        body = {"model": "bad", "prompt": hostile, "max_tokens": 2}
        chat = {"model": "bad", "messages": [{"role": "user", "content": hostile}]}
        for path, asked in (("/v1/completions", body), ("/v1/chat/completions", chat)):
            status, answer = served.ask(path, asked)
            assert status == 422, answer
            assert "cannot cut" in answer["error"]["message"]
        assert served.complete("0", model=COUNTING)["choices"][0]["text"] == "123456789012"


@pytest.mark.slow
def test_whatever_a_library_raises_is_an_error_in_the_protocol_form(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class PanicError(BaseException):
        """As what libraries in Rust raise: no Exception."""

    def panic(self: object, text: str) -> list[int]:
        raise PanicError("called `Option::unwrap()` on a `None` value")

    make_runs(tmp_path)
    with serving(tmp_path) as served:
        monkeypatch.setattr(Tokenizer, "encode", panic)
        for _ in range(3):
            status, answer = served.ask("/v1/completions", {"model": COUNTING, "prompt": "0"})
            assert (status, answer["error"]["code"]) == (503, "internal")
        monkeypatch.undo()
        assert served.complete("0", model=COUNTING)["choices"][0]["text"] == "123456789012"


@pytest.mark.slow
def test_absurd_sizes_are_refused_and_others_answer(tmp_path: Path) -> None:
    make_runs(tmp_path)
    huge = MAKERS["llama3"](tmp_path / "checkpoints" / "huge")
    change(huge / "config.json", num_hidden_layers=10**9)
    with serving(tmp_path) as served:
        for _ in range(3):
            error = refused(served, "huge", 400)
            assert "much larger" in error["message"]
            assert counts(served)
        assert served.ask("/v1/models")[0] == 200
