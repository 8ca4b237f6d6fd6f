# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""Export of a checkpoint with its PLM to ONNX, in fp32 or with int8 weights.

docs/serving.md describes the files and how to serve them.
"""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..configuration_clickprompt import ClickPromptConfig
from ..modeling_clickprompt import ClickPromptForCTR
from ..processing_clickprompt import ClickPromptProcessor
from ..tokenization_clickprompt import control_tokens, kept_tokens, special_tokens_around, tokenize
from ..whole_files import whole_folder
from .ctr_program import needs_second_file, write_onnx
from .export_ctr import TOLERANCE, check_can_export, load_click_model
from .exported_folder import ONNX_FILE
from .plm_program import FusedClickProbability, fused_export, input_names, random_batch
from .text_tokenizer import TOKENIZER_FILE, TextTokenizer, write_settings

# Families that are known to work; others are tried.
EXPORTED_FAMILIES = (
    *("bert", "camembert", "deberta-v2", "distilbert", "electra", "gpt2", "llama", "modernbert", "mpnet", "qwen3"),
    *("roberta", "t5", "xlm-roberta"),
)
# Number of values per field whose texts are tokenized to check the exported tokenizer.
_VALUES_CHECKED = 64


def export_plm(checkpoint: str | Path, folder: str | Path, int8: bool = False) -> float:
    """Export a checkpoint with its PLM as an ONNX model, with the processor that reads raw rows for it.

    The folder holds `model.onnx`, `config.json` and the files of the processor, for `PLMScorer`. It is written
    completely or not at all.

    Args:
        checkpoint: Folder or Hub id of a checkpoint with a PLM that was finetuned for clicks.
        folder: Folder to write; new or empty.
        int8: Whether matrix products and embedding tables have weights of 8 bits. The file has about a quarter of the
            size; probabilities change.

    Returns:
        Largest difference of the ONNX model's probabilities from those of the checkpoint, on random rows.

    Raises:
        ImportError: If the packages that write and check ONNX are missing.
        FileExistsError: If `folder` is not empty.
        OSError: If `folder` cannot be written; the message names it and the reason.
        ValueError: If the checkpoint has no PLM, one that cannot be exported, or was not finetuned for clicks, or its
            processor belongs to another model.
        RuntimeError: If the probabilities in fp32 differ from those of the checkpoint by more than 1e-5, those in int8
            are not numbers, or texts have other tokens without transformers.
    """
    folder = Path(folder).absolute()
    check_can_export(folder)
    model, processor = load_with_plm(str(checkpoint))
    with whole_folder(folder) as partial:
        model.config.save_pretrained(partial)
        processor.save_pretrained(partial)
        write_tokenizer_settings(processor, partial)
        exact = partial / "fp32" / ONNX_FILE if int8 else partial / ONNX_FILE
        exact.parent.mkdir(exist_ok=True)
        program = write_model(model, exact, processor.fingerprint)
        difference = largest_difference(model, exact)
        # NaN fails as well
        if not difference <= TOLERANCE:
            raise RuntimeError(
                f"The ONNX model's probabilities must equal the checkpoint's within {TOLERANCE}, but they differ by "
                f"{difference}; nothing was written."
            )
        if int8:
            quantize(exact, partial / ONNX_FILE, needs_second_file(program))
            shutil.rmtree(exact.parent)
            difference = largest_difference(model, partial / ONNX_FILE)
            if not np.isfinite(difference):
                raise RuntimeError("The probabilities in int8 must be numbers, got NaN; nothing was written.")
    return difference


def load_with_plm(checkpoint: str) -> tuple[ClickPromptForCTR, ClickPromptProcessor]:
    """Load a checkpoint with its PLM in float32, and its processor.

    Raises:
        ValueError: If the checkpoint has no PLM or was not finetuned for clicks, or its processor belongs to another
            model.
    """
    config = ClickPromptConfig.from_pretrained(checkpoint)
    if not config.use_plm:
        raise ValueError(f"`checkpoint` must have a PLM, but {checkpoint} has none: export its CTR part.")
    model = load_click_model(checkpoint, config)
    processor = ClickPromptProcessor.from_pretrained(checkpoint)
    processor.check_model(config)
    return model, processor


def write_tokenizer_settings(processor: ClickPromptProcessor, folder: Path) -> None:
    """Write what `TextTokenizer` needs besides `tokenizer.json`, which the processor has saved in `folder`.

    A tokenizer written in Python has no such file; then nothing is written, and reading rows needs transformers.

    Raises:
        RuntimeError: If `TextTokenizer` turns texts into other tokens than the processor.
    """
    tokenizer = processor.tokenizer
    if not tokenizer.is_fast:
        return
    around = special_tokens_around(tokenizer)
    first, end = kept_tokens(tokenizer, around, processor.max_text_length)
    settings = {
        "control_tokens": sorted(control_tokens(tokenizer)),
        "before": around.before,
        "after": around.after,
        "first_kept": first,
        "end_of_kept": end,
        "padding": tokenizer.pad_token_id,
    }
    write_settings(folder, settings)
    texts = [
        clause
        for f in processor.schema.fields_in_text
        for clause in processor.render_values(f, [*processor.vocabularies[f][:_VALUES_CHECKED], None])
    ]
    texts = [*texts, " ".join(texts[:: _VALUES_CHECKED + 1]), "", " ".join(map(str, settings["control_tokens"]))]
    found, mask = TextTokenizer(folder)(texts).values()
    if [ids[kept == 1].tolist() for ids, kept in zip(found, mask)] != tokenize(
        tokenizer, texts, processor.max_text_length
    ):
        raise RuntimeError(
            f"{TOKENIZER_FILE} must tokenize texts like the processor, but does not with "
            f"{type(tokenizer).__name__}; nothing was written."
        )


def write_model(model: ClickPromptForCTR, path: Path, fingerprint: str) -> torch.export.ExportedProgram:
    """Write a model as ONNX, and return the program that it was made from.

    Raises:
        ValueError: If the model's PLM cannot be exported.
    """
    # not every family's fused attention has a counterpart in ONNX
    model.set_attn_implementation("eager")
    try:
        program = fused_export(model)
        write_onnx(program, path, fingerprint, input_names(model))
    # the exporter raises errors of many types
    except Exception as error:
        family = model.config.text_config.model_type
        reason = str(error).strip().partition("\n")[0]
        raise ValueError(
            f"`checkpoint` must have a PLM that ONNX supports, such as one of {', '.join(EXPORTED_FAMILIES)}, but "
            f"{family!r} fails: {reason}"
        ) from error
    return program


def quantize(exact: Path, path: Path, second_file: bool = False) -> None:
    """Write an ONNX model again, with weights in int8 in its matrix products and embedding tables.

    Activations are quantized while the model runs, with a separate range per batch.

    Args:
        exact: The model in fp32.
        path: File to write.
        second_file: Whether weights go into a second file next to it.
    """
    # come with the extra `onnx`
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    model = onnx.load(exact)
    # else a warning advises to infer shapes first, which the exporter has done
    model.metadata_props.add(key="onnx.quant.pre_process", value="onnxruntime.quant")
    # one scale per channel: with one per matrix, probabilities of a finetuned MiniLM change three times as much
    options: dict[str, Any] = {"per_channel": True, "use_external_data_format": second_file}
    # 7 bits per weight: processors without VNNI add pairs of products in 16 bits, which 8 bits overflow
    options["reduce_range"] = True
    quantize_dynamic(model, path, weight_type=QuantType.QInt8, **options)


def largest_difference(model: ClickPromptForCTR, path: Path) -> float:
    """Largest difference of an ONNX model's probabilities from those of `model`, on random rows."""
    # comes with the extra `onnx`
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    taken = {entry.name for entry in session.get_inputs()}
    differences = []
    for num_rows in (1, 64):
        inputs = random_batch(model, num_rows, seed=num_rows)
        with torch.no_grad():
            expected = FusedClickProbability(model)(*inputs).numpy()
        arrays = {name: tensor.numpy() for name, tensor in zip(input_names(model), inputs) if name in taken}
        differences.append(np.abs(session.run(None, arrays)[0] - expected).max())
    return float(np.max(differences))
