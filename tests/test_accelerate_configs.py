"""The configurations of accelerate in examples/: each one loads, and says what its first line says."""

import pytest
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.utils import FullyShardedDataParallelPlugin
from sharded_processes import CONFIGURATIONS, launch_environment
from test_sharding import FakeTrainer
from tiny_models import tiny_config
from torch.distributed.fsdp.wrap import transformer_auto_wrap_policy

from clickprompt_hf import ClickPromptForPAMLM
from clickprompt_hf.training.sharding import check_sharding

FILES = sorted(path.stem for path in CONFIGURATIONS.glob("*.yaml"))
USED = ("ACCELERATE_USE_FSDP", "ACCELERATE_USE_DEEPSPEED")
EXPECTED = {
    "ddp": {},
    "two_processes_cpu": {},
    "fsdp2": {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2", "FSDP_STATE_DICT_TYPE": "SHARDED_STATE_DICT"},
    "deepspeed_zero2": {"ACCELERATE_USE_DEEPSPEED": "true", "ACCELERATE_DEEPSPEED_ZERO_STAGE": "2"},
    "deepspeed_zero3": {
        "ACCELERATE_USE_DEEPSPEED": "true",
        "ACCELERATE_DEEPSPEED_ZERO_STAGE": "3",
        "ACCELERATE_DEEPSPEED_ZERO3_SAVE_16BIT_MODEL": "true",
    },
}


@pytest.mark.parametrize("name", FILES)
def test_configuration_starts_two_processes(name):
    config = load_config_from_file(str(CONFIGURATIONS / f"{name}.yaml"))
    assert (config.num_processes, config.num_machines, config.mixed_precision) == (2, 1, "no")
    assert bool(config.use_cpu) == (name == "two_processes_cpu")
    environment = launch_environment(name)
    assert EXPECTED[name].items() <= environment.items()
    assert {key for key in USED if key in environment} == {key for key in USED if key in EXPECTED[name]}


def test_fsdp2_is_configured_as_the_trainer_needs_it(monkeypatch):
    for key, value in launch_environment("fsdp2").items():
        if key.startswith("FSDP_"):
            monkeypatch.setenv(key, value)
    plugin = FullyShardedDataParallelPlugin()
    assert plugin.fsdp_version == 2
    assert plugin.auto_wrap_policy is transformer_auto_wrap_policy
    trainer = FakeTrainer()
    trainer.accelerator.state.fsdp_plugin = plugin
    check_sharding(trainer, ClickPromptForPAMLM(tiny_config()))
