"""The model, torch only: no stage, no screen, no printing.

The public names load torch when they are first used, so that `model.config` stays cheap to import.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from model.gpt import GPT
    from model.language_model import LanguageModel, create_model

__all__ = ["GPT", "LanguageModel", "create_model"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from model import language_model

        return getattr(language_model, name)
    raise AttributeError(f"module 'model' has no attribute {name!r}")
