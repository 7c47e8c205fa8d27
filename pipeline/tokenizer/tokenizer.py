"""One tokenizer interface: text to ids and back, byte for byte, whatever made the vocabulary.

Control tokens never come from text, and every text comes back exactly. Knows nothing of files
beyond its own Hugging Face layout: `pipeline.tokenizer.load` reads the others.
"""

import codecs
import json
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.tokenizer import spec as specs
from pipeline.tokenizer.chat_template import DEFAULT
from pipeline.tokenizer.spec import Kind, Spec
from utils.artefacts import Source, build_folder
from utils.errors import UsageError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from pipeline.tokenizer.fast_encoder import Encoder

    Ids = npt.NDArray[np.unsignedinteger[Any]]


class Tokenizer:
    """Byte-level or byte-fallback BPE.

    `spec` is a parsed tokenizer.json; `roles` maps bos, eos, pad and unk to the text of the
    tokens that play them, `controls` are further control tokens. Where no pad is named, eos is.
    `prefix` are the ids that it puts before a text by its own rule, which our training does not
    ask: see `around`.

    Raises:
        UsageError: a kind that cannot give every text back.
        RefusedError: text could produce control tokens, or the ids are impossible.
    """

    def __init__(
        self,
        spec: Spec,
        name: str,
        roles: Mapping[str, str],
        chat_template: str = DEFAULT,
        controls: Iterable[str] = (),
    ) -> None:
        self.name = name
        self.kind: Kind = specs.kind_of(spec)
        self.spec = specs.normalized(spec, {*roles.values(), *controls})
        self.chat_template = chat_template
        self._table = specs.byte_table(self.spec, self.kind)
        added = self.spec["added_tokens"]
        self.controls = frozenset(token["id"] for token in added if token["special"])
        by_text = {token["content"]: int(token["id"]) for token in added}
        self.bos_id = by_text.get(roles.get("bos", ""))
        self.eos_id = by_text.get(roles.get("eos", ""))
        self.unk_id = by_text.get(roles.get("unk", ""))
        self.pad_id = by_text.get(roles.get("pad", ""), self.eos_id)
        self.prefix = specs.text_prefix(self.spec)
        self._prefix = b" " if specs.takes_prefix_off(self.spec) else b""

    @property
    def vocab_size(self) -> int:
        """Rows a model needs: the largest id, added tokens included, plus one."""
        return len(self._table)

    @property
    def token_dtype(self) -> str:
        """The narrowest NumPy type that holds every id: uint16 or uint32."""
        return "uint32" if self.vocab_size > 65536 else "uint16"

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over what determines ids; the same however the JSON is laid out."""
        return specs.fingerprint(self.spec, self.bos_id, self.eos_id)

    @cached_property
    def _encoder(self) -> "Encoder":
        from pipeline.tokenizer.fast_encoder import Encoder

        return Encoder(self.spec, self.kind, self.token_dtype)

    @cached_property
    def _inner_encoder(self) -> "Encoder":
        inner = specs.without_first_space(self.spec)
        if inner == self.spec:
            return self._encoder
        from pipeline.tokenizer.fast_encoder import Encoder

        return Encoder(inner, self.kind, self.token_dtype)

    def encode(self, text: str) -> list[int]:
        """Ids of `text`, without control tokens.

        Raises:
            UsageError: it holds a lone surrogate.
        """
        return [int(i) for i in self.encode_batch([text])[0]]

    def encode_inside(self, text: str) -> list[int]:
        """Ids of a `text` that stands behind a control token. They are others than those of
        `encode` where only the beginning of the whole gets a space in front.

        Raises:
            UsageError: it holds a lone surrogate.
        """
        return [int(i) for i in self._inner_encoder.encode([text])[0]]

    def takes_space(self, control: int) -> tuple[bool, bool]:
        """Whether a control token takes the white space to its left and to its right."""
        [token] = [t for t in self.spec["added_tokens"] if t["id"] == control]
        return bool(token.get("lstrip")), bool(token.get("rstrip"))

    def encode_batch(self, texts: Sequence[str]) -> "list[Ids]":
        """Ids of each text in `token_dtype`, without control tokens."""
        return self._encoder.encode(texts)

    @property
    def around(self) -> tuple[list[int], list[int]]:
        """Ids before and after a document: BOS and EOS, or EOS alone where they are the same."""
        before = [] if self.bos_id in (None, self.eos_id) else [self.bos_id]
        after = [self.eos_id]
        return [i for i in before if i is not None], [i for i in after if i is not None]

    def wrap(self, ids: Sequence[int]) -> list[int]:
        """A document's ids with the control tokens around it."""
        before, after = self.around
        return [*before, *ids, *after]

    def encode_document(self, text: str) -> list[int]:
        """Ids of a whole document, control tokens around it."""
        return self.wrap(self.encode(text))

    def encode_documents(self, texts: Sequence[str]) -> "list[Ids]":
        """Ids of whole documents in `token_dtype`, control tokens around each."""
        return self._encoder.encode(texts, *self.around)

    def decode(self, ids: Sequence[int]) -> str:
        """The text of `ids`; control tokens have none. Broken UTF-8 becomes U+FFFD.

        Raises:
            UsageError: an id that the vocabulary does not have.
        """
        return self.text_bytes(ids)[0].decode("utf-8", "replace")

    def text_bytes(self, ids: Sequence[int], *, fresh: bool = True) -> tuple[bytes, bool]:
        """UTF-8 of `ids`, and whether a next id would begin a text.

        `fresh` says that the first one does: the space that encoding puts in front of a text is
        taken off there, and again after every control token.
        """
        if not self._prefix:
            return b"".join(self._text(i) for i in ids), fresh
        out: list[bytes] = []
        for i in ids:
            text = self._text(i)
            if i in self.controls:
                fresh = True
            elif text:
                out.append(text.removeprefix(self._prefix) if fresh else text)
                fresh = False
        return b"".join(out), fresh

    def _text(self, i: int) -> bytes:
        self.check(i)
        return b"" if i in self.controls else self._table[i]

    def piece(self, i: int) -> str:
        """What id `i` stands for, to show: control tokens by name, half characters as U+FFFD."""
        self.check(i)
        return self._table[i].decode("utf-8", "replace")

    def check(self, i: int) -> None:
        """Refuse an id that the vocabulary does not have."""
        if not 0 <= i < len(self._table):
            raise UsageError(
                f"There is no token {i}.",
                found=f"the tokenizer {self.name} has the ids 0 to {self.vocab_size - 1}",
                remedy="use the tokenizer that made these ids",
            )

    def files(self) -> dict[str, bytes]:
        """The Hugging Face layout: file names and contents, the same bytes every time."""
        names = {"bos": self.bos_id, "eos": self.eos_id, "pad": self.pad_id, "unk": self.unk_id}
        tokens = {f"{k}_token": self.piece(i) for k, i in names.items() if i is not None}
        undeclared = {"bos_token": None, "eos_token": None}  # none: not to be guessed
        settings = (
            undeclared
            | tokens
            | {
                "tokenizer_class": "PreTrainedTokenizerFast",
                "clean_up_tokenization_spaces": False,
                "model_max_length": 10**30,
                "chat_template": self.chat_template,
            }
        )
        values = {"tokenizer.json": self.spec, "tokenizer_config.json": settings}
        return {
            name: (json.dumps(value, ensure_ascii=False) + "\n").encode()
            for name, value in values.items()
        }

    def save(
        self,
        folder: Path,
        *,
        options: Mapping[str, Any] | None = None,
        inputs: Sequence[Source] = (),
        facts: Mapping[str, Any] | None = None,
    ) -> None:
        """Write the Hugging Face layout as an artefact, with its lineage."""
        with build_folder(
            folder, kind="tokenizer", command="tokenize", options=options or {}, inputs=inputs
        ) as builder:
            for name, data in self.files().items():
                builder.write(name, data)
            builder.facts |= {"fingerprint": self.fingerprint, "vocab_size": self.vocab_size}
            builder.facts |= facts or {}


class StreamDecoder:
    """Text of ids that arrive one by one, never with half a character.

    `after` are the ids that the text continues (a prompt); their own text is not repeated.
    What `push` and `flush` return adds up to what `decode` gives for all ids at once.
    """

    def __init__(self, tokenizer: Tokenizer, after: Sequence[int] = ()) -> None:
        self._tokenizer = tokenizer
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")
        before, self._fresh = tokenizer.text_bytes(after)
        self._utf8.decode(before)

    def push(self, i: int) -> str:
        """The characters that id `i` completes, possibly none."""
        new, self._fresh = self._tokenizer.text_bytes([i], fresh=self._fresh)
        return self._utf8.decode(new)

    def flush(self) -> str:
        """What is left when no more ids come: U+FFFD for half a character."""
        return self._utf8.decode(b"", True)
