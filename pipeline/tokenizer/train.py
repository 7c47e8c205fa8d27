"""Learns a vocabulary from clean documents: byte-level BPE, or one id per character.

Both begin with `<unk>` 0, `<s>` 1 and `</s>` 2, hold all 256 bytes so that no text is beyond
them, and depend on the documents alone, not on their order. Memory grows with the distinct words
of at most `sample` bytes of text, not with the corpus.
"""

import json
import zlib
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from threading import Event as StopSignal
from threading import Thread
from typing import Literal

from pipeline.events import Progress
from pipeline.sources.documents import read_cleaned
from pipeline.sources.input_files import ROWS, kind_of
from pipeline.tokenizer.spec import Spec, byte_marks
from utils.errors import UsageError
from utils.units import human_bytes

ROLES = {"unk": "<unk>", "bos": "<s>", "eos": "</s>"}
CONTROLS = list(ROLES.values())
SMALLEST = len(CONTROLS) + 256
_TICK = 0.2  # seconds between progress events


class StoppedError(Exception):
    """The user asked for an end while a vocabulary was being learned."""


class TrainingTexts:
    """The texts to learn from, counted as they are read.

    When the files are larger than `sample` bytes, documents are kept by a hash of their text, so
    that the choice is spread over the corpus and does not depend on order.
    """

    def __init__(
        self, files: Sequence[Path], sample: int, stop: StopSignal, text_field: str = ""
    ) -> None:
        self._files, self._stop, self._text_field = files, stop, text_field
        self.total = sum(file.stat().st_size for file in files)
        self._keep_below = int(min(1.0, sample / max(self.total, 1)) * 2**32)
        self.documents = self.bytes = 0
        self.files_done = 0

    def __iter__(self) -> Iterator[str]:
        for file in self._files:
            for document in read_cleaned(file, text_field=self._text_field):
                if self._stop.is_set():
                    raise StoppedError
                data = document.text.encode()
                if data and zlib.crc32(data) < self._keep_below:
                    self.documents += 1
                    self.bytes += len(data)
                    yield document.text
            self.files_done += 1


def learn(
    kind: Literal["bpe", "char"], vocab_size: int, feed: TrainingTexts, stop: StopSignal
) -> Generator[Progress, None, Spec]:
    """Learn a vocabulary in a thread, yielding progress; the generator returns the `Spec`.

    Raises:
        UsageError: there is no text, or the vocabulary cannot hold the bytes.
        StoppedError: `stop` was set; nothing is kept.
    """
    if vocab_size < SMALLEST:
        raise UsageError(
            f"A vocabulary of {vocab_size} is too small.",
            found=f"{len(CONTROLS)} control tokens and 256 bytes need {SMALLEST} ids",
            remedy=f"use --vocab-size {SMALLEST} or more",
        )
    result: list[Spec] = []
    failure: list[BaseException] = []

    def work() -> None:
        try:
            result.append(_bpe(feed, vocab_size) if kind == "bpe" else _char(feed))
        except BaseException as error:  # raised again by the generator
            failure.append(error)

    thread = Thread(target=work, name="learn-vocabulary", daemon=True)
    thread.start()
    while thread.is_alive():
        thread.join(_TICK)
        if stop.is_set() and feed.files_done == len(feed._files):
            raise StoppedError  # merging cannot be interrupted, but nobody waits for it
        yield _progress(feed)
    if failure:
        raise failure[0]
    if not feed.documents:
        rows = [f for f in feed._files if kind_of(f) in ROWS and not f.name.startswith("cleaned_")]
        given = [str(rows[0]), "--text-field", "NAME"] if rows else ["FILE_OR_FOLDER"]
        raise UsageError(
            "There is no text to learn from.",
            found=f"{feed.files_done} files without a single character that is read",
            remedy="say which field holds the text: {}" if rows else "clean some first: {}",
            commands=[("cleanup", "--input", *given)],
        )
    return result[0]


def _progress(feed: TrainingTexts) -> Progress:
    reading = feed.files_done < len(feed._files)
    return Progress(
        done=feed.files_done,
        total=len(feed._files),
        unit="files",
        message="reading" if reading else "merging",
        figures={"text": human_bytes(feed.bytes), "documents": f"{feed.documents:,}"},
    )


def _bpe(feed: TrainingTexts, vocab_size: int) -> Spec:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    engine = Tokenizer(models.BPE())
    # Words are cut as GPT-2 cuts them, which every other program can do too, llama.cpp included.
    engine.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    engine.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=CONTROLS,
        initial_alphabet=list(byte_marks()),
        show_progress=False,
    )
    engine.train_from_iterator(feed, trainer)
    spec: Spec = json.loads(engine.to_str())
    return spec | {"post_processor": _BOS_FIRST}


def _char(feed: TrainingTexts) -> Spec:
    """Ids 3 to 258 are the bytes of characters never seen, then one id per character, sorted.

    The 65 characters of Tiny Shakespeare so make 3 + 256 + 65 = 324 ids.
    """
    characters: set[str] = set()
    for text in feed:
        characters.update(text)
    pieces = [*CONTROLS, *(f"<0x{byte:02X}>" for byte in range(256)), *sorted(characters)]
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    return {
        "version": "1.0",
        "added_tokens": [
            {"id": i, "content": content, "special": True} | flags
            for i, content in enumerate(CONTROLS)
        ],
        "normalizer": None,
        "pre_tokenizer": None,
        "post_processor": _BOS_FIRST,
        "decoder": {"type": "Sequence", "decoders": [{"type": "ByteFallback"}, {"type": "Fuse"}]},
        "model": {
            "type": "BPE",
            "unk_token": "<unk>",
            "byte_fallback": True,
            "vocab": {piece: i for i, piece in enumerate(pieces)},
            "merges": [],
        },
    }


def _template(*parts: str) -> list[dict[str, dict[str, object]]]:
    return [
        {"SpecialToken": {"id": "<s>", "type_id": 0}}
        if part == "<s>"
        else {"Sequence": {"id": part, "type_id": 0}}
        for part in parts
    ]


# What other programs put in front of a prompt when they encode it.
_BOS_FIRST = {
    "type": "TemplateProcessing",
    "single": _template("<s>", "A"),
    "pair": _template("<s>", "A", "<s>", "B"),
    "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}},
}
