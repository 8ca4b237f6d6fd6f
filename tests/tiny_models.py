"""Tiny random models and batches."""

import torch
from transformers import BertConfig, CamembertConfig, ElectraConfig, RobertaConfig, XLMRobertaConfig

from clickprompt_hf import ClickPromptConfig, CTRConfig

FIELD_SIZES = [7, 5, 11]
VOCAB_SIZE = 60
BACKBONES = (
    *("lr", "fm", "dnn", "deepfm", "xdeepfm", "ipnn", "dcn", "dcnv2", "autoint", "fibinet", "fignn", "fgcnn"),
    "transformer",
)


FAMILIES = {
    "roberta": RobertaConfig,
    "bert": BertConfig,
    "xlm-roberta": XLMRobertaConfig,
    "camembert": CamembertConfig,
    "electra": ElectraConfig,
}


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
        # large enough for the ids to matter at once
        "embedding_initializer_range": 0.5,
        **options,
    }
    return CTRConfig(backbone=backbone, **options)


def tiny_text_config(family: str = "roberta", **options):
    options = {
        "vocab_size": VOCAB_SIZE,
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 24,
        "max_position_embeddings": 40,
        "initializer_range": 0.2,
        # narrower than the layers, as in ELECTRA's small models
        **({"embedding_size": 12} if family == "electra" else {}),
        **options,
    }
    return FAMILIES[family](**options)


def tiny_config(family: str = "roberta", backbone: str = "dcnv2", **options) -> ClickPromptConfig:
    options = {"prompt_length": 3, "initializer_range": 0.2, **options}
    return ClickPromptConfig(text_config=tiny_text_config(family), ctr_config=tiny_ctr_config(backbone), **options)


def tiny_batch(rows: int = 5, length: int = 9, padding: int = 3, seed: int = 0) -> dict[str, torch.Tensor]:
    """feature_ids (B, 3), and text of which every second row ends in `padding` padding tokens (id 1, as RoBERTa's)."""
    generator = torch.Generator().manual_seed(seed)
    feature_ids = torch.stack([torch.randint(size, (rows,), generator=generator) for size in FIELD_SIZES], dim=1)
    input_ids = torch.randint(5, VOCAB_SIZE, (rows, length), generator=generator)
    attention_mask = torch.ones_like(input_ids)
    if padding:
        input_ids[::2, -padding:] = 1
        attention_mask[::2, -padding:] = 0
    return {"feature_ids": feature_ids, "input_ids": input_ids, "attention_mask": attention_mask}


def masked_labels(batch: dict[str, torch.Tensor], position: int = 2) -> torch.Tensor:
    """Token labels (B, T) with one masked position a row."""
    labels = torch.full_like(batch["input_ids"], -100)
    labels[:, position] = batch["input_ids"][:, position]
    return labels
