"""The command line with models that never end loading; once one begins to, a file says so."""

import sys
from pathlib import Path
from threading import Event
from typing import Any

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent.parent))

BEGUN = Path("loading")


def load(*_: Any) -> None:
    BEGUN.touch()
    Event().wait()


def main() -> None:
    from app import cli, jobs
    from pipeline.server import shelf

    shelf.load_writer = load  # type: ignore[assignment]
    jobs.PROGRAM = (sys.executable, __file__)
    cli.main()


if __name__ == "__main__":
    main()
