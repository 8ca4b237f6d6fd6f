"""Tiny random models and batches."""

import copy

import torch
from transformers import (
    BertConfig,
    CamembertConfig,
    DebertaV2Config,
    DistilBertConfig,
    ElectraConfig,
    GPT2Config,
    LlamaConfig,
    ModernBertConfig,
    MPNetConfig,
    Qwen3Config,
    RobertaConfig,
    T5Config,
    XLMRobertaConfig,
)

from clickprompt_hf import ClickPromptConfig, CTRConfig

FIELD_SIZES = [7, 5, 11]
VOCAB_SIZE = 60
BACKBONES = (
    *("lr", "fm", "dnn", "deepfm", "xdeepfm", "ipnn", "dcn", "dcnv2", "autoint", "fibinet", "fignn", "fgcnn"),
    "transformer",
)


_COMMON = {
    "vocab_size": VOCAB_SIZE,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "max_position_embeddings": 40,
    "initializer_range": 0.2,
}
_SPECIAL_TOKENS = {"pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2}
# Encoders whose prompts enter through the cache; encoders whose prompts are hidden states; decoders (cache).
CACHE_ENCODERS = {
    "roberta": RobertaConfig(**_COMMON),
    "bert": BertConfig(**_COMMON),
    "xlm-roberta": XLMRobertaConfig(**_COMMON),
    "camembert": CamembertConfig(**_COMMON),
    # embeddings narrower than the layers, as in ELECTRA's small models
    "electra": ElectraConfig(**_COMMON, embedding_size=12),
}
HIDDEN_STATE_ENCODERS = {
    "distilbert": DistilBertConfig(
        **{"vocab_size": VOCAB_SIZE, "dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 24},
        max_position_embeddings=40,
        initializer_range=0.2,
    ),
    "mpnet": MPNetConfig(**_COMMON),
    # as DeBERTa-v3: relative positions only
    "deberta-v2": DebertaV2Config(
        **_COMMON,
        relative_attention=True,
        position_biased_input=False,
        pos_att_type=["p2c", "c2p"],
        position_buckets=8,
        norm_rel_ebd="layer_norm",
        share_att_key=True,
        type_vocab_size=0,
    ),
    "modernbert": ModernBertConfig(
        **{**_COMMON, "num_hidden_layers": 3}, global_attn_every_n_layers=2, local_attention=64, **_SPECIAL_TOKENS
    ),
    "t5": T5Config(vocab_size=VOCAB_SIZE, d_model=16, d_kv=6, d_ff=24, num_layers=2, num_heads=2),
}
DECODERS = {
    "gpt2": GPT2Config(
        **{"vocab_size": VOCAB_SIZE, "n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 40},
        initializer_range=0.2,
        **_SPECIAL_TOKENS,
    ),
    # fewer key and value heads than query heads
    "llama": LlamaConfig(**{**_COMMON, "num_attention_heads": 4}, num_key_value_heads=2, **_SPECIAL_TOKENS),
    # heads wider than H / A
    "qwen3": Qwen3Config(**_COMMON, num_key_value_heads=1, head_dim=12, tie_word_embeddings=True, **_SPECIAL_TOKENS),
}
ENCODERS = {**CACHE_ENCODERS, **HIDDEN_STATE_ENCODERS}
FAMILIES = {**ENCODERS, **DECODERS}


def tiny_ctr_config(backbone: str = "dcnv2", **options) -> CTRConfig:
    options = {
        "field_sizes": FIELD_SIZES,
        "embedding_size": 4,
        "dnn_hidden_sizes": [8, 6],
        "num_cross_layers": 2,
        "cin_layer_sizes": [3, 2],
        "attention_size": 6,
        "num_attention_heads": 2,
        "fgcnn_channels": [2, 3],
        "fgcnn_kernel_heights": [3, 3],
        "fgcnn_pooling_sizes": [2, 2],
        "fgcnn_recombined_channels": [1, 2],
        # large enough for fresh models to depend on ids
        "embedding_initializer_range": 0.5,
        **options,
    }
    return CTRConfig(backbone=backbone, **options)


def tiny_text_config(family: str = "roberta", **options):
    config = copy.deepcopy(FAMILIES[family])
    for name, value in options.items():
        setattr(config, name, value)
    return config


def tiny_config(family: str = "roberta", backbone: str = "dcnv2", **options) -> ClickPromptConfig:
    options = {"prompt_length": 3, "initializer_range": 0.2, **options}
    return ClickPromptConfig(text_config=tiny_text_config(family), ctr_config=tiny_ctr_config(backbone), **options)


def tiny_batch(rows: int = 5, length: int = 9, padding: int = 3, seed: int = 0) -> dict[str, torch.Tensor]:
    """feature_ids (B, 3) and text; every second row ends in `padding` padding tokens (id 1, as in RoBERTa)."""
    generator = torch.Generator().manual_seed(seed)
    feature_ids = torch.stack([torch.randint(size, (rows,), generator=generator) for size in FIELD_SIZES], dim=1)
    input_ids = torch.randint(5, VOCAB_SIZE, (rows, length), generator=generator)
    attention_mask = torch.ones_like(input_ids)
    if padding:
        input_ids[::2, -padding:] = 1
        attention_mask[::2, -padding:] = 0
    return {"feature_ids": feature_ids, "input_ids": input_ids, "attention_mask": attention_mask}


def masked_labels(batch: dict[str, torch.Tensor], position: int = 2) -> torch.Tensor:
    """Token labels (B, T) with one masked position per row."""
    labels = torch.full_like(batch["input_ids"], -100)
    labels[:, position] = batch["input_ids"][:, position]
    return labels
