"""Ollama's Modelfile: the chat format as a Go template, where to stop, how to sample.

Syntax: github.com/ollama/ollama, docs/modelfile.md and docs/template.md.
"""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.options.config import InferenceOptions
from pipeline.tokenizer import chat_template
from pipeline.tokenizer.tokenizer import Tokenizer

_PLAIN = re.compile(r"[^\"{}\n]*")

_PARAMETERS = {  # of generation_config.json, and what Ollama calls them
    "temperature": "temperature",
    "top_k": "top_k",
    "top_p": "top_p",
    "min_p": "min_p",
    "repetition_penalty": "repeat_penalty",
    "max_new_tokens": "num_predict",
}

# One turn after the other as `chat_template.DEFAULT` writes them. llama.cpp
# puts BOS in front of the first itself; after an answer a new turn begins with one.
_TEMPLATE = """\
{{- range $i, $message := .Messages }}
{{- $last := eq (len (slice $.Messages $i)) 1 }}
{{- if eq .Role "assistant" }}Assistant: {{ .Content }}EOS{{ if not $last }}BOS{{ end }}
{{- else if eq .Role "system" }}{{ .Content }}
{{ else }}User: {{ .Content }}
{{ end }}
{{- if and $last (ne .Role "assistant") }}Assistant:{{ end }}
{{- end }}"""


def modelfile(
    gguf_name: str,
    tokenizer: Tokenizer,
    context: int,
    ends: Sequence[int] | None = None,
    sampling: Mapping[str, Any] | None = None,
) -> str:
    """The text of a Modelfile beside `gguf_name`; `context` is in tokens.

    `ends` are the ids that end a text, by default EOS, and `sampling` what a generation_config.json
    says, in place of our own defaults. A chat template that is not ours stays in the GGUF alone,
    where Ollama looks for it.
    """
    lines = [f"FROM ./{gguf_name}"]
    eos = _piece(tokenizer, tokenizer.eos_id)
    if has_default_template(tokenizer):
        start = _piece(tokenizer, tokenizer.bos_id)
        template = _TEMPLATE.replace("EOS", _literal(eos)).replace("BOS", _literal(start))
        lines.append(f'TEMPLATE """{template}"""')
    stops = [eos] if ends is None else [*map(tokenizer.piece, ends)]
    stops += ["User:"] if has_default_template(tokenizer) else []
    lines += [f"PARAMETER stop {json.dumps(text, ensure_ascii=False)}" for text in stops if text]
    lines.append(f"PARAMETER num_ctx {context}")
    defaults = _ours() if sampling is None else sampling
    lines += [
        f"PARAMETER {theirs} {defaults[name]}"
        for name, theirs in _PARAMETERS.items()
        if isinstance(defaults.get(name), int | float)
    ]
    return "\n".join(lines) + "\n"


def _ours() -> dict[str, Any]:
    options = InferenceOptions()
    values = {name: getattr(options, name) for name in list(_PARAMETERS)[:-1]}
    return values | {"max_new_tokens": options.max_length}


def has_default_template(tokenizer: Tokenizer) -> bool:
    """Whether its chat template is the one that a Modelfile can be written for."""
    return tokenizer.chat_template == chat_template.DEFAULT


def _piece(tokenizer: Tokenizer, i: int | None) -> str:
    return "" if i is None else tokenizer.piece(i)


def _literal(text: str) -> str:
    """`text` inside a Go template, in quotes where its characters would mean something there."""
    return text if _PLAIN.fullmatch(text) else f"{{{{ {json.dumps(text)} }}}}"
