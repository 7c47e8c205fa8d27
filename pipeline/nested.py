"""Stages run as parts of another stage, with settings filled in by it."""

from collections.abc import Iterator
from threading import Event as StopSignal
from typing import Any, TypeVar

from pydantic import BaseModel

from pipeline import stages
from pipeline.events import Event
from pipeline.options.config import Settings

Section = TypeVar("Section", bound=BaseModel)


def revised(section: Section, **update: Any) -> Section:
    """A copy of `section` in which `update` counts as given."""
    return section.model_copy(update=update)


def nested_events(command: str, settings: Settings, stop: StopSignal) -> Iterator[Event]:
    """The events of the stage `command` with its section of the settings.

    Raises:
        HatcheryError: whatever the stage raises.
    """
    return stages.find(command).events(settings, stop)
