"""States of recent texts, and equal rows of ids: what is computed again, what is not, and what is forgotten."""

import copy
import pickle
from types import SimpleNamespace

import pytest
import torch
from threads import in_threads
from torch import nn

from clickprompt_hf.distinct_rows import distinct_rows, with_distinct_features
from clickprompt_hf.recent_texts import RecentTexts

HIDDEN = 4
# what a text of t tokens takes: keys of 4 bytes and states of 4 · HIDDEN bytes per token
BYTES_PER_TOKEN = 4 + 4 * HIDDEN


class LowerLayers(nn.Module):
    """A model whose lower layers are an embedding of tokens and one of positions."""

    def __init__(self):
        super().__init__()
        self.config = SimpleNamespace(num_lower_layers=2, use_ctr=True, pooling="cls")
        self.plm = nn.ModuleDict({"words": nn.Embedding(50, HIDDEN), "positions": nn.Embedding(20, HIDDEN)})
        self.device = torch.device("cpu")
        self.texts_read: list[list[int]] = []

    @property
    def trunk(self):
        return self

    def lower_modules(self):
        return list(self.plm.values())

    @torch.no_grad()
    def encode_text(self, input_ids, attention_mask):
        self.texts_read += [ids[mask.bool()].tolist() for ids, mask in zip(input_ids, attention_mask)]
        return self.plm["words"](input_ids) + self.plm["positions"](torch.arange(input_ids.shape[1]))


@pytest.fixture
def model():
    torch.manual_seed(0)
    return LowerLayers()


def batch(*texts):
    width = max(map(len, texts))
    return {
        "input_ids": torch.tensor([[*text, *[0] * (width - len(text))] for text in texts]),
        "attention_mask": torch.tensor([[1] * len(text) + [0] * (width - len(text)) for text in texts]),
        "feature_ids": torch.zeros(len(texts), 1, dtype=torch.int64),
    }


def check_states(model, recent, *texts):
    """Every row of the batch finds the states of its own text, and padding is masked."""
    inputs = recent.shared(model, batch(*texts))
    assert "input_ids" not in inputs
    rows = inputs.get("text_rows", torch.arange(len(texts)))
    for row, text in zip(rows.tolist(), texts, strict=True):
        assert inputs["attention_mask"][row].tolist() == [1] * len(text) + [0] * (
            inputs["attention_mask"].shape[1] - len(text)
        )
        expected = model.plm["words"].weight[text] + model.plm["positions"].weight[: len(text)]
        torch.testing.assert_close(inputs["text_states"][row, : len(text)], expected)
    return inputs


def test_a_text_is_read_once(model):
    recent = RecentTexts()
    inputs = check_states(model, recent, [3, 4], [5], [3, 4])
    assert inputs["text_rows"].tolist() == [0, 1, 0]
    assert inputs["text_states"].shape == (2, 2, HIDDEN)
    assert model.texts_read == [[3, 4], [5]]
    inputs = check_states(model, recent, [5], [3, 4, 6])
    assert "text_rows" not in inputs
    assert model.texts_read == [[3, 4], [5], [3, 4, 6]]
    assert len(recent) == 3
    assert recent.num_bytes == (2 + 1 + 3) * BYTES_PER_TOKEN


def test_other_padding_is_the_same_text_and_a_padding_token_in_the_text_is_not(model):
    recent = RecentTexts()
    check_states(model, recent, [3], [4, 4, 4])
    check_states(model, recent, [3])
    check_states(model, recent, [3, 0], [3])
    assert model.texts_read == [[3], [4, 4, 4], [3, 0]]


def test_batches_get_no_wider_than_their_texts(model):
    inputs = batch([3, 4], [5])
    inputs["input_ids"], inputs["attention_mask"] = (
        nn.functional.pad(inputs[name], (0, 5)) for name in ("input_ids", "attention_mask")
    )
    shared = RecentTexts().shared(model, inputs)
    assert shared["text_states"].shape == (2, 2, HIDDEN)
    assert shared["attention_mask"].tolist() == [[1, 1], [1, 0]]


def test_an_empty_text_is_a_text(model):
    check_states(model, RecentTexts(), [], [3], [])


def test_the_texts_used_last_stay_within_the_memory(model):
    recent = RecentTexts(3 * BYTES_PER_TOKEN / 1e6)
    check_states(model, recent, [1], [2], [3])
    check_states(model, recent, [1])
    # pushes out 2, the least recently used
    check_states(model, recent, [4])
    assert recent.num_bytes == 3 * BYTES_PER_TOKEN
    model.texts_read.clear()
    check_states(model, recent, [3], [1], [4])
    assert model.texts_read == []
    check_states(model, recent, [2])
    assert model.texts_read == [[2]]
    # longer than everything that may be kept
    check_states(model, recent, [7, 7, 7, 7])
    assert len(recent) == recent.num_bytes == 0


def test_without_memory_and_without_lower_layers_models_read_texts(model):
    inputs = batch([3], [3])
    assert RecentTexts(0).shared(model, inputs) is inputs
    model.config.num_lower_layers = 0
    assert RecentTexts().shared(model, inputs) is inputs
    model.config.num_lower_layers, model.config.pooling = 2, "mean_first_last"
    assert RecentTexts().shared(model, inputs) is inputs
    model.config.num_lower_layers = 1
    assert RecentTexts().shared(model, inputs) is not inputs
    # a model of an earlier version
    del model.config.num_lower_layers
    assert RecentTexts().shared(model, inputs) is inputs
    without_text = {"feature_ids": inputs["feature_ids"]}
    assert RecentTexts().shared(LowerLayers(), without_text) is without_text


@pytest.mark.parametrize("megabytes", [-1, float("nan"), float("inf"), True, "many", None])
def test_wrong_memory_is_refused(megabytes):
    with pytest.raises(ValueError, match=r"`text_state_memory` must be a number of megabytes, at least 0, got "):
        RecentTexts(megabytes)


def add_in_place(model):
    with torch.no_grad():
        model.plm["words"].weight[3, 1] += 1


def train(model):
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    (model.plm["words"].weight.sum() + model.plm["positions"].weight.sum()).backward()
    optimizer.step()
    optimizer.zero_grad()


def load_weights(model):
    model.load_state_dict({name: weights + 1 for name, weights in model.state_dict().items()})


def replace_weights(model):
    model.plm["words"].weight = nn.Parameter(model.plm["words"].weight.detach() + 1)


def replace_data(model):
    model.plm["words"].weight.data = model.plm["words"].weight.data + 1


def write_through_data(model):
    model.plm["words"].weight.data.add_(1)


@pytest.mark.parametrize(
    "change", [add_in_place, train, load_weights, replace_weights, replace_data, write_through_data]
)
def test_changed_weights_forget_the_states(change, model):
    recent = RecentTexts()
    check_states(model, recent, [3, 4])
    change(model)
    check_states(model, recent, [3, 4])
    assert len(model.texts_read) == 2


def test_another_model_and_another_precision_forget_the_states(model):
    recent = RecentTexts()
    check_states(model, recent, [3])
    other = copy.deepcopy(model)
    check_states(other, recent, [3])
    with torch.autocast("cpu", torch.bfloat16):
        check_states(other, recent, [3])
    assert other.texts_read == [[3]] * 3


def test_states_that_were_computed_before_a_change_are_not_kept(model):
    recent, encode = RecentTexts(), model.encode_text

    def encode_while_another_thread_trains(*args):
        states = encode(*args)
        if len(model.texts_read) == 1:
            add_in_place(model)
            recent.shared(model, batch([9]))
        return states

    model.encode_text = encode_while_another_thread_trains
    recent.shared(model, batch([3]))
    check_states(model, recent, [3], [9])
    assert model.texts_read == [[3], [9], [3]]


def test_states_can_be_cleared_and_copies_start_empty(model):
    recent = RecentTexts(7)
    check_states(model, recent, [3])
    for copied in (copy.deepcopy(recent), pickle.loads(pickle.dumps(recent))):
        assert len(copied) == 0
        assert copied.megabytes == 7
    recent.clear()
    assert len(recent) == recent.num_bytes == 0


def test_kept_states_do_not_hold_the_batch_they_came_from(model):
    recent = RecentTexts()
    recent.shared(model, batch([3], [4, 5, 6]))
    for states in recent._states.values():
        assert states.untyped_storage().nbytes() == states.nbytes


def test_threads_share_the_states(model):
    recent = RecentTexts(20 * BYTES_PER_TOKEN / 1e6)
    calls = [[[1 + n % 7] * (1 + n % 5), [1 + n % 3, 2], [1 + n % 11]] for n in range(320)]

    in_threads(lambda texts: check_states(model, recent, *texts), calls)
    assert recent.num_bytes == sum(len(key) + states.nbytes for key, states in recent._states.items())
    assert 0 < recent.num_bytes <= 20 * BYTES_PER_TOKEN


def test_equal_rows_of_ids_are_found():
    kinds = torch.tensor([[1, -1, 3], [1, 2, 3], [2**40, 0, -1]])
    ids = kinds[[2, 0, 0, 2, 1, 0, 2]]
    first_rows, rows = distinct_rows(ids)
    assert len(first_rows) == 3
    assert torch.equal(ids[first_rows][rows], ids)


def test_rows_of_which_half_are_distinct_stay_as_they_are(model):
    ids = torch.arange(6).reshape(3, 2)[[0, 1, 2, 0]]
    assert distinct_rows(ids) is None
    inputs = {"feature_ids": ids}
    assert with_distinct_features(model, inputs) is inputs
    inputs = {"feature_ids": ids[[0, 1, 0, 1, 0]], "other": 1}
    shared = with_distinct_features(model, inputs)
    assert shared.keys() == {"feature_ids", "feature_rows", "other"}
    assert torch.equal(shared["feature_ids"][shared["feature_rows"]], inputs["feature_ids"])
    model.config.use_ctr = False
    assert with_distinct_features(model, inputs) is inputs


def test_different_rows_of_one_hash_stay_apart(monkeypatch):
    monkeypatch.setattr(torch, "randint", lambda high, size, **options: torch.ones(size, dtype=torch.int64))
    assert distinct_rows(torch.tensor([[1, 2], [2, 1], [1, 2], [1, 2], [1, 2]])) is None
