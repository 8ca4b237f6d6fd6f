"""One model serves many threads: each call gets its own results."""

import copy
import pickle
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from tiny_models import DECODERS, FAMILIES, masked_labels, tiny_batch, tiny_config

from clickprompt_hf import ClickPromptForCTR, ClickPromptForPACLM, ClickPromptForPAMLM, ClickPromptModel
from clickprompt_hf.inspection import prompt_attention

THREADS, ROUNDS = 16, 4
PROMPTS = {
    "released": {"prompt_encoder": "released"},
    "paper": {"prompt_encoder": "paper"},
    "shallow": {"prompt_strategy": "shallow"},
}


def build(model_class, family, **options):
    torch.manual_seed(0)
    return model_class(tiny_config(family, **options)).eval()


def in_threads(call, batches):
    """Results of `call` for each batch, in order, made by several threads at once."""
    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(call, batches * ROUNDS))


def distinct_batches() -> list:
    return [tiny_batch(seed=seed) for seed in range(THREADS)]


@pytest.mark.parametrize("kind", PROMPTS)
@pytest.mark.parametrize("family", FAMILIES)
def test_sixteen_threads_get_the_serial_results(family, kind):
    model, batches = build(ClickPromptForCTR, family, **PROMPTS[kind]), distinct_batches()

    @torch.no_grad()
    def score(batch):
        return model(**batch).logits

    expected = [score(batch) for batch in batches]
    for logits, serial in zip(in_threads(score, batches), expected * ROUNDS):
        torch.testing.assert_close(logits, serial, atol=1e-6, rtol=0)


@pytest.mark.parametrize("family", FAMILIES)
def test_losses_and_gradients_in_threads(family):
    model_class = ClickPromptForPACLM if family in DECODERS else ClickPromptForPAMLM
    model, batches = build(model_class, family), distinct_batches()
    table = model.clickprompt.ctr.embedding.table.weight

    def gradient(batch):
        loss = model(**batch, labels=masked_labels(batch)).loss
        return torch.autograd.grad(loss, table)[0]

    expected = [gradient(batch) for batch in batches]
    for found, serial in zip(in_threads(gradient, batches), expected * ROUNDS):
        torch.testing.assert_close(found, serial, atol=1e-6, rtol=0)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_look_inside_leaves_other_threads_alone(family):
    model, batches = build(ClickPromptForCTR, family), distinct_batches()
    kernels = model.clickprompt.plm.config._attn_implementation
    used = set()
    for layer in model.clickprompt.plm.modules():
        layer.register_forward_pre_hook(lambda *_: used.add(model.clickprompt.plm.config._attn_implementation))

    @torch.no_grad()
    def look_or_score(numbered):
        number, batch = numbered
        if number % 2:
            return prompt_attention(model, **batch)
        return model(**batch).logits

    numbered = list(enumerate(batches))
    expected = [look_or_score(pair) for pair in numbered]
    for found, serial in zip(in_threads(look_or_score, numbered), expected * ROUNDS):
        torch.testing.assert_close(found, serial, atol=1e-6, rtol=0)
    assert used == {kernels}


@pytest.mark.parametrize("family", FAMILIES)
def test_a_call_within_a_call_keeps_its_own_prompts(family):
    outer, inner = build(ClickPromptModel, family), build(ClickPromptModel, family)
    first, second = tiny_batch(seed=0), tiny_batch(seed=1)
    expected = outer(**first).last_hidden_state, inner(**second).last_hidden_state
    seen = []

    def run_inner(*_):
        if not seen:
            seen.append(None)
            # the same model and another one, in the middle of a layer's call
            seen[:] = [inner(**second).last_hidden_state, outer(**second).last_hidden_state]

    layers = next(m for m in outer.plm.modules() if isinstance(m, torch.nn.ModuleList) and len(m) > 1)
    layers[0].register_forward_hook(run_inner)
    torch.testing.assert_close(outer(**first).last_hidden_state, expected[0], atol=1e-6, rtol=0)
    for states in seen:
        torch.testing.assert_close(states, expected[1], atol=1e-6, rtol=0)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_plm_by_itself_reads_no_prompts(family):
    model, batch = build(ClickPromptModel, family), tiny_batch()
    text = {name: batch[name] for name in ("input_ids", "attention_mask")}
    before = model.plm(**text).last_hidden_state
    model(**batch)
    torch.testing.assert_close(model.plm(**text).last_hidden_state, before, atol=0, rtol=0)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
@pytest.mark.parametrize("family", FAMILIES)
def test_copies_work_apart_from_the_original(family, copied):
    model, batch = build(ClickPromptForCTR, family), tiny_batch()
    expected = model(**batch).logits
    copy_of_model = copied(model)
    torch.testing.assert_close(copy_of_model(**batch).logits, expected, atol=0, rtol=0)
    for parameter in model.parameters():
        torch.nn.init.zeros_(parameter)
    torch.testing.assert_close(copy_of_model(**batch).logits, expected, atol=0, rtol=0)
