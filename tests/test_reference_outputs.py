"""Our models reproduce the outputs and gradients of the authors' implementation from its weights."""

import pytest
import torch
from reference import FIXTURES, Reference

NAMES = sorted(path.stem for path in FIXTURES.glob("*.safetensors"))
CLOSE = {"rtol": 0, "atol": 1e-5}


@pytest.mark.parametrize("attn_implementation", ["eager", "sdpa"])
@pytest.mark.parametrize("name", NAMES)
def test_outputs_and_gradients_match(name, attn_implementation):
    reference = Reference(name, attn_implementation=attn_implementation)
    model, expected = reference.model, reference.expected
    outputs = model(**reference.inputs, output_prompts=True)
    outputs.loss.backward()

    torch.testing.assert_close(outputs.loss.view(1), expected["loss"], **CLOSE)
    if "probability" in expected:
        torch.testing.assert_close(outputs.logits.sigmoid().squeeze(-1), expected["probability"], **CLOSE)
    if "prompts" in expected:
        # layerwise: (B, L, 2, A, K, H/A) -> (B, K, L, 2, A, H/A), flat: the layout of the released prompt encoder
        layerwise = model.config.prompt_strategy == "layerwise"
        prompts = outputs.prompts.permute(0, 4, 1, 2, 3, 5).flatten(1) if layerwise else outputs.prompts
        torch.testing.assert_close(prompts, expected["prompts"], **CLOSE)
    if "grad.plm_layer0_query" in expected:
        query = model.clickprompt.plm.encoder.layer[0].attention.self.query.weight
        torch.testing.assert_close(query.grad, expected["grad.plm_layer0_query"], **CLOSE)
    if "grad.ctr_embedding" in expected:
        embeddings = model.clickprompt.ctr.embedding.table.weight
        torch.testing.assert_close(embeddings.grad, expected["grad.ctr_embedding"], **CLOSE)


def test_every_fixture_is_read():
    assert len(NAMES) == 28
