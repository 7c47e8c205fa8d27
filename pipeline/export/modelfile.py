"""Ollama's Modelfile: the chat format as a Go template, where to stop, how to sample.

Syntax: github.com/ollama/ollama, docs/modelfile.md and docs/template.md.
"""

import json
import re

from pipeline.options.config import InferenceOptions
from pipeline.tokenizer import chat_template
from pipeline.tokenizer.tokenizer import Tokenizer

_PLAIN = re.compile(r"[^\"{}\n]*")

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


def modelfile(gguf_name: str, tokenizer: Tokenizer, context: int) -> str:
    """The text of a Modelfile beside `gguf_name`; sampling defaults are ours, `context` is in
    tokens. A chat template that is not ours stays in the GGUF alone, where Ollama looks for it."""
    sampling = InferenceOptions()
    lines = [f"FROM ./{gguf_name}"]
    eos = _piece(tokenizer, tokenizer.eos_id)
    if has_default_template(tokenizer):
        start = _piece(tokenizer, tokenizer.bos_id)
        template = _TEMPLATE.replace("EOS", _literal(eos)).replace("BOS", _literal(start))
        lines.append(f'TEMPLATE """{template}"""')
    stops = [eos, *(["User:"] if has_default_template(tokenizer) else [])]
    lines += [f"PARAMETER stop {json.dumps(text, ensure_ascii=False)}" for text in stops if text]
    lines += [
        f"PARAMETER num_ctx {context}",
        f"PARAMETER temperature {sampling.temperature}",
        f"PARAMETER top_k {sampling.top_k}",
        f"PARAMETER top_p {sampling.top_p}",
        f"PARAMETER min_p {sampling.min_p}",
        f"PARAMETER repeat_penalty {sampling.repetition_penalty}",
        f"PARAMETER num_predict {sampling.max_length}",
    ]
    return "\n".join(lines) + "\n"


def has_default_template(tokenizer: Tokenizer) -> bool:
    """Whether its chat template is the one that a Modelfile can be written for."""
    return tokenizer.chat_template == chat_template.DEFAULT


def _piece(tokenizer: Tokenizer, i: int | None) -> str:
    return "" if i is None else tokenizer.piece(i)


def _literal(text: str) -> str:
    """`text` inside a Go template, in quotes where its characters would mean something there."""
    return text if _PLAIN.fullmatch(text) else f"{{{{ {json.dumps(text)} }}}}"
