"""The proof that a conversation is the same tokens wherever an exported model is used.

50 conversations are encoded as training, the terminal and the server do, which share one encoder,
and by the program that the export is for. Ids are compared one by one; a difference refuses the
export. Where a content spells control tokens out, other programs make control tokens of it, and
ours never does: such conversations are compared among our own programs only, and the proof says so.
"""

import hashlib
import json
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

from pipeline.chat.encoder import ChatEncoder, ChatTemplateError
from pipeline.export.chat_peers import Ids, Peer, Request
from pipeline.export.proof_conversations import Turns, conversations
from pipeline.tokenizer.tokenizer import Tokenizer
from utils.errors import HatcheryError, RefusedError

FILE = "chat_template_proof.json"
_OURS = ("training", "terminal", "server")
_SPELLED = "it spells control tokens out, which other programs read as such"
_TAKEN_APART = "it holds letters taken apart from their accents, which llama.cpp does not compose"
_ASKS_OTHERWISE = "mend the chat template: a model has to be asked as it is taught"
_SHOWN = 200  # characters of why a template takes a conversation not


@dataclass(frozen=True)
class Compared:
    """A conversation as our programs encode it: `ids` are all of it, `asked` what stands before its
    last answer when that is asked for. `apart` says why no other program was asked, and `refused`
    why the template takes it nowhere."""

    name: str
    turns: Turns
    ids: Ids
    asked: Ids
    apart: str = ""
    refused: str = ""


@dataclass(frozen=True)
class Proof:
    """What was compared in which programs, with the template whose SHA-256 is given."""

    programs: tuple[str, ...]
    template_sha256: str
    tokenizer_fingerprint: str
    conversations: tuple[Compared, ...]

    @property
    def sentence(self) -> str:
        """'50 of 50 conversations have equal ids in training, terminal, server and …'."""
        refused = sum(bool(compared.refused) for compared in self.conversations)
        count = len(self.conversations)
        *first, last = self.programs
        where = f"{', '.join(first)} and {last}"
        taken = f"{count - refused} of {count} conversations have equal ids in {where}"
        return f"{taken}; the template takes {refused} in none of them" if refused else taken

    def to_json(self) -> str:
        """All of it, so that anybody can compare it with yet another program."""
        head: dict[str, Any] = {
            "says": self.sentence,
            "programs": self.programs,
            "template_sha256": self.template_sha256,
            "tokenizer_fingerprint": self.tokenizer_fingerprint,
        }
        rows = ",\n".join(json.dumps(_row(compared)) for compared in self.conversations)
        return f'{json.dumps(head)[:-1]},\n"conversations": [\n{rows}\n]}}\n'


def _row(compared: Compared) -> dict[str, Any]:
    """A conversation in the file."""
    row: dict[str, Any] = {
        "name": compared.name,
        "messages": Request(compared.turns, answer=False).messages,
    }
    if compared.refused:
        return row | {"refused": compared.refused}
    row |= {"ids": compared.ids, "ids_before_the_answer": compared.asked}
    return row | ({"compared_among_ours_only": compared.apart} if compared.apart else {})


def prove(
    tokenizer: Tokenizer, peer: Peer, *, remedy: str, composes: bool = True, strict: bool = True
) -> Proof:
    """Compare all conversations in our programs and in `peer`.

    `composes` says that the peer composes letters with their accents where the tokenizer does;
    without `strict` the text before an answer need not be the one that training sees, as in some
    templates of others. `remedy` is for whoever meets a difference.

    Raises:
        RefusedError: ids differ; names the conversation and the first token, on both sides.
        UsageError: the template cannot be read.
        HatcheryError: see `Peer.encode`.
    """
    compare = _Comparison(tokenizer, remedy)
    known = conversations([tokenizer.piece(i) for i in sorted(tokenizer.controls)])
    found = []
    for name, turns in known.items():
        apart = _apart(turns, tokenizer, composes=composes)
        found.append(compare.ours(name, turns, apart, strict=strict))
        if found[0].refused:
            raise RefusedError(
                "The chat template takes no question with its answer.",
                found=found[0].refused,
                remedy="mend chat_template in tokenizer_config.json, or take it out",
            )
    programs = (*_OURS, *compare.theirs([one for one in found if not one.apart], peer))
    template = hashlib.sha256(tokenizer.chat_template.encode()).hexdigest()
    return Proof(programs, template, tokenizer.fingerprint, tuple(found))


def _apart(turns: Turns, tokenizer: Tokenizer, *, composes: bool) -> str:
    """Why no other program is asked for a conversation; empty where it is."""
    text = "\n".join(turn.content for turn in turns)
    controls = filter(None, map(tokenizer.piece, tokenizer.controls))
    if any(piece in text for piece in controls):
        return _SPELLED
    if not composes and unicodedata.normalize("NFC", text) != text:
        return _TAKEN_APART
    return ""


class _Comparison:
    """Encodes conversations as we do, and refuses where others do it differently."""

    def __init__(self, tokenizer: Tokenizer, remedy: str) -> None:
        self._tokenizer, self._remedy = tokenizer, remedy
        self._encoder = ChatEncoder(tokenizer)

    def ours(self, name: str, turns: Turns, apart: str, *, strict: bool) -> Compared:
        """A conversation in our programs. Where `strict`, what is read before an answer is asked
        for must be what training reads before it, up to a token that spans the border."""
        whole = self._encoded(turns, answer=False)
        if isinstance(whole, str):
            return Compared(name, turns, [], [], apart, refused=whole)
        asked = self._encoded(turns[:-1], answer=True)
        if isinstance(asked, str):
            return Compared(name, turns, [], [], apart, refused=asked)
        learned = self._learned(turns)
        if learned is not None and learned != whole:
            raise self._refusal(name, learned, "the server", whole, _ASKS_OTHERWISE)
        begins = self._spelled(whole).startswith(self._spelled(asked))
        if strict and learned is not None and not begins:
            raise self._refusal(name, learned, "the terminal", asked, _ASKS_OTHERWISE)
        return Compared(name, turns, whole, asked, apart)

    def theirs(self, told: Sequence[Compared], peer: Peer) -> tuple[str, ...]:
        """The name of the peer, whose ids are ours; none where it is not installed."""
        whole = [Request(compared.turns, answer=False) for compared in told]
        asked = [Request(compared.turns[:-1], answer=True) for compared in told]
        encoded = peer.encode([*whole, *asked])
        if encoded is None:
            return ()
        expected = [compared.ids for compared in told] + [compared.asked for compared in told]
        for compared, ours, found in zip([*told, *told], expected, encoded.ids, strict=True):
            if isinstance(found, str) or compared.refused:
                if not (isinstance(found, str) and compared.refused):
                    raise self._not_taken(compared, found, encoded.program)
            elif found != ours:
                raise self._refusal(compared.name, ours, encoded.program, found, self._remedy)
        return (encoded.program,)

    def _encoded(self, turns: Turns, *, answer: bool) -> Ids | str:
        """Ids, or why the template does not take these turns."""
        try:
            return self._encoder.encode(turns, answer=answer)
        except HatcheryError as error:
            return f"{error.problem} {error.found}".strip()[:_SHOWN]

    def _learned(self, turns: Turns) -> Ids | None:
        """Ids as training reads them; None where it leaves the conversation out."""
        try:
            return self._encoder.encode_example(turns)[0]
        except ChatTemplateError:
            return None

    def _spelled(self, ids: Ids) -> bytes:
        """The text of ids, control tokens by their names."""
        controls, by = self._tokenizer.controls, self._tokenizer
        texts = (by.piece(i).encode() if i in controls else by.text_bytes([i])[0] for i in ids)
        return b"".join(texts)

    def _refusal(self, name: str, ours: Ids, there: str, theirs: Ids, remedy: str) -> RefusedError:
        pairs = enumerate(zip_longest(ours, theirs), 1)
        number, (left, right) = next((n, pair) for n, pair in pairs if pair[0] != pair[1])
        return RefusedError(
            f"A conversation has other tokens in {there} than in training.",
            found=f"in the conversation “{name}” token {number} is {self._shown(left)} in training "
            f"and {self._shown(right)} in {there}",
            remedy=remedy,
        )

    def _not_taken(self, compared: Compared, found: Ids | str, there: str) -> RefusedError:
        taker, refuser = (there, "training") if compared.refused else ("training", there)
        why = compared.refused or str(found)
        return RefusedError(
            f"A conversation is taken by the chat template in {taker}, and not in {refuser}.",
            found=f"the conversation “{compared.name}”: {why[:_SHOWN]}",
            remedy=self._remedy,
        )

    def _shown(self, i: int | None) -> str:
        if i is None:
            return "none, since it ends"
        known = 0 <= i < self._tokenizer.vocab_size
        return f"{i} {self._tokenizer.piece(i)!r}" if known else f"{i}, which is no token"
