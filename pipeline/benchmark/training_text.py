"""Which items stand in the text that a checkpoint learned from: its run says which tokens that was,
and those whose weights it began with say which they had read before.

What was found is kept by everything that decides it, so that another benchmark of the run, or of
more items, reads the training tokens only for items that were not looked for yet.
"""

import json
from collections.abc import Generator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event as StopSignal
from typing import NamedTuple, TypeAlias

import numpy as np

from pipeline.benchmark.selection import Asked
from pipeline.evaluation.contamination import SHORTEST, Ids, Search, gram_of, rule
from pipeline.events import Event, Progress
from pipeline.options.config import BenchmarkOptions, Config
from pipeline.runs.lineage import trainings
from pipeline.tokenizer.load import load_tokenizer
from pipeline.tokens.token_set import TokenSet, open_tokens
from pipeline.tokens.windows import Stretch
from utils.artefacts import digest
from utils.errors import HatcheryError
from utils.files import write_json
from utils.units import human_count

FOLDER = "contamination"
_PIECE = 1 << 22  # tokens between two looks at whether to stop

Shares: TypeAlias = dict[str, float | None]
"""Of items by their keys: the share of tokens in stretches of the training text, None of items
that are too short to tell."""


class _Source(NamedTuple):
    """A token set, and the share held out of it and window that a run trained with; without these
    all of it counts."""

    folder: Path
    fingerprint: str | None = None
    val_split: float | None = None
    window: int | None = None


@dataclass
class Seen:
    """What is known of a checkpoint: the shares of items by task, or in `why` why there are none;
    `where` are its training texts, `rule` when one counts, `partly` what was not looked in."""

    shares: Mapping[str, Shares] = field(default_factory=dict)
    where: str = ""
    rule: str = ""
    why: str = ""
    partly: str = ""


class TrainingTexts:
    """Looks in the training texts of checkpoints for the items that are asked.

    Raises:
        UsageError: a folder given as training data is no token set.
    """

    def __init__(
        self, config: Config, options: BenchmarkOptions, asked: Sequence[Asked], results_dir: Path
    ) -> None:
        self._config, self._options, self._asked = config, options, asked
        self._folder = results_dir / FOLDER
        self._known: dict[_Source, Seen] = {}

    def of(self, checkpoint: Path, stop: StopSignal) -> Generator[Event, None, Seen]:
        """What of the items `checkpoint` has read in training; each token set is read once."""
        if self._options.contamination == "off":
            return Seen(why="it was not asked for")
        given = self._options.training_data
        sources, unknown = _sources_of(checkpoint)
        if unknown and given is not None:
            sources, unknown = [*sources, _Source(given)], ""
        if not sources:
            return Seen(why="what it learned from is not known; --training-data names it")
        for source in sources:
            if source not in self._known:
                found = yield from self._look(source, stop)
                if stop.is_set():
                    return found
                self._known[source] = found
        left = [f"what {unknown} had learned from before"] if unknown else []
        return _together([self._known[source] for source in sources], left)

    def _look(self, source: _Source, stop: StopSignal) -> Generator[Event, None, Seen]:
        try:
            data, stretches = _opened(source)
            tokenizer = load_tokenizer(
                data.metadata.tokenizer.path, self._config.paths.tokenizers_dir
            )
            data.check_tokenizer(tokenizer)
        except HatcheryError as error:
            if source.fingerprint is None:
                raise  # what was typed
            why = f"its training tokens cannot be read: {error.problem}"
            return Seen(where=str(source.folder), why=why)
        if source.fingerprint not in (None, data.fingerprint):
            why = f"the tokens in {source.folder} are not those it learned from any more"
            return Seen(where=str(source.folder), why=why)
        gram = gram_of(data.metadata.bytes_per_token)
        identity = {
            "data": data.fingerprint,
            "tokenizer": tokenizer.fingerprint,
            "stretches": digest([list(map(int, stretch)) for stretch in stretches]),
            "rule": [gram, SHORTEST],
        }
        path = self._folder / f"{digest(identity)[:24]}.json"
        found = _read(path)
        left = []
        for each in self._asked:
            known = found.setdefault(each.sample.task.name, {})
            items = {item.key: item for item in each.sample.items if item.key not in known}
            left.append((each.sample.task, items))
        if any(items for _, items in left):
            search = Search([(task, [*items.values()]) for task, items in left], tokenizer, gram)
            yield from _read_through(search, gram, data.shards, stretches, stop)
            if stop.is_set():
                return Seen(why="it was stopped before")
            for (task, items), shares in zip(left, search.shares(), strict=True):
                found[task.name] |= zip(items, shares, strict=True)
            write_json(path, {"identity": identity, "rule": rule(gram), "shares": found})
        return Seen(found, str(source.folder), rule(gram))


def _sources_of(checkpoint: Path) -> tuple[list[_Source], str]:
    """Where the tokens are that a checkpoint learned from, those of its own run first, and the
    weights of which that is not known; "" where all is."""
    records, unknown = trainings(checkpoint)
    sources = [
        _Source(
            Path(record.data),
            record.fingerprints.get("data", ""),
            record.options.get("val_split"),
            record.options.get("window"),
        )
        for record in records
    ]
    return list(dict.fromkeys(sources)), unknown


def _together(found: Sequence[Seen], left: Sequence[str]) -> Seen:
    """What was found in several training texts: of an item the largest share; `left` is what was
    not looked in."""
    looked = [seen for seen in found if not seen.why]
    if not looked:
        return found[0]
    shares: dict[str, Shares] = {}
    for seen in looked:
        for task, of_items in seen.shares.items():
            known = shares.setdefault(task, {})
            for key, share in of_items.items():
                both = [one for one in (known.get(key), share) if one is not None]
                known[key] = max(both, default=None)
    return Seen(
        shares,
        ", ".join(seen.where for seen in looked),
        "; ".join(dict.fromkeys(seen.rule for seen in looked)),
        partly="; ".join([*(f"{seen.where}: {seen.why}" for seen in found if seen.why), *left]),
    )


def _opened(source: _Source) -> tuple[TokenSet, Sequence[Stretch]]:
    """A token set with the stretches that were learned from."""
    if source.val_split is None:
        data = open_tokens(source.folder, window=2, val_split=0.1, check="sizes")
        return data, [Stretch(n, 0, len(shard)) for n, shard in enumerate(data.shards)]
    data = open_tokens(
        source.folder, window=source.window, val_split=source.val_split, check="sizes"
    )
    return data, data.train.stretches


def _read_through(
    search: Search,
    gram: int,
    shards: Sequence[Ids],
    stretches: Sequence[Stretch],
    stop: StopSignal,
) -> Generator[Event, None, None]:
    done, total = 0, sum(stretch.end - stretch.begin for stretch in stretches)
    for shard, begin, end in stretches:
        for at in range(begin, end, _PIECE):
            if stop.is_set():
                return
            of = f"{human_count(done)} of {human_count(total)} tokens"
            yield Progress(done=0, message=f"looking for the items in the training text: {of}")
            search.look_in(np.asarray(shards[shard][at : min(end, at + _PIECE + gram - 1)]))
            done += min(end, at + _PIECE) - at


def _read(path: Path) -> dict[str, Shares]:
    """What was found before; nothing where there is no such file, or a damaged one."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        found: dict[str, Shares] = json.loads(path.read_bytes())["shares"]
        return {task: dict(shares) for task, shares in found.items()}
    return {}
