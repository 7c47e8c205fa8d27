"""Settings of the stages that tune a model to answer; see `pipeline.options.config`."""

from pathlib import Path

from pydantic import Field

from pipeline import corpora
from pipeline.options.data import Count, Options


class LimaOptions(Options):
    """Turn conversations into examples that a model is tuned on."""

    common_fields = ("input", "from_corpus", "embedded", "tokenizer", "max_length")
    input: list[Path] | None = Field(
        None,
        description="Files of conversations, folders or globs; default: LIMA, from the Hugging "
        "Face hub",
    )
    from_corpus: str | None = Field(
        None,
        description="Corpus in whose clean documents conversations are found by rule",
        json_schema_extra={"flag": "--from"},
    )
    embedded: bool = Field(
        False, description="Questions and answers from the documentation of Python's own library"
    )
    votes: bool = Field(
        False, description="Pairs of answers that were compared, from the votes cast in Compare"
    )
    tokenizer: str | None = Field(
        None,
        description="Name under tokenizers/ or a path, also of the model to be tuned; default: "
        "the newest one there",
    )
    name: str | None = Field(
        None, description="What the set is called; default: as the file, the corpus, or lima"
    )
    max_length: int = Field(
        512, ge=8, description="Tokens of a conversation at most; longer ones are left out"
    )
    batch_size: Count = Field(64, description="Conversations encoded between two looks at a stop")
    val_split: float = Field(0.05, gt=0, lt=0.5, description="Share held out for validation")
    force: bool = Field(False, description="Do it again even when nothing changed")

    @property
    def set_name(self) -> str:
        """What the set is called: as typed, else by what it is made of."""
        if self.name or self.from_corpus:
            return self.name or self.from_corpus or ""
        if self.input:
            return corpora.name_of(self.input)
        return "votes" if self.votes else "python_questions" if self.embedded else "lima"
