"""Cached states of texts: what batches hold, training on them, masked variants, interrupted and damaged files."""

import json
import logging
import os
import pickle
import shutil
import signal
import warnings
from collections import namedtuple
from dataclasses import replace

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from forks import exit_code, start_fork
from peft import LoraConfig, get_peft_model
from tiny_data import tiny_gpt2_tokenizer, tiny_roberta_tokenizer, tiny_rows
from tiny_models import tiny_ctr_config, tiny_text_config
from torch.utils.data import Subset
from transformers import HfArgumentParser, TrainerCallback, set_seed

from clickprompt_hf import (
    ClickPromptConfig,
    ClickPromptForCTR,
    ClickPromptForPACLM,
    ClickPromptForPAMLM,
    ClickPromptProcessor,
    FieldSchema,
    Schema,
)
from clickprompt_hf.data import text_states, text_variants
from clickprompt_hf.data.collators import ClickPromptCLMCollator, ClickPromptCollator, ClickPromptMLMCollator
from clickprompt_hf.data.columnar import ColumnarDataset, load_prepared, prepare_splits
from clickprompt_hf.data.text_states import TextStates, fingerprint_of
from clickprompt_hf.data.text_variants import DistinctTexts, chosen_variants, text_keys, variant_tokens
from clickprompt_hf.runs import finetune, preparation, pretrain
from clickprompt_hf.runs.arguments import DataArguments, ModelArguments
from clickprompt_hf.runs.idle_arguments import warn_of_idle_arguments
from clickprompt_hf.training import ClickPromptTrainer, ClickPromptTrainingArguments
from clickprompt_hf.training.text_caching import caching_pays, num_variants

ROWS = {"train": 60, "validation": 20, "test": 20}


def encode(folder, tokenizer):
    """Rows whose texts are some tags and a title, so that rows share them."""
    schema = Schema((FieldSchema("tags", "Tags"), FieldSchema("title", "Title")), label="click")
    splits = {name: pa.table(tiny_rows(size, seed)) for seed, (name, size) in enumerate(ROWS.items())}
    processor = ClickPromptProcessor.fit(splits["train"], schema, tokenizer)
    prepare_splits(splits, processor, folder)
    return load_prepared(folder)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    return encode(tmp_path_factory.mktemp("shared_texts") / "data", tiny_roberta_tokenizer())


@pytest.fixture(scope="module")
def for_decoder(tmp_path_factory):
    return encode(tmp_path_factory.mktemp("decoder_texts") / "data", tiny_gpt2_tokenizer())


def build(processor, model_class=ClickPromptForCTR, family="roberta", seed=0, **options):
    set_seed(seed)
    text = tiny_text_config(family, vocab_size=len(processor.tokenizer), max_position_embeddings=80)
    ctr = tiny_ctr_config(field_sizes=processor.field_sizes, max_values=processor.max_values)
    options = {"prompt_length": 2, "prompt_depth": 1, **options}
    return model_class(ClickPromptConfig(text_config=text, ctr_config=ctr, **options))


def build_states(model, datasets, folder, dtype="fp32", collator=None, masked_variants=8, **options):
    texts = [DistinctTexts.of(rows, collator, masked_variants) for rows in datasets]
    return TextStates.build(model, texts, folder, dtype, **options)


def trainer_for(model, prepared, folder, callbacks=(), rows=None, **options):
    splits, processor = prepared
    options = {"per_device_train_batch_size": 16, "num_train_epochs": 2, "learning_rate": 0.01, **options}
    args = ClickPromptTrainingArguments(
        str(folder), report_to="none", disable_tqdm=True, use_cpu=True, logging_steps=1, **options
    )
    return ClickPromptTrainer(
        model,
        args,
        train_dataset=rows or splits["train"],
        eval_dataset=splits["validation"],
        processing_class=processor,
        callbacks=list(callbacks),
    )


def weights(model):
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


def losses(trainer):
    return [value for entry in trainer.state.log_history for name, value in entry.items() if name.endswith("loss")]


def states_file(folder):
    (found,) = folder.glob("*/states.bin")
    return found


@pytest.mark.parametrize(
    ("dtype", "torch_type"), [("fp32", torch.float32), ("bf16", torch.bfloat16), ("fp16", torch.float16)]
)
def test_batches_hold_the_states_of_their_distinct_texts(dtype, torch_type, prepared, tmp_path):
    splits, processor = prepared
    model, collator = build(processor).eval(), ClickPromptCollator(processor)
    states = build_states(model, splits.values(), tmp_path, dtype, progress_bar=False)
    # the last one repeats row 5 without a label
    rows = [5, 0, 17, 5, 40, 65]
    plain = collator(splits["train"].__getitems__(rows))
    batch = collator(states.attach(DistinctTexts.of(splits["train"])).__getitems__(rows))
    assert set(batch) == {"feature_ids", "attention_mask", "labels", "text_rows", "text_states"}
    assert torch.equal(batch["feature_ids"], plain["feature_ids"])
    assert torch.equal(batch["labels"], plain["labels"])
    assert batch["labels"][-1] == -100
    num_texts = len({tuple(text) for text in plain["input_ids"].tolist()})
    assert len(batch["text_states"]) == num_texts < len(rows)
    assert torch.equal(batch["attention_mask"][batch["text_rows"]], plain["attention_mask"])
    assert batch["text_states"].dtype == torch_type
    with torch.no_grad():
        expected = model.encode_text(plain["input_ids"], plain["attention_mask"]).to(torch_type)
    is_text = plain["attention_mask"] == 1
    found = batch["text_states"][batch["text_rows"]]
    torch.testing.assert_close(found[is_text], expected[is_text], atol=1e-6 if dtype == "fp32" else 2e-2, rtol=0)
    assert states.num_bytes == sum(states.header["hidden_size"] * n for n in states._tokens) * found.element_size()


@pytest.mark.parametrize("options", [{}, {"prompt_strategy": "none", "pooling": "mean"}])
def test_training_on_states_is_training_on_tokens(options, prepared, tmp_path):
    """With dropout above, the same losses and weights in fp32, and nearly so in bf16; the lower layers stay."""
    ends = {}
    for name, caching in (
        ("tokens", {"freeze_lower_layers": True}),
        ("fp32", {"cache_text_states": True}),
        ("bf16", {"cache_text_states": True, "text_state_dtype": "bf16"}),
    ):
        model = build(prepared[1], **options)
        before = weights(model)
        # Adam would blow up gradients that are zero except for rounding
        trainer = trainer_for(model, prepared, tmp_path / name, optim="sgd", plm_learning_rate=0.01, **caching)
        trainer.train()
        test = trainer.predict(prepared[0]["test"]).metrics["test_loss"]
        ends[name] = [*losses(trainer), test], weights(model)
        for key, tensor in weights(model).items():
            is_lower = "plm.embeddings" in key or "plm.encoder.layer.0" in key
            if is_lower or "plm.encoder.layer.1.output.dense" in key:
                assert torch.equal(tensor, before[key]) == is_lower, key
        # undone afterwards
        assert all(parameter.requires_grad for parameter in model.parameters())
        assert not model.trunk.lower_layers_frozen
    for name, tolerance in (("fp32", 1e-6), ("bf16", 2e-2)):
        np.testing.assert_allclose(ends[name][0], ends["tokens"][0], atol=tolerance)
    for key, tensor in ends["fp32"][1].items():
        torch.testing.assert_close(tensor, ends["tokens"][1][key], atol=1e-6, rtol=0)
    # the states are used
    assert ends["bf16"][0] != ends["fp32"][0]


class StopAt(TrainerCallback):
    def on_save(self, args, state, control, **kwargs):
        control.should_training_stop |= state.global_step == 5


def test_a_resumed_run_uses_the_states_and_ends_with_the_same_weights(prepared, tmp_path, monkeypatch):
    options = {"cache_text_states": True, "save_strategy": "steps", "save_steps": 5, "eval_strategy": "no"}
    options |= {"text_state_dir": str(tmp_path / "states")}
    whole = build(prepared[1])
    trainer_for(whole, prepared, tmp_path / "whole", **options).train()
    trainer_for(build(prepared[1]), prepared, tmp_path / "cut", [StopAt()], **options).train()
    monkeypatch.setattr(ClickPromptForCTR, "encode_text", None)
    resumed = build(prepared[1], seed=0)
    trainer = trainer_for(resumed, prepared, tmp_path / "cut", **options)
    trainer.train(resume_from_checkpoint=True)
    assert trainer.state.global_step == 8
    for key, tensor in weights(resumed).items():
        assert torch.equal(tensor, weights(whole)[key]), key


# What states belong to


def test_states_belong_to_the_lower_layers(prepared):
    processor = prepared[1]
    model = build(processor)
    expected = fingerprint_of(model, "fp32")
    assert fingerprint_of(build(processor), "fp32") == expected
    assert fingerprint_of(build(processor, ClickPromptForPAMLM), "fp32") == expected
    assert fingerprint_of(build(processor, seed=1), "fp32") != expected
    assert fingerprint_of(model, "bf16") != expected
    others = {"layer.1.": True, "layer.0.": False, "word_embeddings": False}
    for name, is_above in others.items():
        changed = build(processor)
        parameter = next(tensor for key, tensor in changed.trunk.plm.named_parameters() if name in key)
        with torch.no_grad():
            parameter.view(-1)[0] += 1e-3
        assert (fingerprint_of(changed, "fp32") == expected) == is_above, name
    model.config.text_config.layer_norm_eps *= 2
    assert fingerprint_of(model, "fp32") != expected


def encoded_texts(monkeypatch):
    """The texts that go through the lower layers from now on."""
    texts = []
    original = ClickPromptForCTR.encode_text

    def encode_text(self, input_ids, attention_mask):
        assert not self.training
        assert not torch.is_grad_enabled()
        texts.extend(tuple(ids[mask == 1].tolist()) for ids, mask in zip(input_ids, attention_mask))
        return original(self, input_ids, attention_mask)

    monkeypatch.setattr(ClickPromptForCTR, "encode_text", encode_text)
    return texts


def test_runs_add_what_is_missing(prepared, tmp_path, monkeypatch, caplog):
    splits, processor = prepared
    texts = encoded_texts(monkeypatch)
    model = build(processor).train()
    with caplog.at_level(logging.WARNING):
        first = build_states(model, [splits["train"]], tmp_path, progress_bar=False)
    size = states_file(tmp_path).stat().st_size
    assert f"Caching the states of {len(first)} texts in {first.folder}" in caplog.text
    assert f"{size / 64:,.0f} tokens" in caplog.text
    assert "0 others are already there" in caplog.text
    assert len(texts) == len(set(texts)) == len(first)
    # the longest first
    lengths = [len(text) for text in texts]
    assert lengths == sorted(lengths, reverse=True)
    texts.clear()
    both = build_states(model, splits.values(), tmp_path, progress_bar=False)
    assert 0 < len(texts) == len(both) - len(first)
    texts.clear()
    build_states(model, splits.values(), tmp_path, progress_bar=False)
    build_states(build(processor), splits.values(), tmp_path, progress_bar=False)
    assert not texts
    assert model.training
    build_states(build(processor, seed=1), splits.values(), tmp_path, progress_bar=False)
    assert len(texts) == len(both)
    assert len(list(tmp_path.iterdir())) == 2


def test_keys_are_those_of_the_tokens_alone(prepared):
    ids = np.array([[5, 6, 7, 1], [5, 6, 7, 9], [5, 7, 6, 1], [0, 5, 6, 7]])
    mask = np.array([[1, 1, 1, 0], [1, 1, 1, 1], [1, 1, 1, 0], [1, 1, 1, 1]])
    keys = text_keys(ids, mask)
    assert len(set(keys.tolist())) == 4
    assert text_keys(ids[:1, :3], mask[:1, :3]) == keys[0]


def test_workers_map_the_file_again(prepared, tmp_path):
    states = build_states(build(prepared[1]), prepared[0].values(), tmp_path, progress_bar=False)
    rows = states.attach(DistinctTexts.of(prepared[0]["train"]))
    pickled = pickle.dumps(states)
    assert len(pickled) < states.num_bytes
    copied = replace(rows, cached_texts=replace(rows.cached_texts, states=pickle.loads(pickled)))
    for name, array in rows.__getitems__([3, 1])[0].items():
        np.testing.assert_array_equal(copied.__getitems__([3, 1])[0][name], array)


def test_slices_and_single_rows(prepared, tmp_path):
    states = build_states(build(prepared[1]), prepared[0].values(), tmp_path, progress_bar=False)
    rows = states.attach(DistinctTexts.of(prepared[0]["train"]))
    assert rows.text_lengths().tolist() == prepared[0]["train"].text_lengths().tolist()
    unnumbered = states.attach(DistinctTexts.of(replace(prepared[0]["train"], text_ids=None)))
    for positions in ([12], [13, 12]):
        expected = rows.__getitems__(positions)[0]
        for batch in (
            rows.slice(10, 20).__getitems__([position - 10 for position in positions])[0],
            unnumbered.__getitems__(positions)[0],
        ):
            for name in ("text_states", "attention_mask"):
                np.testing.assert_array_equal(batch[name][batch["text_rows"]], expected[name][expected["text_rows"]])
    with pytest.raises(ValueError, match="`parts` must not have cached states"):
        ColumnarDataset.concatenate([rows, states.attach(DistinctTexts.of(prepared[0]["validation"]))])


def test_no_rows_have_no_texts(prepared, tmp_path):
    states = build_states(build(prepared[1]), prepared[0].values(), tmp_path, progress_bar=False)
    none = DistinctTexts.of(prepared[0]["train"].slice(7, 7))
    assert len(states.attach(none)) == 0
    alone = TextStates.build(build(prepared[1]), [none], tmp_path / "none", progress_bar=False)
    assert len(alone) == len(alone.attach(none)) == 0


def test_texts_are_hashed_once(prepared, tmp_path, monkeypatch):
    """Also for masked variants, of which there are many."""
    hashed = []
    original = text_variants.text_keys

    def counted(input_ids, attention_mask):
        hashed.append(len(input_ids))
        return original(input_ids, attention_mask)

    monkeypatch.setattr(text_variants, "text_keys", counted)
    model = build(prepared[1], ClickPromptForPAMLM)
    trainer = trainer_for(model, prepared, tmp_path, cache_text_states=True, masked_variants=3)
    train = prepared[0]["train"]
    trainer.cache_texts([train])
    # the text and its variants
    assert sum(hashed) == 4 * len(np.unique(train.text_ids))


def test_one_line_says_that_all_states_are_there(prepared, tmp_path, caplog):
    texts = [DistinctTexts.of(rows) for rows in prepared[0].values()]
    states = TextStates.build(build(prepared[1]), texts, tmp_path, progress_bar=False)
    caplog.clear()
    TextStates.build(build(prepared[1]), texts, tmp_path, progress_bar=False)
    assert [record.message for record in caplog.records] == [
        f"All {len(states)} text states are already in {states.folder}."
    ]
    caplog.clear()
    TextStates.build(build(prepared[1]), texts, tmp_path, progress_bar=False, quiet=True)
    assert not caplog.records


# Interrupted, damaged and impossible files


def reference(prepared, folder):
    states = build_states(build(prepared[1]), prepared[0].values(), folder, progress_bar=False)
    return {key: states._states_of(entry) for entry, key in enumerate(states._records["key"].tolist())}


def assert_same_states(found, expected):
    assert found.keys() == expected.keys()
    for key, array in found.items():
        # the batches, and so the rounding, may differ
        np.testing.assert_allclose(array, expected[key], atol=1e-6)


def test_a_killed_writer_leaves_its_chunks(prepared, tmp_path, monkeypatch):
    splits, processor = prepared
    expected = reference(prepared, tmp_path / "whole")
    monkeypatch.setattr(text_states, "_CHUNK_BYTES", 1)
    monkeypatch.setattr(text_states, "_TOKENS_PER_BATCH", {"cpu": 64})

    def killed_at_the_fourth_batch():
        original, calls = ClickPromptForCTR.encode_text, []

        def encode_text(self, *args):
            calls.append(1)
            if len(calls) == 4:
                os.kill(os.getpid(), signal.SIGKILL)
            return original(self, *args)

        ClickPromptForCTR.encode_text = encode_text
        build_states(build(processor), splits.values(), tmp_path / "killed", progress_bar=False)

    assert exit_code(start_fork(killed_at_the_fourth_batch)) == -signal.SIGKILL
    folder = states_file(tmp_path / "killed").parent
    left = TextStates(folder)
    assert 0 < len(left) < len(expected)
    # within a chunk
    for name in ("states.bin", "index.bin"):
        with (folder / name).open("ab") as file:
            file.write(b"unfinished")
    texts = encoded_texts(monkeypatch)
    assert_same_states(reference(prepared, tmp_path / "killed"), expected)
    assert len(texts) == len(expected) - len(left)
    assert states_file(tmp_path / "killed").stat().st_size == states_file(tmp_path / "whole").stat().st_size


def test_two_writers_write_each_text_once(prepared, tmp_path):
    expected = reference(prepared, tmp_path / "one")

    def write():
        assert_same_states(reference(prepared, tmp_path / "two"), expected)

    processes = [start_fork(write) for _ in range(2)]
    assert [exit_code(process) for process in processes] == [0, 0]
    assert len(TextStates(states_file(tmp_path / "two").parent)) == len(expected)


def cut_off(folder):
    with (folder / "states.bin").open("r+b") as file:
        file.truncate(100)


def flip_a_bit(folder):
    content = bytearray((folder / "states.bin").read_bytes())
    content[200] ^= 1
    (folder / "states.bin").write_bytes(content)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (cut_off, r"states.bin is damaged: it must hold the states of \d+ texts, [\d,]+ bytes, but has 100"),
        (flip_a_bit, r"states.bin is damaged: the states of text \d+ have changed since they were written"),
        (lambda folder: (folder / "states.bin").unlink(), "states.bin is damaged: .* but has 0"),
        (lambda folder: (folder / "text_states.json").write_text("{"), "text_states.json is damaged"),
        (lambda folder: (folder / "text_states.json").write_text('{"dtype": "fp8"}'), "text_states.json is damaged"),
    ],
)
def test_damage_is_named(damage, message, prepared, tmp_path):
    build_states(build(prepared[1]), prepared[0].values(), tmp_path, progress_bar=False)
    damage(states_file(tmp_path).parent if states_file(tmp_path).exists() else tmp_path)
    with pytest.raises(ValueError, match=message):
        build_states(build(prepared[1]), prepared[0].values(), tmp_path, progress_bar=False)


def test_states_under_the_name_of_others_are_refused(prepared, tmp_path):
    build_states(build(prepared[1]), prepared[0].values(), tmp_path / "ours", progress_bar=False)
    build_states(build(prepared[1], seed=1), prepared[0].values(), tmp_path / "theirs", progress_bar=False)
    ours, theirs = (states_file(tmp_path / name).parent for name in ("ours", "theirs"))
    shutil.copytree(theirs, tmp_path / "copied" / ours.name)
    with pytest.raises(ValueError, match=r"text_states.json must describe .* states of another PLM, depth or type"):
        build_states(build(prepared[1]), prepared[0].values(), tmp_path / "copied", progress_bar=False)


def test_a_full_disk_is_refused_before_writing(prepared, tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**9, 10**9 - 1000, 1000))
    with pytest.raises(OSError, match=r"has no room for the states of \d+ texts: 0\.\d MB needed, 0\.0 MB free\. Ch"):
        build_states(build(prepared[1]), prepared[0].values(), tmp_path, progress_bar=False)
    assert not list(tmp_path.glob("*/states.bin"))


def test_states_that_overflow_are_refused(prepared, tmp_path):
    model = build(prepared[1])
    with torch.no_grad():
        model.trunk.plm.encoder.layer[0].output.LayerNorm.weight.fill_(1e6)
    with pytest.raises(ValueError, match="must be finite in fp16"):
        build_states(model, prepared[0].values(), tmp_path, "fp16", progress_bar=False)


def test_a_folder_without_states(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"must hold states of texts, but has no text_states.json"):
        TextStates(tmp_path)


# Masked variants


def test_variants_take_turns():
    rows = np.arange(1000)
    epochs = np.stack([chosen_variants(8, 3, epoch, rows) for epoch in range(8)])
    assert (np.sort(epochs, axis=0) == np.arange(8)[:, None]).all()
    # any row starts with any variant
    assert np.bincount(epochs[0], minlength=8).min() > 90
    np.testing.assert_array_equal(chosen_variants(8, 3, 0, rows[500:]), epochs[0][500:])
    assert (chosen_variants(8, 4, 0, rows) != epochs[0]).mean() > 0.8
    assert not chosen_variants(1, 3, 5, rows).any()


@pytest.mark.parametrize("masking", ["token", "field"])
def test_states_are_those_of_the_masked_text_of_the_labels(masking, prepared, tmp_path):
    splits, processor = prepared
    model = build(processor, ClickPromptForPAMLM).eval()
    collator = ClickPromptMLMCollator(processor, 0.3, masking, seed=5)
    train = splits["train"]
    texts = DistinctTexts.of(train, collator, 3)
    states = TextStates.build(model, [texts], tmp_path, progress_bar=False)
    rows, positions = states.attach(texts), [0, 9, 33, 60]
    seen = []
    for epoch in range(4):
        rows.set_epoch(epoch)
        batch = collator(rows.__getitems__(positions))
        assert (batch["labels"][-1] == -100).all()
        # each row by itself, from its text's key
        input_ids, attention_mask = train.tables.assemble(train.clause_ids[[0, 9, 33, 0]])
        variants = chosen_variants(3, 5, epoch, train.row_ids[[0, 9, 33, 0]])
        keys = text_keys(input_ids, attention_mask)
        masked_ids, _, labels = variant_tokens(train, train.clause_ids[[0, 9, 33, 0]], keys, variants, collator)
        np.testing.assert_array_equal(masked_ids[labels == -100], input_ids[labels == -100])
        labels[-1] = -100
        np.testing.assert_array_equal(batch["labels"].numpy(), labels)
        np.testing.assert_array_equal(input_ids[labels != -100], labels[labels != -100])
        tokens = {"input_ids": masked_ids, "attention_mask": attention_mask, "labels": labels}
        tokens = {name: torch.from_numpy(array) for name, array in tokens.items()}
        with torch.no_grad():
            expected, found = model(feature_ids=batch["feature_ids"], **tokens), model(**batch)
        torch.testing.assert_close(found.loss, expected.loss)
        assert torch.equal(found.masked_count, expected.masked_count)
        seen.append(labels)
    # the variants differ, and come again
    np.testing.assert_array_equal(seen[0], seen[3])
    assert any((seen[0] != other).any() for other in seen[1:3])


def test_variants_do_not_depend_on_other_rows(prepared):
    train, collator = prepared[0]["train"], ClickPromptMLMCollator(prepared[1], seed=5)
    whole, part = (DistinctTexts.of(rows, collator, 2) for rows in (train, train.slice(30, 60)))
    places = np.searchsorted(whole.text_ids, part.text_ids)
    np.testing.assert_array_equal(whole.keys[places], part.keys)
    other = DistinctTexts.of(train, ClickPromptMLMCollator(prepared[1], seed=6), 2)
    np.testing.assert_array_equal(other.text_keys, whole.text_keys)
    assert (other.keys != whole.keys).any()


def test_pamlm_on_variants(prepared, tmp_path):
    """Trains what is above, validates in-sample on variants too, and saves whole weights."""
    model = build(prepared[1], ClickPromptForPAMLM)
    before = weights(model)
    trainer = trainer_for(model, prepared, tmp_path, cache_text_states=True, masked_variants=2)
    trainer.train()
    trainer.save_model()
    states = TextStates(states_file(tmp_path / "_text_states").parent)
    texts = len(np.unique(np.concatenate([prepared[0][name].text_ids for name in ("train", "validation")])))
    assert texts < len(states) <= 2 * texts
    again = trainer.evaluate()
    assert again["eval_loss"] == pytest.approx(trainer.evaluate()["eval_loss"], abs=1e-6)
    loaded = ClickPromptForPAMLM.from_pretrained(tmp_path).state_dict()
    moved = {key for key, tensor in loaded.items() if not torch.equal(tensor, before[key])}
    assert any("prompt_encoder" in key for key in moved)
    assert any("layer.1." in key for key in moved)
    # the decoder is tied to the embeddings
    assert not any("layer.0." in key or "embeddings.word" in key or "decoder.weight" in key for key in moved)


def test_the_default_is_eight_variants(prepared, tmp_path):
    model = build(prepared[1], ClickPromptForPAMLM)
    trainer = trainer_for(model, prepared, tmp_path, cache_text_states=True, max_steps=1)
    trainer.cache_texts([prepared[0]["train"]])
    assert trainer._cached_rows.get(prepared[0]["train"]).cached_texts.entries.shape[1] == 8


def test_paclm_on_states(for_decoder, tmp_path):
    splits, processor = for_decoder
    model = build(processor, ClickPromptForPACLM, "gpt2").eval()
    collator = ClickPromptCLMCollator(processor)
    states = build_states(model, splits.values(), tmp_path, collator=collator, progress_bar=False)
    plain = collator(splits["train"].__getitems__([4, 11, 60]))
    batch = collator(states.attach(DistinctTexts.of(splits["train"], collator)).__getitems__([4, 11, 60]))
    assert torch.equal(batch["labels"], plain["labels"])
    with torch.no_grad():
        torch.testing.assert_close(model(**batch).loss, model(**plain).loss)
    ends = []
    for caching in ("freeze_lower_layers", "cache_text_states"):
        trainer = trainer_for(build(processor, ClickPromptForPACLM, "gpt2"), for_decoder, tmp_path, **{caching: True})
        trainer.train()
        ends.append(losses(trainer))
    np.testing.assert_allclose(*ends, atol=1e-5)


# What is refused, and warned of, before any training


def lora(model):
    return get_peft_model(model, LoraConfig(r=2, target_modules=["query", "text_head.dense"]))


def lora_above(model):
    return get_peft_model(model, LoraConfig(r=2, target_modules=["layer.1.attention.self.query"]))


@pytest.mark.parametrize(
    ("options", "model_options", "change", "message"),
    [
        ({"freeze_lower_layers": True}, {"prompt_depth": None}, None, "`freeze_lower_layers` needs PLM layers below"),
        ({"cache_text_states": True}, {"prompt_depth": 2}, None, "needs .* 2 layers, .* got prompt_depth=2"),
        (
            {"cache_text_states": True, "bf16_full_eval": True},
            *({}, None, "`bf16_full_eval` must be False with `cache_text_states`"),
        ),
        ({"cache_text_states": True}, {}, lora, "adapters must target other layers"),
        ({"cache_text_states": True, "neftune_noise_alpha": 5}, {}, None, "`neftune_noise_alpha` must be None with"),
        (
            {"cache_text_states": True, "accelerator_config": {"dispatch_batches": True}},
            *({}, None, "must be False with DataParallel, FSDP, DeepSpeed and `dispatch_batches`"),
        ),
    ],
)
def test_impossible_combinations(options, model_options, change, message, prepared, tmp_path):
    model = build(prepared[1], **model_options)
    with pytest.raises(ValueError, match=message):
        trainer_for(change(model) if change else model, prepared, tmp_path, **options)


def test_adapters_above_the_lower_layers(prepared, tmp_path):
    model = lora_above(build(prepared[1]))
    before = weights(model)
    trainer_for(model, prepared, tmp_path, cache_text_states=True).train()
    assert {key for key, tensor in weights(model).items() if not torch.equal(tensor, before[key])} == {
        key for key in before if "lora" in key
    }


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"cache_text_states": True, "freeze_lower_layers": False},
            "`freeze_lower_layers` must be True with `cache_text_states`",
        ),
        ({"text_state_dtype": "int8"}, "`text_state_dtype` must be one of .*, got 'int8'"),
        ({"masked_variants": 0}, "`masked_variants` must be"),
    ],
)
def test_impossible_arguments(options, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        ClickPromptTrainingArguments(str(tmp_path), report_to="none", **options)


def test_rows_without_text_or_in_other_datasets_are_refused(prepared, tmp_path):
    rows = prepared[0]["train"]
    with pytest.raises(ValueError, match="needs rows of a ColumnarDataset with text, .* got list"):
        trainer_for(build(prepared[1]), prepared, tmp_path, rows=[rows[0]], cache_text_states=True)
    without = replace(rows, tables=None, clause_ids=None, text_ids=None)
    with pytest.raises(ValueError, match="needs rows of a ColumnarDataset with text"):
        trainer_for(build(prepared[1]), prepared, tmp_path, rows=without, cache_text_states=True)
    with pytest.raises(ValueError, match="needs rows with text"):
        build_states(build(prepared[1]), [without], tmp_path, progress_bar=False)


def test_pooling_of_a_lower_layer_is_refused(prepared, tmp_path):
    set_seed(0)
    text = tiny_text_config(vocab_size=len(prepared[1].tokenizer), max_position_embeddings=80, num_hidden_layers=3)
    ctr = tiny_ctr_config(field_sizes=prepared[1].field_sizes, max_values=prepared[1].max_values)
    config = ClickPromptConfig(text_config=text, ctr_config=ctr, prompt_depth=1, pooling="mean_first_last")
    with pytest.raises(ValueError, match="`pooling` must not be 'mean_first_last'"):
        trainer_for(ClickPromptForCTR(config), prepared, tmp_path, cache_text_states=True)


def test_variants_of_a_decoder_are_refused(for_decoder, tmp_path):
    model = build(for_decoder[1], ClickPromptForPACLM, "gpt2")
    with pytest.raises(ValueError, match="`masked_variants` must be left out for a decoder"):
        trainer_for(model, for_decoder, tmp_path, cache_text_states=True, masked_variants=3)


def test_rows_with_states_train_without_the_flag(prepared, tmp_path):
    """And only the model whose lower layers made them."""
    splits, processor = prepared
    model = build(processor)
    states = build_states(model, splits.values(), tmp_path, progress_bar=False)
    rows = states.attach(DistinctTexts.of(splits["train"]))
    before = weights(model)
    trainer = trainer_for(model, prepared, tmp_path, rows=rows)
    trainer.train()
    frozen = {key for key, tensor in weights(model).items() if torch.equal(tensor, before[key])}
    assert {key for key in before if "plm.encoder.layer.0." in key} <= frozen
    # validation rows came without states
    expected = trainer_for(build(processor), prepared, tmp_path / "other", cache_text_states=True)
    expected.train()
    np.testing.assert_allclose(losses(trainer), losses(expected), atol=1e-6)

    with pytest.raises(ValueError, match="`freeze_lower_layers` must be True or left out for rows with cached states"):
        trainer_for(build(processor), prepared, tmp_path, rows=rows, freeze_lower_layers=False)
    for other in (build(processor, seed=1), build(processor)):
        if other is not None and fingerprint_of(other, "fp32") == states.fingerprint:
            # trained since
            trainer_for(other, prepared, tmp_path / "all").train()
        trainer = trainer_for(other, prepared, tmp_path / "refused", rows=rows)
        with pytest.raises(ValueError, match="holds states of another PLM or .*, or the model's lower layers"):
            trainer.train()
        with pytest.raises(ValueError, match="holds states of another PLM or"):
            trainer.evaluate(rows)
    with pytest.raises(ValueError, match=r"must have the states of all texts in the rows, but lacks"):
        build_states(build(processor), [splits["train"].slice(0, 3)], tmp_path / "few", progress_bar=False).attach(
            DistinctTexts.of(splits["train"])
        )


def test_a_subset_of_rows_with_states_is_checked_too(prepared, tmp_path):
    splits, processor = prepared
    texts = DistinctTexts.of(splits["train"])
    states = TextStates.build(build(processor), [texts], tmp_path, progress_bar=False)
    rows = Subset(states.attach(texts), [3, 1, 4, 1, 5])
    model = build(processor)
    before = weights(model)
    trainer = trainer_for(model, prepared, tmp_path, rows=rows, eval_strategy="no", save_strategy="no")
    trainer.train()
    moved = {key for key, tensor in weights(model).items() if not torch.equal(tensor, before[key])}
    assert any("plm.encoder.layer.1." in key for key in moved)
    assert not any("plm.encoder.layer.0." in key or "plm.embeddings" in key for key in moved)
    trainer.evaluate(rows)
    other = build(processor, seed=1)
    with pytest.raises(ValueError, match="holds states of another PLM or"):
        trainer_for(other, prepared, tmp_path, rows=rows).train()
    with pytest.raises(ValueError, match="holds states of another PLM or"):
        trainer_for(other, prepared, tmp_path).evaluate(rows)


def test_states_for_clicks_do_not_serve_pretraining(prepared, tmp_path):
    model = build(prepared[1], ClickPromptForPAMLM)
    texts = DistinctTexts.of(prepared[0]["train"])
    rows = TextStates.build(model, [texts], tmp_path, progress_bar=False).attach(texts)
    with pytest.raises(ValueError, match="their states were cached for click prediction"):
        ClickPromptMLMCollator(prepared[1])(rows.__getitems__([0]))


def test_states_of_masked_texts_do_not_serve_clicks(prepared, tmp_path):
    model, masking = build(prepared[1]), ClickPromptMLMCollator(prepared[1])
    states = build_states(model, [prepared[0]["train"]], tmp_path, collator=masking, progress_bar=False)
    with pytest.raises(ValueError, match="theirs were cached for pretraining"):
        ClickPromptCollator(prepared[1])(
            states.attach(DistinctTexts.of(prepared[0]["train"], masking)).__getitems__([0])
        )


def rows_with_texts_of_their_own(rows):
    """One row of each distinct text."""
    _, first = np.unique(rows.text_ids, return_index=True)
    names = ("feature_ids", "labels", "row_ids", "clause_ids", "text_ids")
    return replace(rows, **{name: getattr(rows, name)[first] for name in names})


@pytest.mark.parametrize(
    ("options", "warned"),
    [
        ({"num_train_epochs": 1}, True),
        ({"num_train_epochs": 2}, False),
        ({"max_steps": 1}, True),
    ],
)
def test_states_that_are_read_too_seldom_trigger_a_warning(options, warned, prepared, tmp_path, caplog):
    rows = rows_with_texts_of_their_own(prepared[0]["train"])
    with caplog.at_level(logging.WARNING), warnings.catch_warnings():
        trainer = trainer_for(build(prepared[1]), prepared, tmp_path, rows=rows, cache_text_states=True, **options)
        trainer.cache_texts([rows])
        messages = [record.message for record in caplog.records]
        trainer.train()
    # once, and before the work that cannot pay
    assert sum("caching will not pay off" in message for message in messages) == warned
    assert caplog.text.count("caching will not pay off") == warned
    assert (f"the {len(rows)} training rows have {len(rows)} distinct texts; in " in caplog.text) == warned


def test_states_in_a_folder_for_several_runs_are_not_judged(prepared, tmp_path, caplog):
    rows = rows_with_texts_of_their_own(prepared[0]["train"])
    options = {"cache_text_states": True, "text_state_dir": str(tmp_path / "states"), "num_train_epochs": 1}
    trainer = trainer_for(build(prepared[1]), prepared, tmp_path / "out", rows=rows, **options)
    trainer.cache_texts([rows])
    assert "caching will not pay off" not in caplog.text


def test_when_caching_pays_by_hand(prepared):
    rows = rows_with_texts_of_their_own(prepared[0]["train"])
    # one text per row is read twice in two epochs
    assert [caching_pays(rows, epochs) for epochs in (1, 1.9, 2)] == [False, False, True]
    # each of eight variants of a text, in sixteen
    assert [caching_pays(rows, epochs, variants=8) for epochs in (15, 16)] == [False, True]
    # two rows per text
    twice = replace(ColumnarDataset.concatenate([rows, rows]), tables=rows.tables)
    assert [caching_pays(twice, epochs) for epochs in (0.9, 1)] == [False, True]
    assert [num_variants(None, task) for task in ("clicks", "masked tokens", "next tokens")] == [1, 8, 1]
    assert num_variants(3, "masked tokens") == 3


def test_commands_share_states(tmp_path, caplog):
    """PA-MLM on frozen lower layers, then clicks: the states of texts without masks are those of one PLM."""
    schema = Schema((FieldSchema("tags", "Tags"), FieldSchema("title", "Title")), label="click")
    (tmp_path / "schema.json").write_text(json.dumps(schema.to_dict()))
    pd.DataFrame(tiny_rows(200)).to_csv(tmp_path / "rows.csv", index=False)
    data = ["--data_path", str(tmp_path / "rows.csv")]
    fresh = ["--schema", str(tmp_path / "schema.json"), "--plm_name_or_path", "scratch-tiny"]
    sizes = ["--embedding_size", "4", "--dnn_hidden_sizes", "8", "--num_cross_layers", "1", "--prompt_length", "2"]
    quick = [*("--report_to", "none", "--disable_tqdm", "true", "--num_train_epochs", "1", "--report_plots", "false")]
    caching = ["--cache_text_states", "--text_state_dir", str(tmp_path / "states")]

    def run(main, name, *options):
        return main([*data, *quick, *options, "--output_dir", str(tmp_path / name)])

    for main in (pretrain.main, finetune.main):
        with pytest.raises(
            ValueError, match="`cache_text_states` needs PLM layers below the prompts: `prompt_depth` must be below"
        ):
            run(main, "refused", *fresh, *sizes, *caching)
    run(pretrain.main, "pamlm", *fresh, *sizes, *caching, "--prompt_depth", "1", "--masked_variants", "2")
    start = ["--model_name_or_path", str(tmp_path / "pamlm")]
    before = len(TextStates(states_file(tmp_path / "states").parent))
    cached = run(finetune.main, "cached", *start, *caching)
    # one folder, which has grown
    assert len(TextStates(states_file(tmp_path / "states").parent)) > before
    frozen = run(finetune.main, "frozen", *start, "--freeze_lower_layers", "true")
    assert cached["test_log_loss"] == pytest.approx(frozen["test_log_loss"], abs=1e-6)
    assert not (tmp_path / "cached" / "_text_states").exists()
    # without the PLM, nothing is cached
    caplog.clear()
    run(finetune.main, "alone", *start, "--without_plm", "--cache_text_states", "--masked_variants", "3")
    assert "--cache_text_states True has no effect: it needs a run with the PLM." in caplog.text
    assert "--masked_variants 3 has no effect: it needs clickprompt pretrain." in caplog.text
    assert not (tmp_path / "alone" / "_text_states").exists()


@pytest.mark.parametrize("flag", ["--cache_text_states", "--freeze_lower_layers=true"])
@pytest.mark.parametrize("depth", [[], ["--prompt_depth", "2"], ["--prompt_strategy", "shallow"]])
@pytest.mark.parametrize("main", [pretrain.main, finetune.main])
def test_prompts_in_all_layers_are_refused_before_the_data_are_read(main, depth, flag, tmp_path, monkeypatch):
    monkeypatch.setattr(preparation, "read_rows_of", None)
    options = ["--dataset", "synthetic", "--plm_name_or_path", "scratch-tiny", "--output_dir", str(tmp_path / "out")]
    with pytest.raises(ValueError, match=r"` needs PLM layers below .* must be below the PLM's 2 layers"):
        main([*options, "--report_to", "none", *depth, flag])
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "flag", [["--text_state_dtype", "bf16"], ["--text_state_dir", "x"], ["--masked_variants", "3"]]
)
def test_flags_without_the_cache_have_no_effect(flag, caplog):
    parser = HfArgumentParser((ModelArguments, DataArguments, ClickPromptTrainingArguments))
    options = ["--plm_name_or_path", "scratch-tiny", "--report_to", "none", "--output_dir", "nowhere"]
    warn_of_idle_arguments(*parser.parse_args_into_dataclasses([*flag, *options]), pretraining=True)
    assert f"{' '.join(flag)} has no effect: it needs --cache_text_states true." in caplog.text


def test_the_folder_of_states_must_not_be_a_file(tmp_path):
    (tmp_path / "table.csv").write_text("")
    with pytest.raises(ValueError, match=r"`text_state_dir` must be a folder, got .*table\.csv, which is a file"):
        ClickPromptTrainingArguments(str(tmp_path / "out"), text_state_dir=str(tmp_path / "table.csv"))
