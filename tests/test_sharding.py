"""FSDP2 trains as one process does, in units that suit the model, and what it cannot do is refused."""

import warnings

import pytest
from accelerate.utils import FullyShardedDataParallelPlugin
from safetensors.torch import save_file
from test_processes import report_of
from tiny_models import tiny_config, tiny_ctr_config
from transformers import TrainingArguments
from transformers.integrations import deepspeed

from clickprompt_hf import ClickPromptConfig, ClickPromptForCTR, ClickPromptForPAMLM
from clickprompt_hf.runs import pretrain
from clickprompt_hf.training import ClickPromptTrainer, ClickPromptTrainingArguments, resharding
from clickprompt_hf.training.sharding import (
    check_sharding,
    classes_with_shared_weights,
    projections_read_by_prompts,
    without_tied_copies,
)

CASES = ("released", "paper", "adapters")
LAYER = "clickprompt.plm.encoder.layer.0"


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    return report_of("sharded_processes.py", tmp_path_factory.mktemp("sharded"), "fsdp2", 10, *CASES)


@pytest.mark.parametrize("case", CASES)
def test_two_processes_train_as_one_does(case, report):
    """PA-MLM with a tied head, prompts by the layers' projections, checkpointed activations and LoRA."""
    outcome = report[case]
    assert "errors" not in outcome
    assert outcome["steps"] == 10
    assert outcome["losses"] < 1e-5
    assert outcome["weights"] < 1e-5
    assert outcome["same names"]


def test_units_are_layers_backbone_and_prompt_encoder(report):
    parts = {"", "clickprompt.ctr", "clickprompt.prompt_encoder", LAYER}
    assert parts <= set(report["released"]["units"])
    projections = {f"{LAYER}.attention.self.key", f"{LAYER}.attention.self.value"}
    assert parts | projections <= set(report["paper"]["units"])
    assert not projections & set(report["released"]["units"])


def test_modules_with_tied_weights_are_found():
    tied = ClickPromptForPAMLM(tiny_config())
    assert {"RobertaEmbeddings", "RobertaLMHead", "Linear", "Embedding"} <= classes_with_shared_weights(tied)
    assert not {"RobertaLayer", "DCNv2", "BottleneckPromptEncoder"} & classes_with_shared_weights(tied)
    assert not classes_with_shared_weights(ClickPromptForCTR(tiny_config()))
    kept = without_tied_copies(tied, tied.state_dict())
    assert set(tied.state_dict()) - set(kept) == {"lm_head.decoder.weight", "lm_head.decoder.bias"}


def test_weights_of_another_model_are_not_resumed(tmp_path, monkeypatch):
    # no process shards the model here
    monkeypatch.setattr(resharding, "_is_sharded", lambda model: True)
    saved, model = ClickPromptForPAMLM(tiny_config()), ClickPromptForPAMLM(tiny_config())
    weights = without_tied_copies(saved, saved.state_dict())
    path = tmp_path / "model.safetensors"
    name = next(name for name in weights if "ctr" in name)
    save_file(weights, path)
    resharding.load_weights(model, tmp_path)
    assert all(tensor.equal(saved.state_dict()[key]) for key, tensor in model.state_dict().items())
    for changed, message in (
        ({key: weights[key] for key in weights if key != name}, rf"missing \['{name}'\], unexpected \[\]"),
        ({**weights, "more": weights[name].clone()}, r"missing \[\], unexpected \['more'\]"),
        (
            {f"model.{key}": tensor for key, tensor in weights.items()},
            r"missing \[.* and \d+ more, unexpected \['model\.",
        ),
    ):
        save_file(changed, path)
        with pytest.raises(ValueError, match=rf"model\.safetensors must have the weights .*: {message}"):
            resharding.load_weights(model, tmp_path)


@pytest.mark.parametrize(
    ("family", "prompt_encoder", "count"),
    [("roberta", "paper", 4), ("roberta", "released", 0), ("gpt2", "paper", 2), ("distilbert", "paper", 0)],
)
def test_projections_that_prompts_read(family, prompt_encoder, count):
    """Of two layers: keys and values, or one projection for both; none where prompts are hidden states."""
    model = ClickPromptForCTR(tiny_config(family, prompt_encoder=prompt_encoder))
    assert len(projections_read_by_prompts(model)) == count


def test_models_are_built_whole_in_spite_of_zero3(monkeypatch):
    """ZeRO-3 would build them in parts, without values to check or copy."""
    pretend = "clickprompt_hf.modeling_clickprompt.is_deepspeed_zero3_enabled"
    monkeypatch.setattr(pretend, lambda: True)
    with pytest.raises(ValueError, match="ClickPromptForPAMLM must be built whole, but DeepSpeed's ZeRO-3"):
        ClickPromptForPAMLM(tiny_config())


def test_commands_build_models_whole_in_spite_of_zero3(tmp_path):
    """As `TrainingArguments` do, the parser first lets DeepSpeed's configuration apply to all models that follow."""

    class Zero3:
        def is_zero3(self):
            return True

    config = Zero3()
    deepspeed.set_hf_deepspeed_config(config)
    try:
        assert deepspeed.is_deepspeed_zero3_enabled()
        pretrain.make_parser().parse(["--output_dir", str(tmp_path), "--dataset", "synthetic", "--use_cpu"])
        assert not deepspeed.is_deepspeed_zero3_enabled()
    finally:
        deepspeed.unset_hf_deepspeed_config()


class FakeTrainer:
    """What `check_sharding` reads of a trainer, on accelerators that are not here."""

    is_fsdp_enabled, is_deepspeed_enabled = True, False

    def __init__(self, **options):
        plugin = FullyShardedDataParallelPlugin(fsdp_version=2, **options)
        self.accelerator = type("Fake", (), {"state": type("Fake", (), {"fsdp_plugin": plugin})})


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"cpu_ram_efficient_loading": True}, "`fsdp_cpu_ram_efficient_loading` must be false with FSDP2, got true"),
        ({"activation_checkpointing": True}, "`fsdp_activation_checkpointing` must be false, got true"),
        ({"auto_wrap_policy": "SIZE_BASED_WRAP"}, "`fsdp_auto_wrap_policy` must be TRANSFORMER_BASED_WRAP or NO_WRAP"),
        (
            {"auto_wrap_policy": "TRANSFORMER_BASED_WRAP", "transformer_cls_names_to_wrap": ["RobertaEmbeddings"]},
            "must not name RobertaEmbeddings, which shares weights",
        ),
    ],
)
def test_what_fsdp2_cannot_do_is_refused(options, reason, monkeypatch):
    monkeypatch.setenv("FSDP_CPU_RAM_EFFICIENT_LOADING", "false")
    with pytest.raises(ValueError, match=reason):
        check_sharding(FakeTrainer(**options), ClickPromptForPAMLM(tiny_config()))


def test_training_without_the_wanted_fsdp_is_announced(tmp_path, monkeypatch):
    """On CPUs, accelerate trains without FSDP and says nothing."""
    config = ClickPromptConfig(ctr_config=tiny_ctr_config(), fusion="ctr")
    options = {"report_to": "none", "eval_strategy": "no", "use_cpu": True}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ClickPromptTrainer(ClickPromptForCTR(config), ClickPromptTrainingArguments(str(tmp_path), **options))
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.warns(UserWarning, match=r"FSDP was requested, but .* 1 process\(es\) on cpu holds the full model"):
        ClickPromptTrainer(ClickPromptForCTR(config), ClickPromptTrainingArguments(str(tmp_path), **options))


def test_training_without_the_wanted_deepspeed_is_announced(tmp_path, monkeypatch):
    trainer = FakeTrainer()
    trainer.is_fsdp_enabled, trainer.args = False, TrainingArguments(str(tmp_path), use_cpu=True)
    # which would import DeepSpeed
    monkeypatch.setenv("ACCELERATE_USE_DEEPSPEED", "true")
    with pytest.warns(UserWarning, match=r"DeepSpeed was requested, .* 1 process\(es\) holds the full model"):
        check_sharding(trainer, ClickPromptForPAMLM(tiny_config()))
