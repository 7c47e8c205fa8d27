"""The settings of sampling that chat and compare show."""

from dataclasses import replace

from app.tui.forms.field_spec import Field, fields_of

_NAMES = (
    *("temperature", "top_k", "top_p", "min_p", "repetition_penalty", "max_length", "seed", "stop"),
)


def sampling_fields() -> list[Field]:
    """Every setting of the section `inference` that decides how tokens are chosen."""
    known = {field.path.partition(".")[2]: field for field in fields_of("inference")}
    return [replace(known[name], common=True) for name in _NAMES]
