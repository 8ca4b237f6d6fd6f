"""Layers of the backbones against values worked out by hand."""

import pytest
import torch

from clickprompt_hf.layers_ctr import DNN, CrossNetV2, FeatureEmbedding, FirstOrder, SecondOrder


def test_second_order_is_the_sum_of_pairwise_products():
    # fields (1, 2), (3, 4), (5, 6): component 0: 1*3 + 1*5 + 3*5 = 23; component 1: 2*4 + 2*6 + 4*6 = 44
    embeddings = torch.tensor([[[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]])
    assert SecondOrder()(embeddings).tolist() == [[23.0, 44.0]]


def test_cross_layers():
    net = CrossNetV2(2, num_layers=2)
    with torch.no_grad():
        net.layers[0].weight.copy_(torch.tensor([[1.0, 2.0], [0.0, 1.0]]))
        net.layers[0].bias.copy_(torch.tensor([0.5, -1.0]))
        net.layers[1].weight.copy_(torch.tensor([[0.0, 1.0], [1.0, 0.0]]))
        net.layers[1].bias.zero_()
    # x0 = (1, 2). W x0 + b = (5.5, 1); x1 = x0 * (5.5, 1) + x0 = (6.5, 4)
    # W x1 = (4, 6.5); x2 = x0 * (4, 6.5) + x1 = (10.5, 17)
    assert net(torch.tensor([[1.0, 2.0]])).tolist() == [[10.5, 17.0]]


def test_first_order_adds_one_weight_a_feature():
    layer = FirstOrder([2, 3])
    with torch.no_grad():
        layer.weight.table.weight.copy_(torch.tensor([[1.0], [2.0], [10.0], [20.0], [30.0]]))
        layer.bias.fill_(0.5)
    assert layer(torch.tensor([[1, 2], [0, 0]])).tolist() == [[32.5], [11.5]]


def test_dnn_applies_the_activation_after_every_layer():
    dnn = DNN(1, [1, 1])
    with torch.no_grad():
        for layer, weight in zip(dnn.layers, (2.0, -1.0)):
            layer.weight.fill_(weight)
            layer.bias.fill_(1.0)
    # relu(2x + 1), then relu(1 - that): x = -1 gives 0, then 1; x = 1 gives 3, then 0
    assert dnn(torch.tensor([[-1.0], [1.0]])).tolist() == [[1.0], [0.0]]


def test_feature_embedding_reads_each_field_in_its_own_rows():
    embedding = FeatureEmbedding([2, 3], 1)
    with torch.no_grad():
        embedding.table.weight.copy_(torch.arange(5.0).unsqueeze(-1))
    assert embedding(torch.tensor([[1, 0], [0, 2]])).squeeze(-1).tolist() == [[1.0, 2.0], [0.0, 4.0]]


def test_multi_valued_field_is_the_mean_of_its_values():
    embedding = FeatureEmbedding([2, 4], 1, max_values=[1, 3])
    with torch.no_grad():
        embedding.table.weight.copy_(torch.arange(6.0).unsqueeze(-1))
    # field 1 owns rows 2..5: ids (1, 3) are rows 3 and 5, mean 4; no value at all is 0
    rows = torch.tensor([[1, 1, 3, -1], [0, -1, -1, -1]])
    assert embedding(rows).squeeze(-1).tolist() == [[1.0, 4.0], [0.0, 0.0]]


@pytest.mark.parametrize("feature_ids", [[[2, 0]], [[0, 3]], [[-1, 0]]])
def test_an_id_outside_its_field_is_refused(feature_ids):
    with pytest.raises(IndexError, match=r"feature_ids\[0, [01]\].* must be in \[0, [23]\)"):
        FeatureEmbedding([2, 3], 1)(torch.tensor(feature_ids))


def test_a_batch_of_another_width_is_refused():
    with pytest.raises(ValueError, match=r"shape \(batch, 2\), got \(1, 3\)"):
        FeatureEmbedding([2, 3], 1)(torch.zeros(1, 3, dtype=torch.int64))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: DNN(2, []), "dnn_hidden_sizes"),
        (lambda: DNN(2, [2], activation="step"), "hidden_act.*'step'"),
        (lambda: FeatureEmbedding([], 2), "field_sizes"),
    ],
)
def test_impossible_layers_are_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()
