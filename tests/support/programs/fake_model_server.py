"""A program that is held as the model server is: `fake_model_server.py MODE FOLDER`.

Prints one JSON line as the serve stage does, and leaves when its standard input closes.
"""

import json
import os
import sys
from pathlib import Path


def main() -> None:
    mode, folder = sys.argv[1], Path(sys.argv[2])
    (folder / "pid").write_text(str(os.getpid()))
    with (folder / "starts").open("a") as starts:
        starts.write(f"{os.environ['HATCHERY_TOKEN']}\n")
    if mode == "refuses":
        failed = {"event": "failed", "problem": "No such checkpoint.", "remedy": "train one"}
        sys.stdout.write(f"{json.dumps(failed)}\n")
        sys.stdout.flush()
        sys.exit(2)
    if mode == "crashes":
        sys.stderr.write("Traceback: the weights are gone\n")
        sys.exit(1)
    sys.stdout.write("not an event\n")
    sys.stdout.flush()
    listening = {"event": "listening", "url": "http://127.0.0.1:9"}
    sys.stdout.write(f"{json.dumps(listening)}\n")
    sys.stdout.flush()
    sys.stdin.read()


main()
