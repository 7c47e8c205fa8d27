"""The app as `python main.py` opens it, with two keys changed: Ctrl-T starts a job, ? raises."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[3]))

from app import launcher
from tests.support.programs import fake_stage

FOREIGN = "handler [/broken] \x1b]52;c;aGk=\x07\x1b[2J\u202e"


def open_app() -> int:
    """What the launcher's child runs."""
    from app.jobs import lifecycle
    from app.tui import app as tui

    lifecycle.PROGRAM = (sys.executable, fake_stage.__file__)

    def start(app: tui.HatcheryApp) -> None:
        app.start_job(fake_stage.FAKE, ["--name", "noisy", "--max-steps", "1000000"])

    def fail(app: tui.HatcheryApp) -> None:
        raise ZeroDivisionError(FOREIGN)

    tui.HatcheryApp.action_theme = start
    tui.HatcheryApp.action_help = fail
    return tui.run()


if __name__ == "__main__":
    launcher.open_app = open_app
    launcher.main()
