"""Models that a server serves are judged as those that are here, or refused by name."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.support.servers.ours import NEW, TOKEN, Served, make_runs, serving
from tests.support.stage_runner import finished, run_stage
from utils.errors import NetworkError, RefusedError, UsageError

GRAMMAR = "embedded_grammar"
ROWS = [
    {"query": f"The hen {n}", "choices": ["lays eggs", "é", "ran  off"], "gold": n % 3}
    for n in range(6)
]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("served")
    make_runs(folder)
    with serving(folder) as server:
        yield server


def judge(url: str, monkeypatch: pytest.MonkeyPatch, **changes: Any) -> dict[str, Any]:
    monkeypatch.setenv("JUDGE_KEY", TOKEN)
    asked = {"endpoint": url, "endpoint_model": f"{NEW}/step-20", "endpoint_key_env": "JUDGE_KEY"}
    few = {"tasks": [GRAMMAR, "copa"], "samples": 12, "data": ["copa.jsonl"]}
    Path("copa.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    events = run_stage("benchmark", benchmark=few | asked | changes)
    path = finished(events).path
    assert path is not None
    [found] = json.loads(Path(path).read_text())["results"].values()
    return dict(found)


@pytest.mark.slow
def test_our_server_gives_the_numbers_of_the_checkpoint(
    served: Served, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = judge(served.url, monkeypatch)
    step = served.folder / "checkpoints" / NEW / "checkpoint_step_000020"
    here = judge("", monkeypatch, endpoint=None, checkpoint=[str(step)], device="cpu")
    for task in (GRAMMAR, "copa"):
        assert "endpoint" in there[task]["recipe"]
        assert there[task]["items"].keys() == here[task]["items"].keys()
        for key, ratios in here[task]["items"].items():
            for metric, ratio in ratios.items():
                assert there[task]["items"][key][metric] == pytest.approx(ratio, abs=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    "answer", [{"choices": [{"text": "x", "logprobs": None}]}, {"choices": []}]
)
def test_a_server_without_the_likelihoods_of_prompts_is_refused_by_name(
    answer: dict[str, Any], workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps(answer).encode())

        def log_message(self, *_: Any) -> None: ...

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        with pytest.raises(RefusedError, match=f"{url}/v1/completions gives no log-prob"):
            judge(url, monkeypatch)
        server.shutdown()


def test_what_is_missing_is_said(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(NetworkError, match="No server of models answers"):
        judge("http://127.0.0.1:9", monkeypatch)
    with pytest.raises(UsageError, match="has no name"):
        judge("http://127.0.0.1:9", monkeypatch, endpoint_model=None)
    with pytest.raises(UsageError, match="holds no NO_SUCH_KEY"):
        judge("http://127.0.0.1:9", monkeypatch, endpoint_key_env="NO_SUCH_KEY")
    with pytest.raises(UsageError, match="embedded_python_text cannot be asked"):
        judge("http://127.0.0.1:9", monkeypatch, tasks=["embedded_python_text"], data=None)
    with pytest.raises(UsageError, match="no address of a server"):
        judge("file:///etc/passwd", monkeypatch)
