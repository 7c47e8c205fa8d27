"""The command line with models that never end loading; once one begins to, a file says so."""

import sys
from pathlib import Path
from threading import Event
from typing import Any

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[3]))

BEGUN = Path("loading")


def load(*_: Any) -> None:
    BEGUN.touch()
    Event().wait()


def main() -> None:
    from app.cli import main as cli
    from app.jobs import lifecycle
    from pipeline.server.engine import model_cache

    model_cache.load_writer = load  # type: ignore[assignment]
    lifecycle.PROGRAM = (sys.executable, __file__)
    cli.main()


if __name__ == "__main__":
    main()
