"""Runs a stage in this process, as the command line and the app do."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pipeline import stages
from pipeline.events import Event, Finished
from pipeline.options.config import Config, Settings
from utils.config import Layer, read_layers, resolve


def settings(**sections: dict[str, Any]) -> Config:
    """config.json of the working directory, overridden by sections."""
    return typed_settings(**sections).config


def typed_settings(**sections: dict[str, Any]) -> Settings:
    """config.json of the working directory, with sections that were typed."""
    file = Path("config.json")
    layers = read_layers(file) if file.exists() else []
    config = resolve(Config, [*layers, Layer("the test", sections)])
    names = frozenset(f"{section}.{key}" for section in sections for key in sections[section])
    return Settings(config, names)


def run_stage(
    command: str,
    *,
    stop_when: Callable[[Event], bool] = lambda event: False,
    into: list[Event] | None = None,
    **sections: dict[str, Any],
) -> list[Event]:
    """All events of a stage, collected in `into`; a stop is requested at the first event that
    `stop_when` accepts."""
    stop = threading.Event()
    events = [] if into is None else into
    for event in stages.find(command).events(typed_settings(**sections), stop):
        events.append(event)
        if stop_when(event):
            stop.set()
    return events


def finished(events: list[Event]) -> Finished:
    """The end of a stage that went well."""
    assert isinstance(events[-1], Finished)
    return events[-1]
