# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""The PLM of a run: its configuration, and the tokenizer and text limit that the processor needs.

Besides pretrained PLMs, there are scratch ones: small RoBERTas with fresh weights and their own tokenizers, to try
ClickPrompt without a pretrained PLM.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    AutoConfig,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedTokenizerFast,
    RobertaConfig,
)

from ..configuration_clickprompt import ClickPromptConfig, CTRConfig
from ..processing_clickprompt import ClickPromptProcessor
from .arguments import ModelArguments
from .paths import check_folder_or_hub_id


@dataclass(frozen=True)
class ScratchSize:
    """Depth, width and vocabulary limit of a scratch PLM; heads are 64 wide, feed-forward layers 4 times the width."""

    num_hidden_layers: int
    hidden_size: int
    vocab_size: int


SCRATCH_SIZES = {"scratch-tiny": ScratchSize(2, 128, 4096), "scratch-small": ScratchSize(4, 256, 8192)}
_SPECIAL_TOKENS = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
_MAX_TEXT_POSITIONS = 512
ROWS_FOR_TOKENIZER = 20_000


def scratch_tokenizer(name: str, texts: Iterable[str]) -> PreTrainedTokenizerFast:
    """Train a byte-level BPE tokenizer in RoBERTa's format.

    Args:
        name: Key of `SCRATCH_SIZES`; its vocabulary size is the limit.
        texts: Rendered training rows.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=SCRATCH_SIZES[name].vocab_size,
        special_tokens=_SPECIAL_TOKENS,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[(token, tokenizer.token_to_id(token)) for token in ("<s>", "</s>")]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=_MAX_TEXT_POSITIONS,
        bos_token="<s>",
        cls_token="<s>",
        pad_token="<pad>",
        eos_token="</s>",
        sep_token="</s>",
        unk_token="<unk>",
        mask_token="<mask>",
    )


def scratch_text_config(name: str, tokenizer: PreTrainedTokenizerFast) -> RobertaConfig:
    """Build the configuration of the scratch PLM `name` for `tokenizer`'s vocabulary."""
    size = SCRATCH_SIZES[name]
    return RobertaConfig(
        vocab_size=len(tokenizer),
        hidden_size=size.hidden_size,
        num_hidden_layers=size.num_hidden_layers,
        num_attention_heads=size.hidden_size // 64,
        intermediate_size=4 * size.hidden_size,
        max_position_embeddings=_MAX_TEXT_POSITIONS + tokenizer.pad_token_id + 1,
        type_vocab_size=1,
        layer_norm_eps=1e-5,
        # the CPU's fused attention kernels have no dropout
        attention_probs_dropout_prob=0.0,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )


def plm_config(plm_name_or_path: str, tokenizer: PreTrainedTokenizerFast) -> PreTrainedConfig:
    """Build the configuration of a scratch PLM for `tokenizer`, or load that of a pretrained one."""
    if plm_name_or_path in SCRATCH_SIZES:
        return scratch_text_config(plm_name_or_path, tokenizer)
    return AutoConfig.from_pretrained(plm_name_or_path)


def add_tokenizer(processor: ClickPromptProcessor, train: pa.Table, model_args: ModelArguments) -> None:
    """Set the processor's tokenizer and its text limit. The tokenizer of a scratch PLM is trained on training rows.

    Raises:
        ValueError: If the name is not that of a PLM, or the prompts leave it no position for text.
    """
    plm_name_or_path = str(model_args.plm_name_or_path)
    if plm_name_or_path in SCRATCH_SIZES:
        sample = train.take(np.linspace(0, len(train) - 1, min(len(train), ROWS_FOR_TOKENIZER), dtype=int))
        processor.tokenizer = scratch_tokenizer(plm_name_or_path, processor.render(sample))
    else:
        check_plm_name(plm_name_or_path)
        processor.tokenizer = AutoTokenizer.from_pretrained(plm_name_or_path)
    processor.max_text_length = text_side_config(model_args, processor.tokenizer).max_text_length


def check_plm_name(plm_name_or_path: str) -> None:
    """Refuse a name that is not that of a PLM.

    Raises:
        ValueError: If it is not.
        OSError: If there is no such PLM.
    """
    if plm_name_or_path in SCRATCH_SIZES:
        return
    if plm_name_or_path.startswith("scratch-") and not Path(plm_name_or_path).is_dir():
        raise ValueError(
            f"`plm_name_or_path` must be a folder, a Hub id or one of {sorted(SCRATCH_SIZES)}, got "
            f"{plm_name_or_path!r}."
        )
    check_folder_or_hub_id(plm_name_or_path, "plm_name_or_path")
    if isinstance(AutoConfig.from_pretrained(plm_name_or_path), ClickPromptConfig):
        raise ValueError(
            f"`plm_name_or_path` must be a language model, but {plm_name_or_path} is a ClickPrompt checkpoint: "
            "finetune it with --model_name_or_path."
        )


def planned_config(model_args: ModelArguments) -> ClickPromptConfig:
    """Build a configuration from the arguments of the PLM and its prompts before there are rows.

    It has the layers of the final model, but not the vocabulary of a scratch PLM.
    """
    name = str(model_args.plm_name_or_path)
    tokenizer: Any = scratch_tokenizer(name, []) if name in SCRATCH_SIZES else None
    return text_side_config(model_args, tokenizer)


def text_side_config(model_args: ModelArguments, tokenizer: PreTrainedTokenizerFast) -> ClickPromptConfig:
    """Build a configuration from the arguments of the PLM and its prompts."""
    return ClickPromptConfig(
        text_config=plm_config(str(model_args.plm_name_or_path), tokenizer),
        ctr_config=CTRConfig(),
        prompt_length=model_args.fresh_prompt_length,
        **model_args.prompt_options(),
    )


def limit_text_length(processor: ClickPromptProcessor, max_text_length: int) -> None:
    """Set the length that texts are truncated to.

    Raises:
        ValueError: If it is below 3 (two special tokens and one other) or exceeds the PLM's positions.
    """
    limit = processor.max_text_length or max_text_length
    if not 3 <= max_text_length <= limit:
        raise ValueError(
            f"`max_text_length` must be in [3, {limit}], the PLM's positions minus the prompts, got {max_text_length}."
        )
    processor.max_text_length = max_text_length
