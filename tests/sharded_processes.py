"""Trains in two processes with a configuration of examples/accelerate_configs and in one without it.

Prints how far apart they end, as JSON: python sharded_processes.py FOLDER CONFIGURATION STEPS CASE ...
"""

import json
import os
import shutil
import sys
import warnings
from pathlib import Path

import torch
from accelerate.commands import launch
from accelerate.utils import merge_fsdp_weights
from accelerate.utils.launch import prepare_deepspeed_cmd_env, prepare_multi_gpu_env
from peft import LoraConfig, get_peft_model
from processes import ForcedFSDPTrainer, in_processes, model_of, trainer_of
from safetensors.torch import load_file
from tiny_data import tiny_roberta_tokenizer, tiny_schema, tiny_splits
from torch.distributed.fsdp import FSDPModule
from transformers import AutoModelForMaskedLM, AutoProcessor

from clickprompt_hf import ClickPromptForCTR, ClickPromptForPAMLM, ClickPromptProcessor
from clickprompt_hf.data.columnar import load_prepared, prepare_splits
from clickprompt_hf.training import ClickPromptTrainer

STEPS_PER_EPOCH = 5
CONFIGURATIONS = Path(__file__).parents[1] / "examples" / "accelerate_configs"
# what is trained, the options of its configuration and of training, and whether it has adapters
CASES = {
    "released": ("pamlm", {}, {"gradient_checkpointing": True}, False),
    "paper": ("pamlm", {"prompt_encoder": "paper"}, {"gradient_checkpointing": True}, False),
    "low_rank": ("pamlm", {"prompt_encoder": "low_rank", "prompt_rank": 4}, {}, False),
    "untied": ("pamlm", {"tie_word_embeddings": False}, {}, False),
    "clicks": ("ctr", {"prompt_encoder": "paper", "fusion": "weighted"}, {"freeze": ["plm"]}, False),
    "adapters": ("ctr", {"prompt_encoder": "paper"}, {"gradient_checkpointing": True}, True),
    "alone": ("alone", {}, {}, False),
}
# Adding a constant to all keys changes nothing if the paper's prompts get it as well: these gradients are rounding
# errors, which Adam makes as large as any.
NOISE = ".key.bias"
# numbers of processes and configurations that save and that resume
RESUMED = {
    "fsdp2": [
        ("2 to 1", (2, "fsdp2"), (1, "fsdp2")),
        ("1 to 2", (1, "fsdp2"), (2, "fsdp2")),
        ("2 to whole", (2, "fsdp2"), (1, None)),
        ("whole to 2", (1, None), (2, "fsdp2")),
    ],
    "deepspeed_zero3": [("2 to 2", (2, "deepspeed_zero3"), (2, "deepspeed_zero3"))],
}
# one unit instead of one per layer
ENVIRONMENTS = {"low_rank": {"FSDP_AUTO_WRAP_POLICY": "NO_WRAP"}}


def launch_environment(configuration):
    """The environment that `accelerate launch` gives its processes for a configuration file."""
    path = CONFIGURATIONS / f"{configuration}.yaml"
    args = launch.launch_command_parser().parse_args(["--config_file", str(path), "script.py"])
    args, config, _ = launch._validate_launch_command(args)
    if args.use_deepspeed:
        args.deepspeed_fields_from_accelerate_config = ",".join(config.deepspeed_config)
        # on CPUs, with gloo
        return {**prepare_deepspeed_cmd_env(args)[1], "DS_ACCELERATOR": "cpu", "CUDA_VISIBLE_DEVICES": ""}
    return prepare_multi_gpu_env(args)


def trainer_of_case(case, folder, prepared, processes, configuration=None, **training):
    """The trainer of a case; with the name of a configuration of accelerate, as that says."""
    kind, config, options, has_adapters = CASES[case]
    if configuration:
        os.environ.update({**launch_environment(configuration), **ENVIRONMENTS.get(case, {})})
    model = model_of(kind, prepared[1], **config)
    if has_adapters:
        torch.manual_seed(1)
        parts = ["ctr", "prompt_encoder", "ctr_head", "text_head"]
        model = get_peft_model(model, LoraConfig(r=2, target_modules=["query", "key"], modules_to_save=parts))
    training = {"eval_strategy": "no", "save_strategy": "no", "load_best_model_at_end": False, **options, **training}
    training |= {"learning_rate": 1e-3, "plm_learning_rate": 5e-4, "seed": 1}
    # with `use_cpu`, accelerate would do without DeepSpeed
    training["use_cpu"] = "deepspeed" not in str(configuration)
    trainer_class = ForcedFSDPTrainer if "fsdp" in str(configuration) else ClickPromptTrainer
    return trainer_of(folder, prepared, model, processes, 14, trainer_class, **training)


def compared(case, folder, prepared, configuration, steps):
    """How far losses and weights of two processes are from those of one, and what was sharded how."""
    ends = []
    for processes, chosen in ((1, None), (2, configuration)):
        output = folder / f"{case}-{processes}"

        def work(output=output, processes=processes, chosen=chosen):
            epochs = {"num_train_epochs": steps // STEPS_PER_EPOCH}
            trainer = trainer_of_case(case, output, prepared, processes, chosen, **epochs)
            trainer.train()
            trainer.save_model()
            units = [name for name, module in trainer.model.named_modules() if isinstance(module, FSDPModule)]
            losses = [row["loss"] for row in trainer.state.log_history if "loss" in row]
            stage = trainer.deepspeed.zero_optimization_stage() if trainer.is_deepspeed_enabled else None
            kind = [trainer.accelerator.distributed_type.name, stage]
            return {"losses": losses, "units": units, "kind": kind}

        results = in_processes(processes, work, folder)
        if errors := [result["error"] for result in results if "error" in result]:
            return {"errors": errors}
        weights = next(output.glob("*.safetensors"))
        ends.append((results[0], load_file(weights)))
    (one, weights), (two, others) = ends
    if not CASES[case][3]:
        (ClickPromptForPAMLM if CASES[case][0] == "pamlm" else ClickPromptForCTR).from_pretrained(output)
    noise = NOISE if CASES[case][1].get("prompt_encoder") == "paper" else "nothing"
    return {
        "steps": len(one["losses"]),
        "losses": max(abs(a - b) for a, b in zip(one["losses"], two["losses"], strict=True)),
        "weights": max((weights[name] - others[name]).abs().max().item() for name in weights if noise not in name),
        "same names": sorted(weights) == sorted(others),
        "units": two["units"],
        "kind": two["kind"],
    }


def resumed(folder, prepared, configuration):
    """How far runs are from an uninterrupted one of 20 steps, if other processes resume them after 10 steps."""

    def train(output, processes, configuration, epochs, resume):
        def work():
            schedule = {"lr_scheduler_type": "constant", "save_strategy": "epoch", "save_total_limit": 1}
            trainer = trainer_of_case(
                "paper", output, prepared, processes, configuration, num_train_epochs=epochs, **schedule
            )
            trainer.train(resume_from_checkpoint=resume)
            trainer.save_model()
            return {"losses": [row["loss"] for row in trainer.state.log_history if "loss" in row]}

        # as torchrun starts one process
        os.environ.pop("RANK", None)
        if processes == 1 and configuration:
            os.environ.update(RANK="0", LOCAL_RANK="0", WORLD_SIZE="1", LOCAL_WORLD_SIZE="1")
            os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT="0")
        try:
            return in_processes(processes, work, folder)[0]
        finally:
            for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE"):
                os.environ.pop(name, None)

    expected = train(folder / "uninterrupted", 1, None, 4, None)
    weights = load_file(folder / "uninterrupted" / "model.safetensors")
    report = {}
    for name, first, second in RESUMED[configuration]:
        output = folder / f"resumed-{name}"
        before = train(output, *first, 2, None)
        if "error" not in before and "fsdp2" in first:
            report[f"{name}: exported"] = exported(output / "checkpoint-10", folder / f"exported-{name}")
        outcome = train(output, *second, 4, True)
        if errors := [end["error"] for end in (before, outcome) if "error" in end]:
            report[name] = {"errors": errors}
            continue
        others = load_file(output / "model.safetensors")
        report[name] = {
            "steps": len(outcome["losses"]),
            "losses": max(abs(a - b) for a, b in zip(expected["losses"], outcome["losses"], strict=True)),
            "weights": max((weights[key] - others[key]).abs().max().item() for key in weights if NOISE not in key),
        }
    return report


def exported(checkpoint, folder):
    """Merge the shards of a checkpoint as `accelerate merge-weights` does, and load the result."""
    shutil.copytree(checkpoint, folder, ignore=shutil.ignore_patterns("pytorch_model_fsdp_*", "optimizer_*"))
    merge_fsdp_weights(str(checkpoint / "pytorch_model_fsdp_0"), str(folder))
    model = AutoModelForMaskedLM.from_pretrained(folder)
    processor = AutoProcessor.from_pretrained(folder)
    merged = load_file(folder / "model.safetensors")
    own = model.state_dict()
    return [type(model).__name__, type(processor).__name__, all(merged[key].equal(own[key]) for key in own)]


def prepared_rows(folder):
    splits = tiny_splits()
    processor = ClickPromptProcessor.fit(splits["train"], tiny_schema(), tiny_roberta_tokenizer())
    prepare_splits(splits, processor, folder / "data")
    return load_prepared(folder / "data")


def main():
    warnings.simplefilter("ignore")
    folder, configuration, steps, cases = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), sys.argv[4:]
    prepared = prepared_rows(folder)
    if cases == ["resumed"]:
        print(json.dumps(resumed(folder, prepared, configuration)))
        return
    print(json.dumps({case: compared(case, folder, prepared, configuration, steps) for case in cases}))


if __name__ == "__main__":
    main()
