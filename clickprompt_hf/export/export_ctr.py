# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""Export of the CTR part of a checkpoint, to be served without the PLM and without torch.

docs/serving.md describes the files and how to serve them.
"""

import importlib.util
import re
from pathlib import Path

import numpy as np
import torch
from transformers.utils import logging

from ..configuration_clickprompt import ClickPromptConfig
from ..modeling_clickprompt import ClickPromptForCTR
from ..processing_clickprompt import ClickPromptProcessor
from ..whole_files import whole_folder
from .ctr_program import ClickProbability, random_inputs, torch_export, write_onnx
from .exported_folder import ONNX_FILE
from .id_tables import IdTableDtype, check_id_table_dtype, convert_id_tables

logger = logging.get_logger(__name__)

TOLERANCE = 1e-5
TORCH_FILE = "model.pt2"
_NEEDED = ("onnx", "onnxscript", "onnxruntime")
# an import of a sibling, as shipped files write it, or of a shipped file
_OWN_IMPORT = re.compile(r"^from \.+(\w+) import", re.MULTILINE)
_FINETUNE_FIRST = "Finetune it first, with `without_plm` to serve its CTR part alone."


def export_ctr(
    checkpoint: str | Path,
    folder: str | Path,
    with_torch_program: bool = False,
    id_table_dtype: IdTableDtype = "float32",
) -> float:
    """Export the CTR part of a checkpoint, both as a CTR-only checkpoint and as an ONNX model.

    The folder holds the checkpoint (`AutoModelForSequenceClassification`, `AutoProcessor`), `model.onnx`, and
    `scorer.py` with the modules it needs, which score raw rows with numpy and onnxruntime alone. It is written
    completely or not at all.

    Args:
        checkpoint: Folder or Hub id of a checkpoint that was finetuned for clicks.
        folder: Folder to write; new or empty.
        with_torch_program: Also write `model.pt2`, for `torch.export.load`.
        id_table_dtype: Type of the id embedding tables in `model.onnx` and `model.pt2`: `"bfloat16"` has half of the
            bytes of `"float32"`, `"int8"` about a quarter; both change probabilities. The checkpoint in the folder is
            in float32 either way.

    Returns:
        Largest difference of the ONNX model's probabilities from those of the checkpoint, on random rows.

    Raises:
        ImportError: If the packages that write and check ONNX are missing.
        FileExistsError: If `folder` is not empty.
        OSError: If `folder` cannot be written; the message names it and the reason.
        ValueError: If the checkpoint has no trained CTR logit, its processor belongs to another model, or
            `id_table_dtype` is unknown.
        RuntimeError: If the ONNX model's probabilities differ from those of the checkpoint with its id tables in
            `id_table_dtype`.
    """
    check_id_table_dtype(id_table_dtype)
    folder = Path(folder).absolute()
    check_can_export(folder)
    model, processor = load_ctr(str(checkpoint))
    with whole_folder(folder) as partial:
        model.save_pretrained(partial)
        processor.save_pretrained(partial)
        write_serving_code(partial)
        of_checkpoint = random_scores(model)
        convert_id_tables(model, id_table_dtype)
        program = torch_export(model)
        write_onnx(program, partial / ONNX_FILE, processor.fingerprint)
        found = check_scores(model, partial)
        if with_torch_program:
            torch.export.save(program, partial / TORCH_FILE)
    return max(float(np.abs(scores - expected).max()) for scores, expected in zip(found, of_checkpoint))


def check_can_export(folder: Path) -> None:
    """Check that the packages for ONNX are installed, and that a folder can be written.

    Raises:
        ImportError: If a package is missing.
        FileExistsError: If `folder` is not empty.
    """
    if absent := [name for name in _NEEDED if importlib.util.find_spec(name) is None]:
        raise ImportError(f"The export needs {', '.join(absent)}: pip install 'clickprompt_hf[onnx]'.")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise FileExistsError(f"`folder` must be new or empty, got {folder}.")


def load_ctr(checkpoint: str) -> tuple[ClickPromptForCTR, ClickPromptProcessor]:
    """Load the CTR part of a checkpoint in float32, and its processor without the tokenizer.

    Raises:
        ValueError: If the checkpoint has no trained CTR logit, or its processor belongs to another model.
    """
    config = ClickPromptConfig.from_pretrained(checkpoint)
    if config.fusion == "text":
        raise ValueError(
            f"`checkpoint` must have a CTR logit, but {checkpoint} has fusion='text': its logit comes from the PLM."
        )
    model = load_click_model(checkpoint, config, use_plm=False)
    processor = ClickPromptProcessor.from_pretrained(checkpoint)
    processor.check_model(config)
    processor.tokenizer = None
    if config.use_plm:
        logger.warning(
            f"The CTR logit of {checkpoint} was trained as part of a fused logit (fusion={config.fusion!r}); it may "
            "be badly calibrated on its own. To train it on its own, finetune with `without_plm`."
        )
    return model, processor


def load_click_model(checkpoint: str, config: ClickPromptConfig, **options: bool) -> ClickPromptForCTR:
    """Load a model that was finetuned for clicks, in float32.

    Args:
        checkpoint: Folder or Hub id.
        config: Its configuration.
        options: Further arguments of `from_pretrained`.

    Raises:
        ValueError: If it has no trained heads, or its weights are incomplete.
    """
    # the head of some backbones has no weights, so none can be missing
    if ClickPromptForCTR.__name__ not in (config.architectures or ()):
        raise ValueError(
            f"`checkpoint` must be finetuned for clicks, but {checkpoint} is one of {config.architectures}. "
            + _FINETUNE_FIRST
        )
    try:
        model = ClickPromptForCTR.from_pretrained(checkpoint, dtype=torch.float32, **options)
    except ValueError as error:
        raise ValueError(f"`checkpoint` must be complete and finetuned for clicks, but {error}") from error
    if model.fresh_weights:
        raise ValueError(
            f"`checkpoint` must be finetuned for clicks, but {checkpoint} lacks {list(model.fresh_weights)}. "
            + _FINETUNE_FIRST
        )
    return model.eval()


def write_serving_code(folder: Path) -> None:
    """Copy `scorer.py` and the modules that it imports, directly or not, so that they score without this package."""
    package = Path(__file__).parent.parent
    waiting, written = [Path(__file__).with_name("scorer.py")], set()
    while waiting:
        module = waiting.pop()
        source = module.read_text(encoding="utf-8")
        (folder / module.name).write_text(_OWN_IMPORT.sub(r"from \1 import", source), encoding="utf-8")
        written.add(module)
        waiting += {package / f"{name}.py" for name in _OWN_IMPORT.findall(source)} - written


def check_scores(model: ClickPromptForCTR, folder: Path) -> list[np.ndarray]:
    """Check that the ONNX model in `folder` returns the probabilities of `model` for random rows, and return them.

    Raises:
        RuntimeError: If they differ by more than 1e-5.
    """
    # imports onnxruntime, which comes with the extra `onnx`
    from .scorer import Scorer

    scorer = Scorer(folder)
    found = [scorer.score_ids(*(tensor.numpy() for tensor in inputs)) for inputs in _random_batches(model)]
    for scores, expected in zip(found, random_scores(model)):
        difference = np.abs(scores - expected).max()
        # NaN fails as well
        if not difference <= TOLERANCE:
            raise RuntimeError(
                f"The ONNX model's probabilities must equal the checkpoint's within {TOLERANCE}, but they differ by "
                f"{difference} in a batch of {len(scores)}; nothing was written."
            )
    return found


def random_scores(model: ClickPromptForCTR) -> list[np.ndarray]:
    """Probabilities (B,) of a model's CTR part for random rows, in batches of several sizes."""
    probability = ClickProbability(model)
    with torch.no_grad():
        return [probability(*inputs).numpy() for inputs in _random_batches(model)]


def _random_batches(model: ClickPromptForCTR) -> list[tuple[torch.Tensor, ...]]:
    return [random_inputs(model, num_rows, seed=num_rows) for num_rows in (1, 256)]
