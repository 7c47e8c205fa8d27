"""The weights of a checkpoint as a GGUF file for llama.cpp as an engine, kept in exports/.

It has no tokenizer, since ids go in and come out: so it holds models whose tokenizer no exported
GGUF could.
"""

from collections import deque
from pathlib import Path

from model.checkpoint import load_weights
from model.huggingface.folding import fold_into_weights
from pipeline.runs.inventory import safe_name
from utils.artefacts import build_folder, is_current, source, verify
from utils.errors import RefusedError
from utils.files import require_space

_SMALL_FILES = 1 << 20


def weights_file(path: Path, form: str) -> Path:
    """The file of a checkpoint in `form` (f32, f16, bf16 or q8_0), made unless it is there and the
    checkpoint is still the same.

    Raises:
        RefusedError: no GGUF file can hold the model, or one that is there is damaged.
        DiskFullError: there is no room for it.
    """
    from pipeline.export.gguf_model import GgufModel, refuse_unknown  # 200 ms
    from pipeline.export.stage import EXPORTS

    name = safe_name(f"{path.absolute().parent.name}-{path.stem}")
    target, plan, inputs = EXPORTS / f"{name}-llamacpp-{form}", {"dtype": form}, [source(path)]
    file = f"weights-{form}.gguf"
    if is_current(target, "inference", plan, inputs) is not None:
        verify(target)
        return target / file
    try:
        model = fold_into_weights(load_weights(path))
        refuse_unknown(model.config)
    except RefusedError as error:
        raise RefusedError(error.problem, found=error.found, remedy="--engine torch") from error
    weights = GgufModel(model, None, None, name, form)
    require_space(target, weights.bytes + _SMALL_FILES)
    with build_folder(
        target, kind="engine weights", command="inference", options=plan, inputs=inputs
    ) as builder:
        for leftover in list(builder.units):
            (builder.path / leftover).unlink(missing_ok=True)
            del builder.units[leftover]
        deque(weights.write(builder.path / file), maxlen=0)
        builder.adopt(file)
    return target / file
