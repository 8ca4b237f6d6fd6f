"""Checkpoints that load with part of their weights on disk give the outputs of a plain load."""

import pytest
import torch
from tiny_models import (
    BACKBONES,
    DECODERS,
    FAMILIES,
    FIELD_SIZES,
    masked_labels,
    tiny_batch,
    tiny_config,
    tiny_ctr_config,
)

from clickprompt_hf import (
    ClickPromptConfig,
    ClickPromptForCTR,
    ClickPromptForPACLM,
    ClickPromptForPAMLM,
    ClickPromptModel,
)

PROMPTS = {
    "released": {"prompt_encoder": "released"},
    "paper": {"prompt_encoder": "paper"},
    "low_rank": {"prompt_encoder": "low_rank", "prompt_rank": 4},
    "shallow": {"prompt_strategy": "shallow"},
    "none": {"prompt_strategy": "none"},
}


def save(folder, model_class, config):
    torch.manual_seed(0)
    model_class(config).save_pretrained(folder / "model")
    return model_class.from_pretrained(folder / "model")


def load_partly_on_disk(folder, model_class, share):
    """Loads the checkpoint with room for `share` of its weights in memory; the rest stays on disk."""
    size = sum(path.stat().st_size for path in (folder / "model").glob("*.safetensors"))
    model = model_class.from_pretrained(
        folder / "model",
        device_map="auto",
        max_memory={"cpu": int(share * size)},
        offload_folder=folder / f"offload-{share}",
    )
    assert "disk" in model.hf_device_map.values()
    return model


def compare(expected, found):
    assert expected.keys() == found.keys()
    for name in expected:
        torch.testing.assert_close(found[name], expected[name], atol=1e-6, rtol=0)


@pytest.mark.parametrize("head", ["trunk", "click", "pretraining"])
@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_every_family_and_head(family, head, tmp_path):
    pretraining = ClickPromptForPACLM if family in DECODERS else ClickPromptForPAMLM
    model_class = {"trunk": ClickPromptModel, "click": ClickPromptForCTR, "pretraining": pretraining}[head]
    plain = save(tmp_path, model_class, tiny_config(family))
    batch = tiny_batch()
    expected = plain(**batch)
    for share in (0.3, 0.8):
        model = load_partly_on_disk(tmp_path, model_class, share)
        assert any(parameter.device.type == "meta" for parameter in model.parameters())
        compare(expected, model(**batch))
        if head == "pretraining":
            labels = masked_labels(batch)
            compare(plain(**batch, labels=labels), model(**batch, labels=labels))


@pytest.mark.parametrize("kind", PROMPTS)
@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_every_kind_of_prompt(family, kind, tmp_path):
    plain = save(tmp_path, ClickPromptForCTR, tiny_config(family, **PROMPTS[kind]))
    model = load_partly_on_disk(tmp_path, ClickPromptForCTR, 0.3)
    compare(plain(**tiny_batch(), output_prompts=True), model(**tiny_batch(), output_prompts=True))


@pytest.mark.parametrize("max_values", [None, [1, 2, 1]])
@pytest.mark.parametrize("backbone", BACKBONES)
@torch.no_grad()
def test_every_backbone_alone(backbone, max_values, tmp_path):
    ctr_config = tiny_ctr_config(backbone, max_values=max_values)
    plain = save(tmp_path, ClickPromptForCTR, ClickPromptConfig(ctr_config=ctr_config, fusion="ctr"))
    model = load_partly_on_disk(tmp_path, ClickPromptForCTR, 0.3)
    feature_ids = tiny_batch()["feature_ids"]
    if max_values:
        feature_ids = torch.cat([feature_ids[:, :2], torch.full((5, 1), -1), feature_ids[:, 2:]], dim=1)
    compare(plain(feature_ids), model(feature_ids))
    # checkpoints leave these out
    assert model.clickprompt.ctr.embedding.column_sizes.tolist() == [
        size for size, columns in zip(FIELD_SIZES, max_values or [1, 1, 1]) for _ in range(columns)
    ]
