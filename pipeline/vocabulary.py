"""How many ids a vocabulary should have for the text it is learned from."""

from pipeline.options.config import Config, TokenizeOptions
from utils.artefacts import read_manifest
from utils.errors import HatcheryError

BYTES_PER_ID = 350
"""Text that feeds an id, bytes: at 3.5 bytes a token an id is met a hundred times on average.
Rarer ones learn little, while their embeddings are most of a small model's parameters."""

_SMALLEST = 512
LARGEST: int = TokenizeOptions.model_fields["vocab_size"].default
"""What a large text gets, ids."""


def fitting_size(text_bytes: int) -> int:
    """The largest power of two, from 512 ids to the default, that a text of that size feeds."""
    size = LARGEST
    while size > _SMALLEST and size * BYTES_PER_ID > text_bytes:
        size //= 2
    return size


def text_bytes_of(config: Config, corpus: str) -> int | None:
    """UTF-8 bytes of the clean documents of a corpus; None where there are none."""
    for test in (False, True):
        try:
            manifest = read_manifest(config.cleaned_dir(corpus, test=test))
        except (HatcheryError, OSError):
            continue
        size = manifest.facts.get("text_bytes") if manifest is not None else None
        if isinstance(size, int) and size > 0:
            return size
    return None
