"""An imitation of the Hugging Face hub on this machine, with the repositories that a test names."""

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COMMIT = "0123456789abcdef0123456789abcdef01234567"
Repositories = Mapping[str, Mapping[str, bytes]]  # owner/name: the files by their names


class Hub(ThreadingHTTPServer):
    """Every revision is `COMMIT`; `asked` are the paths requested."""

    def __init__(self, repositories: Repositories) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.repositories = repositories
        self.asked: list[str] = []

    @property
    def url(self) -> str:
        """What HF_ENDPOINT is to say."""
        return f"http://127.0.0.1:{self.server_port}"


@contextmanager
def serving(repositories: Repositories) -> Iterator[Hub]:
    """A hub that answers until the end."""
    hub = Hub(repositories)
    thread = threading.Thread(target=hub.serve_forever, daemon=True)
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
        path = self.path.split("?")[0].removeprefix("/api/models")
        self.server.asked.append(path)
        repository, name = "/".join(path.split("/")[1:3]), path.rpartition("/")[2]
        files = self.server.repositories.get(repository, {})
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
            info = {"id": repository, "sha": COMMIT, "siblings": siblings}
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
