"""A program that lets transformers or llama.cpp turn conversations into token ids.

`chat_proof` runs this file as a process of its own: their libraries are large, read what is not
theirs, and one that fails must cost nobody but itself. Standard input is one JSON object: `program`
("transformers" or "llama.cpp"), `path` (a model folder, a GGUF file) and `requests`, each a list of
messages and whether an answer is to follow. Standard output is one too: `version`, and for each of
the requests its ids or, as a text, why it was refused; or `missing`, where the library is not
installed. It needs nothing of this project.
"""

import json
import os
import sys
from collections.abc import Callable
from typing import Any, TypeAlias

Messages: TypeAlias = list[dict[str, str]]
Encode: TypeAlias = Callable[[Messages, bool], list[int]]


def _transformers(path: str) -> tuple[str, Encode]:
    os.environ |= {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error"}
    import transformers

    tokenizer: Any = transformers.AutoTokenizer.from_pretrained(path, trust_remote_code=False)

    def encode(messages: Messages, answer: bool) -> list[int]:
        found = tokenizer.apply_chat_template(messages, add_generation_prompt=answer)
        return [int(i) for i in found["input_ids"]]

    return transformers.__version__, encode


def _llama_cpp(path: str) -> tuple[str, Encode]:
    import llama_cpp
    from llama_cpp.llama_chat_format import Jinja2ChatFormatter

    model = llama_cpp.Llama(path, vocab_only=True, verbose=False)
    vocabulary = llama_cpp.llama_model_get_vocab(model.model)

    def text(i: int) -> str:
        return "" if i < 0 else llama_cpp.llama_vocab_get_text(vocabulary, i).decode()

    def encode(messages: Messages, answer: bool) -> list[int]:
        formatter = Jinja2ChatFormatter(
            model.metadata["tokenizer.chat_template"],
            eos_token=text(model.token_eos()),
            bos_token=text(model.token_bos()),
            add_generation_prompt=answer,
        )
        rendered: Any = formatter(messages=messages)
        return list(model.tokenize(rendered.prompt.encode(), add_bos=False, special=True))

    return llama_cpp.__version__, encode


_PROGRAMS = {"transformers": _transformers, "llama.cpp": _llama_cpp}


def ids_or_reason(encode: Encode, messages: Messages, answer: bool) -> list[int] | str:
    """What `encode` makes of a request, or why it does not take it."""
    try:
        return encode(messages, answer)
    except Exception as error:
        return f"{type(error).__name__}: {error}"[:500]


def _main() -> None:
    answers, sys.stdout = sys.stdout, sys.stderr  # libraries print what they like
    asked = json.load(sys.stdin)
    try:
        version, encode = _PROGRAMS[asked["program"]](asked["path"])
    except ImportError as error:
        answers.write(json.dumps({"missing": str(error)}))
        return
    ids = [ids_or_reason(encode, messages, answer) for messages, answer in asked["requests"]]
    answers.write(json.dumps({"version": version, "ids": ids}))


if __name__ == "__main__":
    _main()
