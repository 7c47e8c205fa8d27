"""The export stage: a checkpoint becomes a folder that other programs open.

What they lack is folded into the weights where that is exact (`model.huggingface.folding`) and
refused by name where it is not; nothing is approximated silently.
"""

import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from threading import Event as StopSignal
from typing import Any

import torch

from model.checkpoint import load_config, load_weights
from model.config import ModelConfig
from model.gpt import GPT
from model.huggingface.config import is_of_others
from model.huggingface.families import architecture
from model.huggingface.folding import fold_into_weights, folded_config
from model.huggingface.generation_config import read_generation_config
from pipeline.events import Event, Finished, Progress, Saved, Started, Warned
from pipeline.export.chat_peers import LlamaCpp, Peer, Transformers
from pipeline.export.chat_proof import FILE, prove
from pipeline.export.gguf_tokenizer import composes
from pipeline.export.hf import DTYPES, HfModel
from pipeline.export.modelfile import has_default_template, modelfile
from pipeline.options.config import Config, ExportOptions
from pipeline.runs import inventory
from pipeline.runs.inventory import Checkpoint
from pipeline.runs.lineage import EXPORTS, PROOF
from pipeline.runs.text_bounds import TextBounds, text_bounds
from pipeline.tokenizer.chat_template import is_chat_model
from pipeline.tokenizer.load import sibling_tokenizer, tokenizer_of
from pipeline.tokenizer.tokenizer import Tokenizer
from utils.artefacts import FolderBuilder, Source, build_folder, is_current, source
from utils.errors import RefusedError, UsageError
from utils.files import raise_disk_error, require_space
from utils.units import human_bytes
from utils.verification import verify

_KIND = "model folder"
_MODELFILE = "Modelfile"
_SMALL_FILES = 1 << 24
_OF_ANOTHER_TEMPLATE = {  # what to do where a conversation is other tokens there
    "hf": "mend the chat template in {}: it has to mean the same in every program",
    "gguf": "export --to hf keeps it, or mend the chat template in {}",
}


class _StoppedError(Exception):
    """Leaves the build without publishing it."""


@dataclass(frozen=True)
class _Export:
    """What goes where: the checkpoint, its tokenizer, the folder and the model's name."""

    options: ExportOptions
    checkpoint: Checkpoint
    tokenizer: Tokenizer
    name: str
    target: Path
    inputs: list[Source]

    @property
    def plan(self) -> dict[str, Any]:
        """The options that decide the bytes."""
        return {"to": self.options.to, "dtype": self.options.dtype, "name": self.name}

    @property
    def is_chat(self) -> bool:
        """Whether the model was tuned to answer, so that its template is to be proved."""
        return is_chat_model(self.checkpoint.path)


def run(config: Config, options: ExportOptions, stop: StopSignal) -> Iterator[Event]:
    """Write the folder, unless it is there already and made of the same.

    Raises:
        UsageError: no checkpoint, no tokenizer, or a number format of the other kind.
        RefusedError: a model or tokenizer that the other program would compute differently.
        DiskFullError: too little room, found before the first byte or while writing.
    """
    if options.to == "hf" and options.dtype == "q8_0":
        raise UsageError(
            "A Hugging Face folder holds no q8_0 weights.",
            remedy="--dtype bf16, or --to gguf --dtype q8_0",
        )
    export = _found(config, options)
    yield Started("export", f"Export {export.checkpoint.label} to {options.to}")
    current = is_current(export.target, "export", export.plan, export.inputs)
    proved = current is not None and (PROOF in current.facts or not export.is_chat)
    if current is not None and proved and not options.force:
        verify(export.target)
        facts = current.facts | _in_ollama(export)
        yield Finished(facts, str(export.target), skipped=True)
        return
    if export.checkpoint.path.is_dir():
        folded_config(load_config(export.checkpoint.path))  # a refusal should not wait for loading
    yield Progress(0, message=f"loading {export.checkpoint.label}")
    loaded = load_weights(export.checkpoint.path)
    model = fold_into_weights(loaded)
    try:
        with build_folder(
            export.target, kind=_KIND, command="export", options=export.plan, inputs=export.inputs
        ) as builder:
            for name in list(builder.units):  # of a build that was killed: small beside the rest
                (builder.path / name).unlink(missing_ok=True)
                del builder.units[name]
            write = _write_hf if options.to == "hf" else _write_gguf
            yield from write(export, model, loaded.dtype, builder, stop)
            builder.facts |= _folds(loaded.config, model.config)
    except _StoppedError:
        yield Finished(stopped=True)
        return
    yield Saved(_KIND, str(export.target), builder.facts)
    yield Finished(builder.facts | _in_ollama(export), str(export.target))


def _found(config: Config, options: ExportOptions) -> _Export:
    directory = config.paths.checkpoints_dir
    where = options.checkpoint
    chosen = inventory.newest(config) if where is None else inventory.resolve(where, directory)
    tokenizer = tokenizer_of(chosen.path, options.tokenizer, config.paths.tokenizers_dir)
    origin = [source(chosen.path)]
    if sibling_tokenizer(chosen.path) is None:
        origin.append(Source(str(options.tokenizer), tokenizer.fingerprint))
    else:
        tokenizer.name = f"of {chosen.label}"
    name = inventory.safe_name(options.name or chosen.id)
    suffix = "" if options.dtype == "auto" else f"-{options.dtype}"
    target = options.output or EXPORTS / f"{name}-{options.to}{suffix}"
    return _Export(options, chosen, tokenizer, name, target, origin)


def _in_ollama(export: _Export) -> dict[str, str]:
    """The command that makes the files known to Ollama, as a fact; none where they are not its."""
    file = export.target / _MODELFILE
    if not file.is_file():
        return {}
    return {"then": shlex.join(["ollama", "create", export.name.lower(), "-f", str(file)])}


def _folds(config: ModelConfig, target: ModelConfig) -> dict[str, str]:
    """What the weights hold in place of switches, as a fact; none where nothing was folded."""
    names = ("embedding_norm", "logit_scale", "norm", "num_kv_heads")
    changed = [name for name in names if getattr(config, name) != getattr(target, name)]
    return {"folded": ", ".join(changed)} if changed else {}


def _write_hf(
    export: _Export, model: GPT, stored: torch.dtype, builder: FolderBuilder, stop: StopSignal
) -> Iterator[Event]:
    dtype = DTYPES.get(export.options.dtype, stored)
    folder = HfModel(model, export.tokenizer, dtype, export.checkpoint.path)
    require_space(export.target, folder.bytes + _SMALL_FILES)
    yield Progress(0, folder.bytes, "bytes", "writing")
    if stop.is_set():
        raise _StoppedError
    folder.describe(builder)
    yield from _prove(export, Transformers(builder.path), builder)
    folder.write_weights(builder)
    builder.facts |= {
        "format": "hf",
        "architecture": architecture(model.config),
        "dtype": str(dtype).removeprefix("torch."),
        "bytes": folder.bytes,
    }


def _write_gguf(
    export: _Export, model: GPT, stored: torch.dtype, builder: FolderBuilder, stop: StopSignal
) -> Iterator[Event]:
    from pipeline.export import gguf_model  # 200 ms
    from pipeline.export.gguf_metadata import ends_in_gguf, metadata_bytes
    from pipeline.export.gguf_tokenizer import vocabulary

    where = export.options.checkpoint
    gguf_model.refuse_unknown(model.config, *[] if where is None else ["--checkpoint", where])
    origin = export.checkpoint.path
    bounds = _bounds_in_gguf(origin, export.tokenizer)
    words = vocabulary(export.tokenizer, model.config.vocab_size)
    if composes(export.tokenizer):
        yield Warned(
            "llama.cpp does not compose accents with their letters (NFC), as this tokenizer does: "
            "text in decomposed letters, which some macOS programs write, gets other tokens there."
        )
    yield from _notes(export, words.model, bounds, ends_in_gguf(export.tokenizer, bounds))
    dtype = _own_format(stored) if export.options.dtype == "auto" else export.options.dtype
    file = gguf_model.GgufModel(model, export.tokenizer, words, export.name, dtype, bounds)
    require_space(export.target, file.bytes + metadata_bytes(words) + _SMALL_FILES)
    if file.left_wide:
        yield Warned(
            f"{len(file.left_wide)} matrices stay float32: 8-bit blocks need rows of a multiple "
            f"of 32 values ({file.left_wide[0]})."
        )
    file_name = f"{export.name}-{dtype.upper()}.gguf"
    path, done = builder.path / file_name, 0
    try:
        for size in file.write(path):
            done += size
            yield Progress(done, file.bytes, "bytes", f"writing {human_bytes(file.bytes)}")
            if stop.is_set():
                raise _StoppedError
        yield from _prove(export, LlamaCpp(path), builder)
    except BaseException as error:
        path.unlink(missing_ok=True)
        raise_disk_error(error, path)
        raise
    builder.adopt(file_name)
    context = model.config.max_position_embeddings
    sampling = read_generation_config(origin).content or ({} if is_of_others(origin) else None)
    builder.write(
        _MODELFILE, modelfile(file_name, export.tokenizer, context, bounds.ends, sampling)
    )
    builder.facts |= {
        "format": "gguf",
        "architecture": architecture(model.config),
        "dtype": dtype,
        "bytes": file.bytes,
        "file": file_name,
        "pre_tokenizer": words.pre,
    }


def _prove(export: _Export, peer: Peer, builder: FolderBuilder) -> Iterator[Event]:
    """Write the proof that conversations are the same tokens in `peer`, which reads what the
    builder has made, as here; only of a model that was tuned to answer.

    Raises:
        RefusedError: they are not.
    """
    if not export.is_chat:
        return
    yield Progress(0, message="comparing conversations")
    origin, to = export.checkpoint.path, export.options.to
    proof = prove(
        export.tokenizer,
        peer,
        remedy=_OF_ANOTHER_TEMPLATE[to].format(origin),
        composes=to == "hf" or not composes(export.tokenizer),
        strict=not is_of_others(origin),
    )
    builder.write(FILE, proof.to_json())
    builder.facts |= {PROOF: proof.sentence}


def _bounds_in_gguf(origin: Path, tokenizer: Tokenizer) -> TextBounds:
    """Where texts begin and end.

    Raises:
        RefusedError: several tokens stand before every text, of which a file names one.
    """
    bounds = text_bounds(origin, tokenizer)
    if len(bounds.before) > 1:
        names = ", ".join(map(tokenizer.piece, bounds.before))
        raise RefusedError(
            f"No GGUF file can hold the tokenizer {tokenizer.name}.",
            found=f"it puts {names} before every text, and llama.cpp one token",
            remedy="export --to hf keeps it",
        )
    return bounds


def _notes(export: _Export, kind: str, bounds: TextBounds, named: list[int]) -> Iterator[Warned]:
    """What a GGUF file does not hold; `named` are the ends that it does."""
    if kind == "llama":
        yield Warned(
            "In a prompt llama.cpp reads the character U+2581 as a space; here it stays itself."
        )
    if more := [i for i in bounds.ends if i not in named]:
        names = ", ".join(repr(export.tokenizer.piece(i)) for i in more)
        yield Warned(
            f"A GGUF file names {len(named)} ends of a text: {names} are ends of this model too.",
            remedy="The Modelfile stops at them; in llama.cpp itself they have to be given.",
        )
    if not has_default_template(export.tokenizer):
        yield Warned(
            "The Modelfile has no TEMPLATE: this tokenizer brings a chat template of its own, "
            "which is in the GGUF file; Ollama knows the common ones by it."
        )


def _own_format(dtype: torch.dtype) -> str:
    return next((name for name, known in DTYPES.items() if known == dtype), "f32")
