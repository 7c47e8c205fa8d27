"""The state that every screen reads, and what every screen may ask for. Knows no screen.

All work happens in jobs, which are processes of their own; the app only reads what they write.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from textual import on, work
from textual.app import App
from textual.message import Message
from textual.signal import Signal
from textual.widget import Widget
from textual.worker import get_current_worker

from app.jobs import lifecycle, states
from app.jobs.job import ACTIVE, FAILED, Job
from app.tui.system import MeasuredSpeed, Reading, SystemReader
from pipeline.stages import STAGES, Product, Stage
from utils.errors import HatcheryError
from utils.text import safe

if TYPE_CHECKING:
    from app.client.server_process import ServerProcess
    from pipeline.options.config import Config


class Intervals(NamedTuple):
    """Seconds between two looks at what changes outside of the app."""

    jobs: float = 0.5
    system: float = 2.0
    artefacts: float = 5.0
    log: float = 0.1  # of the run that is watched
    silent_log: float = 0.4  # the longest, while nothing is added to it
    holder: float = 2.0  # the process that writes a run which no job of this workspace does


INTERVALS = Intervals()
_OF_A_CORPUS = (".source", ".input", "cleanup.name")


class JobsRead(Message):
    """The job folders were read; `jobs` are newest first."""

    def __init__(self, jobs: list[Job]) -> None:
        super().__init__()
        self.jobs = jobs


class Surveyed(Message):
    """The artefacts were looked at: the corpus worked on, and the product of each stage."""

    def __init__(self, corpus: str, products: dict[str, Product]) -> None:
        super().__init__()
        self.corpus, self.products = corpus, products


class SystemRead(Message):
    """Load and memory of this machine were read."""

    def __init__(self, reading: Reading) -> None:
        super().__init__()
        self.reading = reading


class AppCore(App[None]):
    """Screens read `config`, `jobs`, `corpus`, `products`, `reading`, `drafts` and `serving`, and
    subscribe to the signals that tell when these changed."""

    def __init__(self, intervals: Intervals = INTERVALS) -> None:
        super().__init__()
        self.intervals = intervals
        self._config: Config | None = None
        self.config_fault: HatcheryError | None = None
        self.jobs: list[Job] = []
        self.corpus = ""  # the one worked on, as of the last look; empty before the first
        self._known_corpus = ""  # the one that the user was shown or has chosen
        self.products: dict[str, Product] = {}
        self.reading: Reading | None = None
        self.drafts: dict[str, dict[str, Any]] = {}  # changes of forms that were left, by command
        self.last_save: Any = None  # a `Save` of app.tui.forms.config_file, to be taken back
        self.measured: MeasuredSpeed | None = None  # how fast the last probe trained
        self.jobs_changed: Signal[list[Job]] = Signal(self, "jobs changed")
        self.surveyed: Signal[dict[str, Product]] = Signal(self, "surveyed")
        self.system_read: Signal[Reading] = Signal(self, "system read")
        self.server_changed: Signal[ServerProcess] = Signal(self, "server changed")
        self.signals: tuple[Signal[Any], ...] = (
            self.jobs_changed,
            self.surveyed,
            self.system_read,
            self.server_changed,
        )
        self._serving: ServerProcess | None = None
        self._watch: states.Watch | None = None
        self._system: SystemReader | None = None

    def open(self, name: str, *about: Any, **how: Any) -> None:
        """Open the screen of a name, which `app.tui.navigation` knows, such as "job"."""
        raise NotImplementedError

    def last_run_panel(self, id: str) -> Widget:
        """A panel with the newest run, which `app.tui.navigation` knows."""
        raise NotImplementedError

    def look_around(self) -> None:
        """Read jobs, machine and artefacts now, and again and again."""
        for seconds, look in (
            (self.intervals.jobs, self._read_jobs),
            (self.intervals.system, self._read_system),
            (self.intervals.artefacts, self.survey),
        ):
            look()
            self.set_interval(seconds, look)

    # What the screens read.

    @property
    def config(self) -> "Config":
        """All settings as config.json has them, read when they are first asked for."""
        if self._config is None:
            self.reload_config()
        assert self._config is not None
        return self._config

    def reload_config(self) -> None:
        """Read config.json; where it is broken, the defaults hold and `config_fault` says why."""
        from app.commands.settings import load_config
        from pipeline.options.config import Config

        try:
            self._config, self.config_fault = load_config({}).config, None
        except HatcheryError as error:
            self._config, self.config_fault = Config(), error
        self._watch = states.Watch(self._config.paths.logs_dir)

    @property
    def serving(self) -> "ServerProcess":
        """The model server that all screens share; nothing runs until one asks it."""
        if self._serving is None:
            from app.client.server_process import ServerProcess

            config = self.config
            self._serving = ServerProcess(
                config.paths.logs_dir, self._server_changed, token=config.serve.token
            )
        return self._serving

    def _server_changed(self) -> None:
        self.server_changed.publish(self.serving)

    @work(group="serving", exit_on_error=False)
    async def stop_serving(self) -> None:
        """End the model server, which frees the memory of its models."""
        await self.serving.stop()
        self.note("The model server has ended; its memory is free")

    async def on_unmount(self) -> None:
        if self._serving is not None:
            await self._serving.stop()

    @work(thread=True, group="jobs", exclusive=True, exit_on_error=False)
    def _read_jobs(self) -> None:
        assert self._watch is not None
        found = self._watch.look()
        if not get_current_worker().is_cancelled and found != self.jobs:
            self.post_message(JobsRead(found))

    @on(JobsRead)
    def _jobs_read(self, message: JobsRead) -> None:
        ended = {job.id for job in self.jobs if job.state in ACTIVE}
        ended -= {job.id for job in message.jobs if job.state in ACTIVE}
        self.jobs = message.jobs
        self.jobs_changed.publish(message.jobs)
        for job in message.jobs:
            if job.id in ended:
                self._tell_end(job)
        if ended:
            self.survey()

    def _tell_end(self, job: Job) -> None:
        """A notice and the terminal's bell: whoever waits for a job may look elsewhere."""
        title = next((stage.title for stage in STAGES if stage.command == job.stage), job.stage)
        text = safe(f"{title} {job.name}: {job.state}", lines=False)
        self.notify(text, severity="error" if job.state in FAILED else "information", markup=False)
        self.bell()

    @work(thread=True, group="system", exclusive=True, exit_on_error=False)
    def _read_system(self) -> None:
        if self._system is None:
            self._system = SystemReader(self.config.paths.data_dir)
        self.post_message(SystemRead(self._system.read()))

    @on(SystemRead)
    def _system_was_read(self, message: SystemRead) -> None:
        self.reading = message.reading
        self.system_read.publish(message.reading)

    @work(thread=True, group="survey", exclusive=True, exit_on_error=False)
    def survey(self) -> None:
        """Look at the artefacts again."""
        from pipeline.survey import of_corpus, survey

        config = self.config
        corpus = config.source
        self.post_message(Surveyed(corpus, survey(of_corpus(config, corpus))))

    @on(Surveyed)
    def _was_surveyed(self, message: Surveyed) -> None:
        before, self.corpus = self.corpus, message.corpus
        if message.products != self.products or message.corpus != before:
            self.products = message.products
            self.surveyed.publish(message.products)
        if self._known_corpus not in ("", message.corpus):  # a stage has made or used another
            self.note(f"Working on the corpus {message.corpus} now: o on the board chooses")
        self._known_corpus = message.corpus

    # What the screens ask for.

    def work_on(self, corpus: str) -> None:
        """Work on another corpus from now on, as the command line then does too.

        Raises:
            HatcheryError: it cannot be noted, or config.json names another.
        """
        from pipeline.corpora import remember

        remember(self.config.paths.data_dir, corpus)
        if self.config.source != corpus:
            raise HatcheryError(
                "The corpus to work on could not be noted.",
                found=f"{self.config.paths.data_dir} cannot be written, or config.json names one",
                remedy="check its rights, or name the corpus in each form as Source",
            )
        for draft in self.drafts.values():  # what it says of the corpus before
            for path in [path for path in draft if path.endswith(_OF_A_CORPUS)]:
                del draft[path]
        self._known_corpus = corpus
        self.survey()

    def start_job(
        self,
        stage: Stage,
        arguments: Sequence[str],
        *,
        name: str | None = None,
        after: Sequence[str] = (),
        queued: bool = False,
        retry_of: str | None = None,
    ) -> Job | None:
        """Start `main.py STAGE ARGUMENTS` as a job that waits until the jobs of the ids `after`
        are done or, when `queued`, have ended somehow, and stands in for the job `retry_of`; None,
        and a notice, where it could not be started."""
        try:
            job = lifecycle.start(
                self.config.paths.logs_dir,
                [stage.command, *arguments],
                stage.command,
                name,
                after=after,
                queued=queued,
                retry_of=retry_of,
            )
        except HatcheryError as error:  # a full disk
            self.tell(error)
            return None
        except OSError as error:
            self.tell(HatcheryError(f"{stage.title} could not be started: {error.strerror}."))
            return None
        self._read_jobs()
        return job

    def tell(self, error: HatcheryError) -> None:
        """A notice of what cannot be done, and what can."""
        lines = [error.problem, error.found and f"Found: {error.found}", error.remedy]
        text = safe("\n".join(line for line in lines if line))
        self.notify(text, severity="error", timeout=12, markup=False)

    def note(self, text: str) -> None:
        """A short notice of something that went well."""
        self.notify(safe(text), markup=False)
