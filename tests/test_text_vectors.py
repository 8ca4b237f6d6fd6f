"""Vectors of texts from a frozen PLM: their values, and what is kept of them."""

import copy
import pickle

import numpy as np
import pytest
import torch
from threads import in_threads
from tiny_data import TITLES, tiny_gpt2_tokenizer, tiny_roberta_tokenizer, tiny_t5_tokenizer
from tiny_models import tiny_text_config
from transformers import AutoModel, AutoModelForMaskedLM, AutoModelForTextEncoding

from clickprompt_hf.data.text_vectors import StoredTextEncoder, text_vectors
from clickprompt_hf.text_encoder_clickprompt import TextEncoder

TEXTS = [*TITLES, "Up and " * 60, "</s> Up", TITLES[0]]
TOKENIZERS = {"roberta": tiny_roberta_tokenizer, "t5": tiny_t5_tokenizer, "gpt2": tiny_gpt2_tokenizer}


def save_plm(folder, family="roberta", seed=0, auto_class=AutoModel):
    tokenizer = copy.deepcopy(TOKENIZERS[family]())
    torch.manual_seed(seed)
    model = auto_class.from_config(tiny_text_config(family, vocab_size=len(tokenizer)))
    model.eval().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder), model, tokenizer


@pytest.fixture(scope="module")
def plm(tmp_path_factory):
    return save_plm(tmp_path_factory.mktemp("plm"))


@pytest.mark.parametrize(
    ("family", "auto_class", "limit"),
    [("roberta", AutoModelForMaskedLM, 38), ("t5", AutoModelForTextEncoding, 512), ("gpt2", AutoModel, 40)],
)
def test_vectors_are_means_over_the_tokens(family, auto_class, limit, tmp_path):
    path, model, tokenizer = save_plm(tmp_path, family, auto_class=auto_class)
    texts = [text for text in TEXTS if "</s>" not in text]
    found = text_vectors(texts, path)
    assert (found.dtype, found.shape) == (np.float32, (len(texts), 16))
    for text, vector in zip(texts, found):
        tokens = tokenizer(text, truncation=True, max_length=limit, return_tensors="pt")
        with torch.no_grad():
            states = model.base_model(input_ids=tokens["input_ids"]).last_hidden_state
        np.testing.assert_allclose(vector, states[0].mean(dim=0).numpy(), rtol=1e-4, atol=1e-5)


def test_the_cache_gives_the_same_vectors_and_computes_only_new_ones(plm, tmp_path, monkeypatch):
    path, _, _ = plm
    computed = []
    batches = TextEncoder.batches
    monkeypatch.setattr(
        TextEncoder, "batches", lambda self, texts, *args: computed.extend(texts) or batches(self, texts, *args)
    )
    expected = text_vectors(TEXTS, path)
    computed.clear()
    np.testing.assert_array_equal(text_vectors(TEXTS[:4], path, tmp_path), text_vectors(TEXTS[:4], path))
    computed.clear()
    found = text_vectors(TEXTS, path, tmp_path)
    assert sorted(computed) == sorted(TEXTS[4:-1])
    np.testing.assert_allclose(found, expected, atol=1e-6)
    np.testing.assert_array_equal(text_vectors(TEXTS[::-1], path, tmp_path), found[::-1])
    assert len(computed) == len(TEXTS) - 5
    assert not list(tmp_path.rglob("*.partial"))


def test_another_plm_or_precision_has_its_own_vectors(plm, tmp_path):
    first = StoredTextEncoder(plm[0], tmp_path)
    others = [
        StoredTextEncoder(save_plm(tmp_path / "b", seed=1)[0], tmp_path),
        StoredTextEncoder(plm[0], tmp_path, bf16=True),
    ]
    assert len({encoder.folder for encoder in (first, *others)}) == 3
    assert first.fingerprint != others[0].fingerprint
    assert first.fingerprint == others[1].fingerprint
    assert not np.allclose(first.encode(TEXTS), others[0].encode(TEXTS), atol=1e-3)
    np.testing.assert_allclose(first.encode(TEXTS), others[1].encode(TEXTS), atol=0.1)


def test_interrupted_work_is_kept(plm, tmp_path, monkeypatch):
    monkeypatch.setattr("clickprompt_hf.data.text_vectors._TEXTS_PER_CHUNK", 2)
    monkeypatch.setattr("clickprompt_hf.text_encoder_clickprompt._TOKENS_PER_BATCH", {"cpu": 1})
    pooled, calls = TextEncoder._pooled, []

    def interrupted(self, *args):
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return pooled(self, *args)

    monkeypatch.setattr(TextEncoder, "_pooled", interrupted)
    with pytest.raises(KeyboardInterrupt):
        text_vectors(TEXTS, plm[0], tmp_path)
    text_vectors(TEXTS, plm[0], tmp_path)
    # 8 distinct texts: the first three calls finished, and two of their vectors were a chunk
    assert len(calls) == 4 + 6


def test_damaged_files_are_named(plm, tmp_path):
    text_vectors(TEXTS, plm[0], tmp_path)
    (path,) = tmp_path.rglob("*.npy")
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(ValueError, match=rf"{path} is damaged: .* Remove it"):
        text_vectors(TEXTS, plm[0], tmp_path)


def test_wrong_encoders_are_refused(plm, tmp_path):
    with pytest.raises(ValueError, match="`texts` must be a list of texts, got a single text, 'Up'"):
        text_vectors("Up", plm[0])
    with pytest.raises(ValueError, match=f"{plm[0]} must hold the text encoder that training used"):
        TextEncoder(plm[0], fingerprint="x").encode(["Up"])
    with pytest.raises(OSError, match="nowhere"):
        text_vectors(["Up"], tmp_path / "nowhere")


def test_saved_copies_and_pickles_give_the_same_vectors(plm, tmp_path):
    encoder = TextEncoder(plm[0])
    expected = encoder.encode(TEXTS)
    encoder.save_pretrained(tmp_path / "text_encoder")
    saved = TextEncoder(tmp_path, encoder.fingerprint, subfolder="text_encoder")
    np.testing.assert_array_equal(saved.encode(TEXTS), expected)
    unpickled = pickle.loads(pickle.dumps(encoder))
    assert unpickled._parts is None
    np.testing.assert_array_equal(unpickled.encode(TEXTS), expected)
    assert copy.deepcopy(encoder).encode([]).shape == (0, 16)


def test_threads_share_an_encoder_that_keeps_few_vectors(plm, monkeypatch):
    monkeypatch.setattr("clickprompt_hf.text_encoder_clickprompt._BYTES_KEPT", 3 * 4 * 16)
    encoder = TextEncoder(plm[0])
    expected = {text: encoder.encode([text])[0] for text in TEXTS}
    assert len(encoder._vectors) == 3

    def read(number):
        texts = TEXTS[number % 4 :] + TEXTS[: number % 4]
        return [np.abs(vector - expected[text]).max() for text, vector in zip(texts, encoder.encode(texts))]

    for differences in in_threads(read, range(16)):
        assert max(differences) < 1e-5
    assert len(encoder._vectors) == 3
