"""The corpus that a command works on, and commands that say so: a job may run much later, when
another corpus is worked on."""

from collections.abc import Sequence

from app.commands.flags import Invocation, names_corpus
from pipeline.corpora import FALLBACK
from pipeline.options.config import Config
from pipeline.stages import Stage
from utils.errors import UsageError

_OTHER_TEXTS = ("input", "data", "resume", "load", "encode", "decode")
"""Settings beside which a stage works on no corpus, or on that which they are of."""


def corpus_setting(stage: Stage, config: Config) -> str | None:
    """The setting with which a stage is told its corpus; None where it works on no corpus, or on
    the one that other settings mean."""
    sections = [getattr(config, name) for name in (stage.section, stage.also) if name]
    told = [*_OTHER_TEXTS, *["name"] * (stage.command == "cleanup")]
    if any(getattr(options, name, None) for options in sections for name in told):
        return None
    if names_corpus(stage):
        return "dataset.source"
    return f"{stage.section}.source" if hasattr(sections[0], "source") else None


def naming_corpus(
    parsed: Invocation, words: Sequence[str], worked_on: str | None = None
) -> list[str]:
    """The words of a command with the corpus that it means now; `worked_on` is the one of the
    command that it waits for, which will be the last one worked on when it runs."""
    stage, config = parsed.stage, parsed.config
    setting = corpus_setting(stage, config)
    measures = stage.command == "tokenize" and not config.tokenize.train
    if setting is None or setting in parsed.settings.typed or measures:
        return list(words)
    section, _, name = setting.partition(".")
    own = getattr(getattr(config, section), name) or config.dataset.source
    return [*words, "--source", own or worked_on or config.source]


def worked_on_by(parsed: Invocation) -> str | None:
    """The corpus that commands without one mean once this command is done; None where it changes
    nothing about that."""
    stage, config = parsed.stage, parsed.config
    try:
        if stage.command == "quickstart":
            return FALLBACK
        if stage.command == "cleanup" and config.cleanup.output is None:
            from pipeline.cleaner.corpus import source_name  # only where texts have a name to get

            return source_name(config, config.cleanup)
        if stage.command == "prepare" and config.prepare.output is None:
            from pipeline.prep.plan import corpus_name  # the tokenizers' library, 0.1 s

            return corpus_name(config, config.prepare)
    except UsageError:
        return None  # which the command itself will say
    setting = corpus_setting(stage, config)
    if setting is None or stage.tool:
        return None
    section, _, name = setting.partition(".")
    return getattr(getattr(config, section), name) or config.source
