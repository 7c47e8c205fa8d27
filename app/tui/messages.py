"""What the background may tell screens; past tense, with all that a handler needs."""

from textual.message import Message

from app.jobs.lifecycle import Job
from app.tui.system import Reading
from pipeline.survey import Product


class JobsLooked(Message):
    """The job folders were read; `jobs` are newest first."""

    def __init__(self, jobs: list[Job]) -> None:
        super().__init__()
        self.jobs = jobs


class Surveyed(Message):
    """The artefacts were looked at: the product of each stage."""

    def __init__(self, products: dict[str, Product]) -> None:
        super().__init__()
        self.products = products


class SystemRead(Message):
    """Load and memory of this machine were read."""

    def __init__(self, reading: Reading) -> None:
        super().__init__()
        self.reading = reading
