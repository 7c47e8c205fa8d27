"""Latency of the server with many clients at once.

    python benchmarks/serving.py CHECKPOINT [--clients 32] [--tokens 64] [--rounds 5]

Every client asks `python main.py serve` for one streamed text at the same moment. Reported are the
time to the first piece, the time between pieces and the whole request, half and 99 of 100 of them
being faster, and the pieces a second of all together.
"""

import argparse
import http.client
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from urllib.parse import urlsplit

ROOT = Path(__file__).parent.parent
Times = list[float]


def ask(place: str, model: str, prompt: str, tokens: int) -> Times:
    """Seconds from the request to each piece of its answer."""
    connection = http.client.HTTPConnection(place, timeout=600)
    body = {"model": model, "prompt": prompt, "max_tokens": tokens, "stream": True}
    begin = time.perf_counter()
    connection.request(
        "POST", "/v1/completions", json.dumps(body), {"Content-Type": "application/json"}
    )
    answer = connection.getresponse()
    if answer.status != http.client.OK:
        raise SystemExit(f"{answer.status}: {answer.read().decode()}")
    return [time.perf_counter() - begin for line in answer if line.startswith(b'data: {"')]


def served(place: str) -> str:
    """The name of the first model."""
    connection = http.client.HTTPConnection(place, timeout=600)
    connection.request("GET", "/v1/models")
    return str(json.load(connection.getresponse())["data"][0]["id"])


def main() -> None:
    arguments = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    arguments.add_argument("checkpoint", type=Path)
    arguments.add_argument("--clients", type=int, default=32)
    arguments.add_argument("--tokens", type=int, default=64)
    arguments.add_argument("--rounds", type=int, default=5)
    options = arguments.parse_args()
    command = [sys.executable, ROOT / "main.py", "serve", "--checkpoint", options.checkpoint]
    command += ["--open", "--port", "0", "--json"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        place = next(urlsplit(url).netloc for line in server.stdout if (url := _url(line)))
        ask(place, served(place), "warm up", options.tokens)
        measure(place, options.clients, options.tokens, options.rounds)
    finally:
        server.terminate()
        server.wait()


def _url(line: str) -> str | None:
    event = json.loads(line)
    return event.get("url") if isinstance(event, dict) else None


def measure(place: str, clients: int, tokens: int, rounds: int) -> None:
    first: Times = []
    between: Times = []
    whole: Times = []
    speeds: Times = []
    model = served(place)
    with ThreadPoolExecutor(clients) as pool:
        for number in range(rounds):
            begin = time.perf_counter()
            prompts = [f"{number} {client} is" for client in range(clients)]
            answers = list(pool.map(lambda prompt: ask(place, model, prompt, tokens), prompts))
            speeds.append(sum(map(len, answers)) / (time.perf_counter() - begin))
            for times in answers:
                first.append(times[0])
                whole.append(times[-1])
                between += [later - earlier for earlier, later in pairwise(times)]
    for name, times in (("first piece", first), ("between", between), ("request", whole)):
        half, most = 1000 * at(times, 0.5), 1000 * at(times, 0.99)
        print(f"{name:12} half {half:8.1f} ms   99 of 100 {most:8.1f} ms")
    print(
        f"{'together':12} half of the rounds {at(speeds, 0.5):,.0f}, at most {max(speeds):,.0f}/s"
    )


def at(values: Sequence[float], share: float) -> float:
    """The value that this share of the values does not exceed."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


if __name__ == "__main__":
    main()
