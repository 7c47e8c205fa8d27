"""An imitation of the Hugging Face hub on this machine, with the repositories that a test names."""

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote

COMMIT = "0123456789abcdef0123456789abcdef01234567"
CONVERTED = "refs/convert/parquet"
CONVERTED_COMMIT = "76543210fedcba9876543210fedcba9876543210"
# The files by their names, of owner/name, and of owner/name@CONVERTED on that branch.
Repositories = Mapping[str, Mapping[str, bytes]]


class Hub(ThreadingHTTPServer):
    """Every revision is `COMMIT`, but for that branch; `asked` are the paths requested, and so many
    requests as `failing` says are answered that the hub is busy."""

    def __init__(self, repositories: Repositories) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.repositories = repositories
        self.asked: list[str] = []
        self.failing = 0

    @property
    def url(self) -> str:
        """What HF_ENDPOINT is to say."""
        return f"http://127.0.0.1:{self.server_port}"


@contextmanager
def serving(repositories: Repositories) -> Iterator[Hub]:
    """A hub that answers until the end."""
    hub = Hub(repositories)
    thread = threading.Thread(target=hub.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        hub.shutdown()
        hub.server_close()
        thread.join()


class _Answer(BaseHTTPRequestHandler):
    server: Hub

    def do_GET(self) -> None:
        path = unquote(self.path.split("?")[0])
        for prefix in ("/api/models", "/api/datasets", "/datasets"):
            path = path.removeprefix(prefix)
        self.server.asked.append(path)
        if self.server.failing:
            self.server.failing -= 1
            self.send_error(503)
            return
        repository, rest = "/".join(path.split("/")[1:3]), path.split("/")[3:]
        converted = CONVERTED in path or CONVERTED_COMMIT in path
        name = "/".join(rest[2:]) if rest[:1] == ["resolve"] else ""
        key = f"{repository}@{CONVERTED}" if converted else repository
        files = self.server.repositories.get(key, {})
        if not files or ("/resolve/" in path and name not in files):
            self.send_error(404)
        elif "/resolve/" in path:
            self._send(files[name], f"{repository}/{name}")
        elif "/tree/" in path:
            rows = [
                {"type": "file", "path": n, "size": len(data), "oid": "0" * 40}
                for n, data in files.items()
            ]
            self._send(json.dumps(rows).encode())
        else:
            siblings = [{"rfilename": n, "size": len(data)} for n, data in files.items()]
            sha = CONVERTED_COMMIT if converted else COMMIT
            info = {"id": repository, "sha": sha, "siblings": siblings}
            self._send(json.dumps(info).encode())

    do_HEAD = do_GET  # noqa: N815

    def _send(self, data: bytes, etag: str = "e") -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("ETag", f'"{etag}"'.replace("/", "-"))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        """Tests are quiet."""
