"""LM heads: a family that transformers breaks does not stop the others."""

import os
import sys

import pytest
import torch
from tiny_models import tiny_batch, tiny_config, tiny_ctr_config
from warm_python import run_python

from clickprompt_hf import ClickPromptConfig, ClickPromptForCTR, ClickPromptForPAMLM
from clickprompt_hf.lm_heads import _MASKED_LM_HEADS, transformers_head

PROGRAM = """
import sys

class Refuse:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name == "transformers.models.mpnet.modeling_mpnet":
            raise ImportError("MPNet is broken")

sys.meta_path.insert(0, Refuse)

import torch
from transformers import AutoModelForMaskedLM, AutoModelForSequenceClassification

import clickprompt_hf

folder = sys.argv[1]
batch = torch.load(f"{folder}/batch.pt")
with torch.no_grad():
    pamlm = AutoModelForMaskedLM.from_pretrained(f"{folder}/pamlm")(**batch).logits
    alone = AutoModelForSequenceClassification.from_pretrained(f"{folder}/alone")(batch["feature_ids"]).logits
torch.save([pamlm, alone], f"{folder}/logits.pt")
try:
    AutoModelForMaskedLM.from_pretrained(f"{folder}/mpnet")
except (ImportError, RuntimeError) as error:
    print(error)
print(sorted(name for name in sys.modules if name.startswith("transformers.models.") and ".modeling_" in name))
"""


@torch.no_grad()
def test_checkpoints_load_without_the_module_of_another_family(tmp_path):
    torch.manual_seed(0)
    pamlm = ClickPromptForPAMLM(tiny_config()).eval()
    alone = ClickPromptForCTR(ClickPromptConfig(ctr_config=tiny_ctr_config(), fusion="ctr")).eval()
    pamlm.save_pretrained(tmp_path / "pamlm")
    alone.save_pretrained(tmp_path / "alone")
    ClickPromptForPAMLM(tiny_config("mpnet")).save_pretrained(tmp_path / "mpnet")
    batch = tiny_batch()
    torch.save(batch, tmp_path / "batch.pt")
    run = run_python("-c", PROGRAM, tmp_path, PYTHONPATH=os.pathsep.join(sys.path))
    assert run.returncode == 0, run.stderr
    expected = [pamlm(**batch).logits, alone(batch["feature_ids"]).logits]
    for found, logits in zip(torch.load(tmp_path / "logits.pt"), expected):
        torch.testing.assert_close(found, logits)
    assert "MPNet is broken" in run.stdout
    # no head of another family was imported
    assert "modeling_roberta" in run.stdout
    assert "modeling_electra" not in run.stdout


def test_a_head_that_transformers_no_longer_has_is_named():
    with pytest.raises(ImportError, match=r"LM head of 'roberta' needs `LostHead` from .*modeling_roberta"):
        transformers_head("roberta.LostHead", tiny_config().text_config)


@pytest.mark.parametrize("family", sorted(_MASKED_LM_HEADS))
def test_second_biases_start_at_zero(family):
    model = ClickPromptForPAMLM(tiny_config(family))
    bias = model.head_family.bias
    if bias is not None:
        parameter = model.lm_head.get_parameter(bias)
        torch.nn.init.ones_(parameter)
        for module in model.lm_head.modules():
            model._init_weights(module)
        assert not parameter.any()
