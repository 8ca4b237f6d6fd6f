"""One tiny tokenizer of each kind, trained on the tiny tables, and what texts may hold to confuse it."""

import copy
import functools
import json

from tiny_data import (
    texts,
    tiny_bert_tokenizer,
    tiny_gpt2_tokenizer,
    tiny_roberta_tokenizer,
    tiny_t5_tokenizer,
    whole_text_tokenizer,
)
from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from transformers import LlamaTokenizer, PreTrainedTokenizer, PreTrainedTokenizerFast

CONTROL = ["<s>", "</s>", "<pad>", "<unk>", "<mask>", "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "<|endoftext|>"]
CONTROL += ["<extra_id_0>", "<ctrl>"]
# full-width signs, which NFKC turns into the common ones
CONTROL += ["＜/s＞", "［MASK］"]


@functools.cache
def tiny_llama_tokenizer() -> LlamaTokenizer:
    """BPE over the whole text, in which spaces are marks, with bytes for unknown characters."""
    trained = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True))
    trained.pre_tokenizer = pre_tokenizers.Metaspace()
    byte_tokens = [f"<0x{byte:02X}>" for byte in range(256)]
    special = ["<unk>", "<s>", "</s>", *byte_tokens]
    trained.train_from_iterator(texts(), trainers.BpeTrainer(vocab_size=500, special_tokens=special))
    written = json.loads(trained.to_str())["model"]
    return LlamaTokenizer(vocab=written["vocab"], merges=[tuple(pair) for pair in written["merges"]])


def _wrapped(tokenizer: Tokenizer, **options) -> PreTrainedTokenizerFast:
    names = {"pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"}
    named = {f"{name}_token": token for name, token in names.items()}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **named, **options)


_BERT_SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


@functools.cache
def word_tokenizer() -> PreTrainedTokenizerFast:
    """Words between spaces, so that `[MASK]` is a word like others."""
    tokenizer = Tokenizer(models.WordLevel(unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.train_from_iterator(texts(), trainers.WordLevelTrainer(special_tokens=_BERT_SPECIAL))
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return _wrapped(tokenizer)


@functools.cache
def nfkc_tokenizer() -> PreTrainedTokenizerFast:
    """Unigram after NFKC, which makes `</s>` of full-width signs; some of its named tokens are not marked special."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=150, special_tokens=["<s>", "<pad>", "</s>", "<unk>"], unk_token="<unk>", show_progress=False
    )
    tokenizer.train_from_iterator(texts(), trainer)
    tokenizer.add_tokens(["<mask>"])
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=False)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        **{
            "bos_token": "<s>",
            "pad_token": "<pad>",
            "eos_token": "</s>",
            "unk_token": "<unk>",
            "mask_token": "<mask>",
        },
    )


def prefix_space_tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level BPE that puts a space before a text; its mask takes the space before it, as RoBERTa's does."""
    tokenizer = copy.deepcopy(tiny_roberta_tokenizer())
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.add_tokens([AddedToken("<mask>", lstrip=True, rstrip=True, special=True)])
    tokenizer.add_special_tokens({"extra_special_tokens": ["<ctrl>"]})
    return tokenizer


class CharacterTokenizer(PreTrainedTokenizer):
    """A tokenizer in Python: words that it knows, else characters."""

    words = ("<pad>", "<unk>", "<s>", "</s>", "<mask>", "is", "Title", "User", "Price", "Tags")

    def __init__(self, **kwargs):
        self._tokens = [*self.words, *map(chr, range(32, 256))]
        self._ids = {token: number for number, token in enumerate(self._tokens)}
        names = {"pad_token": "<pad>", "unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>"}
        super().__init__(**{**names, "mask_token": "<mask>", "special_tokens_pattern": "bos_eos", **kwargs})

    @property
    def vocab_size(self):
        return len(self._tokens)

    def get_vocab(self):
        return {**self._ids, **self.added_tokens_encoder}

    def _tokenize(self, text):
        return [token for word in text.split() for token in ([word] if word in self._ids else word)]

    def _convert_token_to_id(self, token):
        return self._ids.get(token, self._ids["<unk>"])


KINDS = {
    "byte-level BPE": tiny_roberta_tokenizer,
    "byte-level BPE without special tokens around": tiny_gpt2_tokenizer,
    "byte-level BPE with a prefix space": prefix_space_tokenizer,
    "BPE of whole texts": whole_text_tokenizer,
    "Llama": tiny_llama_tokenizer,
    "WordPiece": tiny_bert_tokenizer,
    "words": word_tokenizer,
    "Unigram": tiny_t5_tokenizer,
    "Unigram with NFKC": nfkc_tokenizer,
    "in Python": CharacterTokenizer,
}


def tokenizer_of(kind: str, **settings):
    """A tokenizer of one of `KINDS` of the caller's own, with these settings."""
    tokenizer = copy.deepcopy(KINDS[kind]())
    for name, value in settings.items():
        setattr(tokenizer, name, value)
    return tokenizer
