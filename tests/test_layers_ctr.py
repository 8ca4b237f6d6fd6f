"""Backbone layers against hand-computed values."""

import functools

import pytest
import torch
from tiny_models import BACKBONES, tiny_batch, tiny_config, tiny_ctr_config

from clickprompt_hf import ClickPromptModel
from clickprompt_hf.click_heads import TextHead
from clickprompt_hf.layers_ctr import (
    DNN,
    BilinearInteraction,
    CompressedInteractionNetwork,
    CrossNet,
    CrossNetV2,
    FeatureEmbedding,
    FeatureGeneration,
    FieldGraph,
    FieldSelfAttention,
    FirstOrder,
    InnerProducts,
    SecondOrder,
    SENet,
)
from clickprompt_hf.modeling_ctr import build_backbone

# fields (1, 2), (3, 4), (5, 6)
THREE_FIELDS = torch.tensor([[[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]])


def fill(parameter: torch.Tensor, values) -> None:
    with torch.no_grad():
        parameter.copy_(torch.tensor(values, dtype=parameter.dtype).view_as(parameter))


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


def test_first_order_adds_one_weight_per_feature():
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


def test_cross_layers_with_vectors():
    net = CrossNet(2, num_layers=2)
    fill(net.layers[0].weight, [1.0, 2.0])
    fill(net.biases[0], [0.5, -1.0])
    fill(net.layers[1].weight, [1.0, 0.0])
    # x0 = (1, 2), w x0 = 5: x1 = 5 (1, 2) + (0.5, -1) + (1, 2) = (6.5, 11); w x1 = 6.5: x2 = (6.5, 13) + (6.5, 11)
    assert net(torch.tensor([[1.0, 2.0]])).tolist() == [[13.0, 24.0]]


def test_inner_products_of_all_pairs():
    # (1, 2)·(3, 4), (1, 2)·(5, 6), (3, 4)·(5, 6); FM's second order is their sum
    assert InnerProducts(3)(THREE_FIELDS).tolist() == [[11.0, 17.0, 39.0]]
    assert SecondOrder()(THREE_FIELDS).sum() == 67


def test_compressed_interaction_network():
    network = CompressedInteractionNetwork(2, [1, 1])
    # feature map 1: e0 * e1 alone (pair f=0, m=1); feature map 2: e1 * map 1, plus 0.5 at each component
    fill(network.layers[0].weight, [0.0, 1.0, 0.0, 0.0])
    fill(network.layers[0].bias, [0.0])
    fill(network.layers[1].weight, [0.0, 1.0])
    fill(network.layers[1].bias, [0.5])
    # e0 = (1, 2), e1 = (3, 4): map 1 = (3, 8), sum 11; map 2 = (9.5, 32.5), sum 42
    assert network(THREE_FIELDS[:, :2]).tolist() == [[11.0, 42.0]]


@pytest.mark.parametrize("heads", [1, 2, 3])
def test_field_attention_has_independent_heads(heads):
    torch.manual_seed(0)
    layer = FieldSelfAttention(4, 6, heads, scale=True)
    fields = torch.randn(2, 3, 4)
    query, key, value = layer.query(fields), layer.key(fields), layer.value(fields)
    width = 6 // heads
    expected = []
    for head in range(heads):
        part = slice(head * width, (head + 1) * width)
        scores = query[..., part] @ key[..., part].transpose(1, 2) / width**0.5
        expected.append(scores.softmax(dim=-1) @ value[..., part])
    expected = torch.relu(torch.cat(expected, dim=-1) + layer.residual_projection(fields))
    torch.testing.assert_close(layer(fields), expected)


def test_heads_must_divide_the_attention():
    with pytest.raises(ValueError, match="`num_attention_heads` must divide 6, got 4"):
        FieldSelfAttention(4, 6, 4)


def test_squeeze_and_excitation():
    layer = SENet(3, reduction_ratio=3)
    fill(layer.squeeze.weight, [1.0, 0.0, 1.0])
    fill(layer.excite.weight, [0.5, -1.0, 0.25])
    # means 1.5, 3.5, 5.5; bottleneck 7; weights 3.5, 0, 1.75
    assert layer(THREE_FIELDS).tolist() == [[[3.5, 7.0], [0.0, 0.0], [8.75, 10.5]]]


@pytest.mark.parametrize(("kind", "matrices"), [("all", [0, 0, 0]), ("each", [0, 0, 1]), ("interaction", [0, 1, 2])])
def test_bilinear_interaction(kind, matrices):
    layer = BilinearInteraction(3, 2, kind)
    assert len(layer.layers) == len(set(matrices))
    for index, linear in enumerate(layer.layers):
        # swaps the two components, times index + 1
        fill(linear.weight, [[0.0, index + 1.0], [index + 1.0, 0.0]])
    swapped = [(2.0 * 3, 1.0 * 4), (2.0 * 5, 1.0 * 6), (4.0 * 5, 3.0 * 6)]
    expected = [[(matrix + 1) * a, (matrix + 1) * b] for matrix, (a, b) in zip(matrices, swapped)]
    assert layer(THREE_FIELDS).tolist() == [expected]


def test_no_node_of_the_field_graph_talks_to_itself():
    torch.manual_seed(0)
    graph = FieldGraph(3, 2, num_layers=2, share_layers=True, residual=True)
    assert len(graph.steps) == 1
    weights = graph.edge_weights(THREE_FIELDS)
    # w^T [e_f, e_g] for f = 0 and g = 1, 2
    pairs = [torch.cat([THREE_FIELDS[0, 0], THREE_FIELDS[0, g]]) for g in (1, 2)]
    scores = torch.nn.functional.leaky_relu(torch.stack([graph.edge(pair)[0] for pair in pairs]), 0.01)
    torch.testing.assert_close(weights[0, 0], torch.cat([torch.zeros(1), scores.softmax(0)]))
    assert torch.equal(weights[0].diagonal(), torch.zeros(3))


def test_feature_generation_counts_its_features():
    # 5 fields: after pooling by 2, 3 and then 2 heights remain; 2 and 3 new features for each
    layer = FeatureGeneration(5, 4, [2, 3], [3, 3], [2, 2], [2, 3])
    assert layer(torch.randn(6, 5, 4)).shape == (6, 2 * 3 + 3 * 2, 4)
    assert layer.num_features == 12
    with pytest.raises(ValueError, match="`fgcnn_channels`.*one number per layer"):
        FeatureGeneration(5, 4, [2], [3, 3], [2, 2], [2, 3])


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: FeatureGeneration(5, 4, [2], [2], [2], [2]), "`fgcnn_kernel_heights` must be odd"),
        (lambda: FeatureGeneration(5, 4, [2], [3], [3], [2]), "`fgcnn_pooling_sizes` must leave"),
        (lambda: FieldGraph(1, 4, 2, True, True), "`field_sizes` must have at least 2 fields"),
        (lambda: BilinearInteraction(1, 4, "each"), "`field_sizes` must have at least 2 fields"),
        (lambda: build_backbone(tiny_ctr_config("transformer", hidden_act="wave")), "`hidden_act` must be one of"),
    ],
)
def test_impossible_shapes_are_refused_when_built(build, message):
    with pytest.raises(ValueError, match=message):
        build()


def test_only_multi_valued_fields_have_empty_slots():
    embedding = FeatureEmbedding([4, 5], 2, max_values=[1, 2])
    embedding(torch.tensor([[0, 1, -1]]))
    with pytest.raises(IndexError, match=r"`feature_ids\[0, 0\]`"):
        embedding(torch.tensor([[-1, 1, -1]]))


def test_attention_without_hidden_layers():
    backbone = build_backbone(tiny_ctr_config("autoint", dnn_hidden_sizes=[]))
    assert backbone.interaction_size == 3 * 6
    assert backbone(tiny_batch()["feature_ids"]).shape == (5, 18)
    with pytest.raises(ValueError, match="`dnn_hidden_sizes` must name at least one layer"):
        build_backbone(tiny_ctr_config("dnn", dnn_hidden_sizes=[]))


LAYERS = {
    "second_order": SecondOrder(),
    "inner_products": InnerProducts(3),
    "cin": CompressedInteractionNetwork(3, [2, 2]),
    "attention": FieldSelfAttention(2, 4, 2),
    "senet": SENet(3, 2),
    "bilinear all": BilinearInteraction(3, 2, "all"),
    "bilinear each": BilinearInteraction(3, 2, "each"),
    "bilinear interaction": BilinearInteraction(3, 2, "interaction"),
    "graph": FieldGraph(3, 2, 2, share_layers=False, residual=True),
    "generation": FeatureGeneration(3, 2, [2], [3], [2], [2]),
    "cross": torch.nn.Sequential(torch.nn.Flatten(), CrossNet(6, 2)),
    "cross v2": torch.nn.Sequential(torch.nn.Flatten(), CrossNetV2(6, 2)),
    "dnn": torch.nn.Sequential(torch.nn.Flatten(), DNN(6, [4, 3], "gelu")),
    "graph step": FieldGraph(3, 2, 3, share_layers=True, residual=False),
    "generation of two layers": FeatureGeneration(3, 2, [2, 3], [3, 3], [2, 2], [2, 1]),
    "text head": torch.nn.Sequential(torch.nn.Flatten(), TextHead(6)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_gradients_equal_finite_differences(name):
    torch.manual_seed(0)
    layer = LAYERS[name].double().eval()
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    inputs = torch.randn(2, 3, 2, dtype=torch.float64, requires_grad=True)
    parameters = list(layer.parameters())

    def run(inputs, *values):
        return torch.func.functional_call(layer, dict(zip(dict(layer.named_parameters()), values)), (inputs,))

    assert torch.autograd.gradcheck(run, (inputs, *parameters))


@pytest.mark.parametrize("backbone", BACKBONES)
def test_gradients_of_heads_equal_finite_differences(backbone):
    torch.manual_seed(0)
    model = build_backbone(tiny_ctr_config(backbone)).double().eval()
    head = model.make_head().double()
    for parameter in [*model.parameters(), *head.parameters()]:
        torch.nn.init.normal_(parameter, std=0.5)
    feature_ids = tiny_batch(rows=3)["feature_ids"]
    parameters = dict(torch.nn.ModuleList([model, head]).named_parameters())

    def run(*values):
        own = [{name[2:]: value for name, value in zip(parameters, values) if name.startswith(part)} for part in "01"]
        interaction = torch.func.functional_call(model, own[0], (feature_ids,))
        return torch.func.functional_call(head, own[1], (interaction, feature_ids))

    # from the ids to the click logit, embeddings included; one random direction per parameter
    assert torch.autograd.gradcheck(run, tuple(parameters.values()), fast_mode=True)


@pytest.mark.parametrize(
    "prompts",
    [
        {"prompt_encoder": "released"},
        {"prompt_encoder": "low_rank", "prompt_rank": 3},
        {"prompt_encoder": "paper"},
        {"prompt_strategy": "shallow"},
        {"normalize_prompts": True},
    ],
)
@pytest.mark.parametrize("family", ["roberta", "distilbert"])
def test_gradients_of_prompt_encoders_equal_finite_differences(family, prompts):
    torch.manual_seed(0)
    model = ClickPromptModel(tiny_config(family, **prompts)).double().eval()
    encoder, project = model.prompt_encoder, functools.partial(model.injection.project, model.plm)
    interaction = torch.randn(2, model.ctr.interaction_size, dtype=torch.float64, requires_grad=True)
    parameters = dict(encoder.named_parameters())

    def run(interaction, *values):
        return torch.func.functional_call(encoder, dict(zip(parameters, values)), (interaction, project))

    assert torch.autograd.gradcheck(run, (interaction, *parameters.values()), fast_mode=True)
