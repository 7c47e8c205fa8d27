"""Small tokenizers for tests, learned on the spot."""

import json
import threading
from pathlib import Path
from typing import Any

from pipeline.events import Progress
from pipeline.tokenizer.tokenizer import Tokenizer
from pipeline.tokenizer.train import ROLES, TrainingTexts, learn

PROSE = [
    "It's a fine day; the 1234567 birds sing.\n\n    Indented, naïve – 北京 🙂.\n",
    "def f(x):\n        return x + 1\n\n\nclass A:\n\tpass\n",
    "To be, or not to be: that is the question.",
] * 3


def train(kind: Any, texts: list[str], folder: Path, vocab_size: int = 400) -> Tokenizer:
    folder.mkdir(exist_ok=True)
    file = folder / "cleaned_0.jsonl"
    rows = [{"id": str(i), "title": "", "text": text} for i, text in enumerate(texts)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    stop = threading.Event()
    steps = learn(kind, vocab_size, TrainingTexts([file], 1 << 30, stop), stop)
    try:
        while True:
            assert isinstance(next(steps), Progress)
    except StopIteration as end:
        return Tokenizer(end.value, kind, ROLES)
