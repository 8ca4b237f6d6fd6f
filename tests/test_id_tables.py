"""Id embedding tables in int8 and bfloat16, in the export of the CTR part."""

import copy
import re

import numpy as np
import onnx
import pytest
import torch
from test_export_ctr import PROCESSOR, awkward_rows, save_checkpoint
from torch import nn

from clickprompt_hf.export.ctr_program import ClickProbability
from clickprompt_hf.export.export_ctr import export_ctr
from clickprompt_hf.export.id_tables import Bfloat16Table, Int8Table, convert_id_tables
from clickprompt_hf.export.scorer import Scorer
from clickprompt_hf.layers_ctr import FeatureEmbedding
from clickprompt_hf.runs.export import main
from clickprompt_hf.runs.serve import load_engine


def test_a_row_of_many_weights_has_a_scale_of_its_own():
    weight = torch.zeros(3, 40)
    weight[0, :3] = torch.tensor([1.27, -0.634, 0.004])
    weight[2, :2] = torch.tensor([-254.0, 3.1])
    table = Int8Table(weight)
    assert table.rows_per_scale == 1
    torch.testing.assert_close(table.scale[:, 0], torch.tensor([0.01, 0.0, 2.0]))
    assert table.weight[0, :4].tolist() == [127, -63, 0, 0]
    assert table.weight[2, :3].tolist() == [-127, 2, 0]
    embeddings = table(torch.tensor([[2, 1], [0, 2]]))
    assert embeddings.shape == (2, 2, 40)
    torch.testing.assert_close(embeddings[0, 0, :2], torch.tensor([-254.0, 4.0]))
    torch.testing.assert_close(embeddings[1, 0, :3], torch.tensor([1.27, -0.63, 0.0]))
    assert not embeddings[0, 1].any()


@pytest.mark.parametrize("num_rows", [1, 31, 32, 33, 150])
def test_narrow_rows_share_scales(num_rows, monkeypatch):
    # blocks end within a group
    monkeypatch.setattr("clickprompt_hf.export.id_tables._ROWS_PER_BLOCK", 70)
    weight = torch.linspace(-3, 3, num_rows)[:, None] + 0.01
    table = Int8Table(weight)
    assert table.rows_per_scale == 32
    assert table.scale.shape == (-(-num_rows // 32), 1)
    for group, scale in zip(weight.split(32), table.scale):
        assert scale.item() == pytest.approx(group.abs().max().item() / 127)
    half_step = table.scale.repeat_interleave(32, dim=0)[:num_rows] / 2
    assert ((table.dequantized() - weight).abs() <= half_step * (1 + 1e-5)).all()


def test_tables_take_a_quarter_and_half_of_the_bytes():
    weight = torch.randn(1000, 32)
    sizes = [sum(part.nbytes for part in table.buffers()) for table in (Bfloat16Table(weight), Int8Table(weight))]
    assert sizes == [weight.nbytes / 2, weight.nbytes * 9 / 32]
    torch.testing.assert_close(Bfloat16Table(weight).dequantized(), weight, rtol=2**-8, atol=0)


def with_dequantized_tables(model, dtype):
    """The model with ordinary tables of the weights that a converted one sees."""
    model, converted = copy.deepcopy(model), copy.deepcopy(model)
    convert_id_tables(converted, dtype)
    for name, module in converted.named_modules():
        if isinstance(module, FeatureEmbedding):
            model.get_submodule(name).table = nn.Embedding.from_pretrained(module.table.dequantized())
    return model


@pytest.mark.parametrize(("dtype", "backbone", "num_tables"), [("int8", "fm", 2), ("bfloat16", "dcnv2", 1)])
def test_the_graph_scores_with_dequantized_weights(dtype, backbone, num_tables, tmp_path, capsys):
    first_order = {"ctr_options": {"first_order": True}} if backbone == "fm" else {}
    model = save_checkpoint(tmp_path / "whole", backbone=backbone, fusion="ctr", **first_order)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) / 10)
    model.save_pretrained(tmp_path / "whole")
    main([str(tmp_path / "whole"), str(tmp_path / "small"), "--torch_program", "--id_table_dtype", dtype])

    rows = awkward_rows()
    ids = torch.as_tensor(PROCESSOR.encode(rows), dtype=torch.int64)
    with torch.no_grad():
        exact = ClickProbability(model)(ids).numpy()
        expected = ClickProbability(with_dequantized_tables(model, dtype))(ids).numpy()
    scores = Scorer(tmp_path / "small").score(rows)
    np.testing.assert_allclose(scores, expected, rtol=0, atol=1e-6)
    with torch.no_grad():
        of_program = torch.export.load(tmp_path / "small" / "model.pt2").module()(ids).numpy()
    np.testing.assert_allclose(of_program, expected, rtol=0, atol=1e-6)
    # the tables were converted, and the export says by how much that changes scores
    assert 1e-6 < np.abs(scores - exact).max() < 0.02
    printed = re.search(r"differ from the checkpoint's by at most (\S+)\.\n", capsys.readouterr().out)
    assert 1e-6 < float(printed[1]) < 0.02
    stored = [tensor.data_type for tensor in onnx.load(tmp_path / "small" / "model.onnx").graph.initializer]
    assert stored.count({"bfloat16": onnx.TensorProto.BFLOAT16, "int8": onnx.TensorProto.INT8}[dtype]) == num_tables

    engine = load_engine(str(tmp_path / "small"))
    np.testing.assert_array_equal(engine.score((ids.numpy(), None)), scores)


def test_wrong_types_are_refused(tmp_path):
    with pytest.raises(ValueError, match="`id_table_dtype` must be left out with --with_plm, got 'int8': --int8"):
        main([str(tmp_path / "whole"), str(tmp_path / "new"), "--with_plm", "--id_table_dtype", "int8"])
    with pytest.raises(ValueError, match=r"`id_table_dtype` must be one of \['float32', .*\], got 'int4'"):
        export_ctr(tmp_path / "whole", tmp_path / "new", id_table_dtype="int4")
    assert not (tmp_path / "new").exists()
