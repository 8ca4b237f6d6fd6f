"""Tiny tables of raw rows, and tokenizers trained on them."""

import functools
from pathlib import Path

import numpy as np
import pyarrow as pa
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from clickprompt_hf import ClickPromptProcessor, FieldSchema, Schema
from clickprompt_hf.data.columnar import prepare_splits
from clickprompt_hf.runs.plms import scratch_tokenizer

TITLES = ("Café Noir", "The Big  Heat (1953)", "Up", "M*A*S*H", "It's: a {gift}", "Seven Samurai, The")


def tiny_schema() -> Schema:
    return Schema(
        fields=(
            FieldSchema("user", "User ID"),
            FieldSchema("price", "Price", "numeric", num_buckets=4),
            FieldSchema("tags", "Tags", "multi_valued", max_values=2),
            FieldSchema("title", "Title"),
        ),
        label="click",
    )


def tiny_rows(num_rows: int = 60, seed: int = 0) -> dict[str, list]:
    """Columns of raw values, some of them missing."""
    draw = np.random.default_rng(seed)
    prices = draw.integers(1, 40, num_rows) / 2
    tags = ("new", "old|rare", "", "new|old|rare", "rare")
    return {
        "user": draw.integers(1, 9, num_rows).tolist(),
        "price": [None if i % 7 == 3 else float(price) for i, price in enumerate(prices)],
        "tags": [tags[i] for i in draw.integers(0, len(tags), num_rows)],
        "title": [None if i % 11 == 5 else TITLES[t] for i, t in enumerate(draw.integers(0, 6, num_rows))],
        "click": [i % 2 for i in range(num_rows)],
    }


def rows_of_lengths(num_rows: int, seed: int) -> dict[str, list]:
    """Rows whose texts have from a few tokens to many."""
    draw = np.random.default_rng(seed)
    titles = [
        " ".join(draw.choice(["Up", "Seven", "Noir", "(1953)"], size)) for size in draw.integers(1, 40, num_rows)
    ]
    return tiny_rows(num_rows, seed) | {"title": titles}


def tiny_splits() -> dict[str, pa.Table]:
    sizes = {"train": 60, "validation": 20, "test": 20}
    return {name: pa.table(tiny_rows(size, seed)) for seed, (name, size) in enumerate(sizes.items())}


def prepare_tiny_splits(folder: Path) -> tuple[dict[str, pa.Table], ClickPromptProcessor]:
    """Encode `tiny_splits` into `folder`. Returns the raw splits, and the processor with a RoBERTa tokenizer."""
    splits = tiny_splits()
    processor = ClickPromptProcessor.fit(splits["train"], tiny_schema(), tiny_roberta_tokenizer())
    prepare_splits(splits, processor, folder)
    return splits, processor


def texts() -> list[str]:
    return [
        f"User ID is {n}. Price is {n / 2}. Tags is new, old, rare. Title is {t}." for n in range(9) for t in TITLES
    ]


@functools.cache
def tiny_roberta_tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level BPE."""
    return scratch_tokenizer("scratch-tiny", texts())


@functools.cache
def tiny_bert_tokenizer() -> PreTrainedTokenizerFast:
    """WordPiece."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokenizer.train_from_iterator(texts(), trainers.WordPieceTrainer(vocab_size=200, special_tokens=special))
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return _wrapped(tokenizer)


@functools.cache
def tiny_t5_tokenizer() -> PreTrainedTokenizerFast:
    """Unigram as T5's: puts a space in front of every text, and knows no mask token but a sentinel."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    special = ["<pad>", "</s>", "<unk>", "<extra_id_0>"]
    trainer = trainers.UnigramTrainer(vocab_size=150, special_tokens=special, unk_token="<unk>", show_progress=False)
    tokenizer.train_from_iterator(texts(), trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>", padding_side="left"
    )


@functools.cache
def tiny_gpt2_tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level BPE as GPT-2's: no special token around a text, and none for padding or masking."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=["<|endoftext|>"], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(texts(), trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<|endoftext|>", eos_token="<|endoftext|>")


@functools.cache
def whole_text_tokenizer() -> PreTrainedTokenizerFast:
    """Takes a text as one word, so that its tokens are not those of its clauses."""
    tokenizer = Tokenizer(models.BPE(unk_token="[UNK]"))
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokenizer.train_from_iterator(texts(), trainers.BpeTrainer(vocab_size=200, special_tokens=special))
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return _wrapped(tokenizer)


def _wrapped(tokenizer: Tokenizer) -> PreTrainedTokenizerFast:
    names = {"pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"}
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, **{f"{name}_token": token for name, token in names.items()}
    )
