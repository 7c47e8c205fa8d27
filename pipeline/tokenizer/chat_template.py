"""The chat template of a model: where its folder declares one, and what is used where it does not.

A chat template is a Jinja program that puts a conversation into one text. This is the only place
that looks for it: tokenizers, the server, its page, the app and every export take what is said
here. Where transformers writes it: since version 4.52 in a file of its own, before among the
settings of the tokenizer, as one text or as a list of named ones.
"""

from pathlib import Path

from pipeline.tokenizer.spec import read_json
from utils.artefacts import read_manifest
from utils.errors import RefusedError

FILE = "chat_template.jinja"
_SETTINGS = "tokenizer_config.json"

# One turn is a question and its answer between the tokens around a document.
DEFAULT = (
    "{% for message in messages %}"
    "{% if loop.first or loop.previtem['role'] == 'assistant' %}{{ bos_token }}{% endif %}"
    "{% if message['role'] == 'assistant' %}{{ 'Assistant: ' + message['content'] + eos_token }}"
    "{% elif message['role'] == 'system' %}{{ message['content'] + '\\n' }}"
    "{% else %}{{ 'User: ' + message['content'] + '\\n' }}{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}"
)


def template_of(folder: Path) -> str:
    """The template that a folder declares, else `DEFAULT`.

    Of several with names it is the one named "default"; an empty one declares nothing.

    Raises:
        RefusedError: the file that should hold it is damaged.
    """
    return _from_file(folder / FILE) or _from_settings(folder / _SETTINGS) or DEFAULT


def is_chat_model(folder: Path) -> bool:
    """Whether a model was tuned to answer: one of ours by what trained it, another by declaring a
    template of its own, since every tokenizer of ours declares `DEFAULT`.

    Raises:
        RefusedError: see `template_of`.
    """
    manifest = read_manifest(folder)
    if manifest is not None and manifest.kind == "checkpoint":
        return manifest.made_by.command != "train"
    return template_of(folder) != DEFAULT


def _from_file(path: Path) -> str:
    if not path.is_file():
        return ""
    try:
        return path.read_text("utf-8")
    except UnicodeDecodeError as error:
        raise RefusedError(f"{path} is not text.", found=str(error)) from error


def _from_settings(path: Path) -> str:
    if not path.is_file():
        return ""
    template = read_json(path).get("chat_template")
    if isinstance(template, list):
        named = [item for item in template if isinstance(item, dict)]
        template = {item.get("name"): item.get("template") for item in named}.get("default")
    return template if isinstance(template, str) else ""
