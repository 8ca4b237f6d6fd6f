"""Our models, with the weights of the authors' implementation, give its outputs and gradients."""

import pytest
import torch
from reference import FIXTURES, Reference

NAMES = sorted(path.stem for path in FIXTURES.glob("*.safetensors"))


@pytest.mark.parametrize("attn_implementation", ["eager", "sdpa"])
@pytest.mark.parametrize("name", NAMES)
def test_outputs_and_gradients_match(name, attn_implementation):
    reference = Reference(name, attn_implementation=attn_implementation)
    model, expected = reference.model, reference.expected
    outputs = model(**reference.inputs, output_prompts=True)
    outputs.loss.backward()

    close = {"rtol": 0, "atol": 1e-5}
    torch.testing.assert_close(outputs.loss.view(1), expected["loss"], **close)
    if "probability" in expected:
        torch.testing.assert_close(outputs.logits.sigmoid().squeeze(-1), expected["probability"], **close)
    if "prompts" in expected:
        # (B, L, 2, A, K, H/A) -> (B, K, L, 2, A, H/A), flat: the layout of the released prompt encoder
        flat = outputs.prompts.permute(0, 4, 1, 2, 3, 5).flatten(1)
        torch.testing.assert_close(flat, expected["prompts"], **close)
        query = model.clickprompt.plm.encoder.layer[0].attention.self.query.weight
        torch.testing.assert_close(query.grad, expected["grad.plm_layer0_query"], **close)
    embeddings = model.clickprompt.ctr.embedding.table.weight
    torch.testing.assert_close(embeddings.grad, expected["grad.ctr_embedding"], **close)


def test_every_fixture_is_read():
    assert len(NAMES) == 12
