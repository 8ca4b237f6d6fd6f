"""Upper layers on tokens without padding: the same as the layers' own calls."""

import pytest
import torch
from peft import LoraConfig, get_peft_model
from tiny_models import tiny_batch, tiny_ctr_config, tiny_text_config

from clickprompt_hf import ClickPromptConfig, ClickPromptForCTR, ClickPromptForPAMLM, packed_layers, prompt_injection
from clickprompt_hf.packed_layers import PackedRows

LENGTHS = torch.tensor([4, 7, 2, 7, 4, 4])
TEXT_ROWS = torch.tensor([5, 1, 1, 0, 2, 3, 4, 1])


def build(model_class=ClickPromptForCTR, family="bert", **options):
    torch.manual_seed(0)
    config = ClickPromptConfig(
        text_config=tiny_text_config(family, num_hidden_layers=3),
        ctr_config=tiny_ctr_config(),
        **{"prompt_length": 3, "initializer_range": 0.2, "prompt_depth": 2, **options},
    )
    return model_class(config).eval()


def batch_of(model, num_rows=6):
    """Six texts of three lengths, and their states."""
    batch = tiny_batch(rows=num_rows, length=7, padding=0)
    batch["attention_mask"] = (torch.arange(7) < LENGTHS[:num_rows, None]).long()
    states = model.encode_text(batch.pop("input_ids"), batch["attention_mask"]).detach()
    return {**batch, "text_states": states}


@pytest.fixture
def packed(monkeypatch):
    """Counts the calls that run packed; `packed(False)` turns them off."""
    calls = []
    run, can = prompt_injection.run_packed_layers, prompt_injection.can_pack

    def counted(*args):
        calls.append(args)
        return run(*args)

    def switch(on=True):
        monkeypatch.setattr(prompt_injection, "can_pack", can if on else lambda *args: False)
        return len(calls)

    monkeypatch.setattr(prompt_injection, "run_packed_layers", counted)
    return switch


def outputs_and_gradients(model, batch):
    model.zero_grad()
    outputs = model(**batch)
    outputs.loss.backward()
    gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    return outputs, gradients


def assert_same(model, batch, packed):
    found, gradients = outputs_and_gradients(model, batch)
    with torch.no_grad():
        # the first layer's projections then run once per text
        without_gradients = model(**batch)
    assert packed(False) == 2
    expected, expected_gradients = outputs_and_gradients(model, batch)
    assert packed() == 2
    for outputs in (found, without_gradients):
        torch.testing.assert_close(outputs.loss, expected.loss, atol=2e-6, rtol=1e-5)
        if expected.logits is not None:
            torch.testing.assert_close(outputs.logits, expected.logits, atol=2e-6, rtol=1e-5)
    assert gradients.keys() == expected_gradients.keys()
    for name, gradient in expected_gradients.items():
        torch.testing.assert_close(gradients[name], gradient, atol=1e-5, rtol=1e-4, msg=name)


def test_rows_are_sorted_by_length():
    mask = torch.tensor([[1, 1, 0], [1, 0, 0], [1, 1, 1]])
    rows = PackedRows.of(mask, torch.tensor([0, 2, 1, 0]))
    assert rows.order.tolist() == [2, 0, 3, 1]
    assert rows.blocks == [(1, 1), (2, 2), (1, 3)]
    assert rows.tokens.tolist() == [3, 0, 1, 0, 1, 6, 7, 8]
    assert rows.places(torch.tensor([[0, 1], [2, 0], [0, 2], [1, 0]])).tolist() == [[0, 0], [1, 2], [4, 3], [7, 5]]
    assert rows.unsorted(torch.tensor([2, 0, 3, 1])).tolist() == [0, 1, 2, 3]


def test_tokens_are_filled_up_with_copies_that_no_block_holds():
    mask = torch.tensor([[1, 1, 0], [1, 0, 0], [1, 1, 1]])
    rows = PackedRows.of(mask, torch.tensor([0, 2, 1, 0]), step=5)
    assert rows.tokens.tolist() == [3, 0, 1, 0, 1, 6, 7, 8, 3, 3]
    assert [block.flatten(0, 1).squeeze(-1).tolist() for block in rows.split_tokens(torch.arange(10)[:, None])] == [
        *([0], [1, 2, 3, 4], [5, 6, 7])
    ]


@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_filling_up_in_bf16_changes_nothing(pooling, packed, monkeypatch):
    model = build(pooling=pooling)
    batch = {**batch_of(model), "labels": torch.arange(6) % 2}
    with torch.autocast("cpu", torch.bfloat16):
        filled, gradients = outputs_and_gradients(model, batch)
        monkeypatch.setattr(packed_layers, "TOKENS_STEP_IN_BF16", 1)
        plain, plain_gradients = outputs_and_gradients(model, batch)
    torch.testing.assert_close(filled.logits, plain.logits, atol=2e-2, rtol=0)
    for name, gradient in plain_gradients.items():
        torch.testing.assert_close(gradients[name], gradient, atol=2e-2, rtol=0, msg=name)


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize(
    ("family", "options"),
    [
        ("bert", {}),
        ("roberta", {"prompt_encoder": "paper"}),
        ("electra", {"pooling": "mean"}),
        ("bert", {"prompt_strategy": "none"}),
        ("bert", {"prompt_depth": 1}),
    ],
)
def test_clicks(family, options, shared, packed):
    model = build(family=family, **options)
    batch = batch_of(model)
    if shared:
        batch["text_rows"] = TEXT_ROWS
        batch["feature_ids"] = tiny_batch(rows=8)["feature_ids"]
    batch["labels"] = torch.arange(len(batch["feature_ids"])) % 2
    assert_same(model, batch, packed)


def test_masked_tokens(packed):
    model = build(ClickPromptForPAMLM)
    batch = batch_of(model)
    batch["labels"] = torch.full((6, 7), -100)
    # the shortest row has two tokens, so that its third read position is padding
    batch["labels"][:, 1] = batch["labels"][1, 4:6] = 9
    assert_same(model, batch, packed)


def test_adapters_on_keys_and_values(packed):
    model = get_peft_model(build(), LoraConfig(target_modules=["key", "value"], init_lora_weights=False)).eval()
    batch = batch_of(model.get_base_model())
    assert_same(model, {**batch, "labels": torch.arange(6) % 2}, packed)


def test_dropout_in_training(packed):
    model = build().train()
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    attention = model.clickprompt.plm.encoder.layer[-1].attention.self
    batch = batch_of(model)
    plain = model(**batch).logits
    attention.dropout.p = 0.5
    torch.manual_seed(0)
    assert not torch.allclose(model(**batch).logits, plain)
    assert packed() == 2


def test_layers_run_themselves_where_something_else_takes_part(packed):
    model = build()
    batch = batch_of(model)
    layer = model.clickprompt.plm.encoder.layer[-1]
    hook = layer.register_forward_pre_hook(lambda *args: None)
    model(**batch)
    hook.remove()
    model.activation_checkpointing_enable()
    model.train()(**batch)
    model.activation_checkpointing_disable()
    model.eval()
    model(**batch, output_prompts=True)
    assert packed() == 1
    # padding on the left, and without a mask
    model(**{**batch, "attention_mask": batch["attention_mask"].flip(1)})
    model(**{name: values for name, values in batch.items() if name != "attention_mask"})
    assert packed() == 1
