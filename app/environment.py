"""The Python that has this project's packages, found by whoever types just `python main.py`."""

import os
import sys
from importlib.util import find_spec
from pathlib import Path

_NEEDED = "textual"  # any package that only our own installation brings
_OURS = Path(__file__).parent.parent / ".venv" / "bin" / "python"


def ensure() -> None:
    """Go on in the environment that `make` filled, where this Python lacks our packages.

    Exits with code 2 and the command to type where there is no such environment either.
    """
    if find_spec(_NEEDED) is not None:
        return
    if _OURS.exists() and not Path(sys.prefix).samefile(_OURS.parent.parent):
        os.execv(_OURS, [str(_OURS), *sys.argv])  # noqa: S606 (no shell is what is wanted)
    sys.stderr.write(
        f"Hatchery's packages are not installed for {sys.executable}.\n"
        "  install them: make demo, or pip install -c constraints.txt -e .\n"
    )
    sys.exit(2)
