"""Trains with FSDP2 in two processes and without it in one, and prints how far apart they end as JSON.

python sharded_processes.py FOLDER STEPS CASE ...
"""

import json
import os
import sys
import warnings
from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model
from processes import ForcedFSDPTrainer, in_processes, model_of, trainer_of
from safetensors.torch import load_file
from tiny_data import tiny_roberta_tokenizer, tiny_schema, tiny_splits
from torch.distributed.fsdp import FSDPModule

from clickprompt_hf import ClickPromptForCTR, ClickPromptForPAMLM, ClickPromptProcessor
from clickprompt_hf.data.columnar import load_prepared, prepare_splits
from clickprompt_hf.training import ClickPromptTrainer

STEPS_PER_EPOCH = 5
LAYERS = {"FSDP_AUTO_WRAP_POLICY": "TRANSFORMER_BASED_WRAP"}
WHOLE = {"FSDP_AUTO_WRAP_POLICY": "NO_WRAP"}
# what is trained, the options of its configuration and of training, adapters, and the environment of FSDP
CASES = {
    "released": ("pamlm", {}, {"gradient_checkpointing": True}, False, LAYERS),
    "paper": ("pamlm", {"prompt_encoder": "paper"}, {"gradient_checkpointing": True}, False, LAYERS),
    "low_rank": ("pamlm", {"prompt_encoder": "low_rank", "prompt_rank": 4}, {}, False, WHOLE),
    "untied": ("pamlm", {"tie_word_embeddings": False}, {}, False, LAYERS),
    "clicks": ("ctr", {"prompt_encoder": "paper", "fusion": "weighted"}, {"freeze": ["plm"]}, False, LAYERS),
    "adapters": ("ctr", {"prompt_encoder": "paper"}, {"gradient_checkpointing": True}, True, LAYERS),
    "alone": ("alone", {}, {}, False, LAYERS),
}


def fsdp_environment(**options):
    """Set what `accelerate launch` sets for FSDP2."""
    os.environ.update(ACCELERATE_USE_FSDP="true", FSDP_VERSION="2", FSDP_RESHARD_AFTER_FORWARD="true", **options)


def trainer_of_case(case, folder, prepared, processes, shards, **training):
    """The trainer of a case; with `shards`, by FSDP2."""
    kind, config, options, has_adapters, environment = CASES[case]
    if shards:
        fsdp_environment(**environment)
    model = model_of(kind, prepared[1], **config)
    if has_adapters:
        torch.manual_seed(1)
        parts = ["ctr", "prompt_encoder", "ctr_head", "text_head"]
        model = get_peft_model(model, LoraConfig(r=2, target_modules=["query", "key"], modules_to_save=parts))
    training = {"eval_strategy": "no", "save_strategy": "no", "load_best_model_at_end": False, **options, **training}
    training |= {"learning_rate": 1e-3, "plm_learning_rate": 1e-3, "seed": 1}
    trainer_class = ForcedFSDPTrainer if shards else ClickPromptTrainer
    return trainer_of(folder, prepared, model, processes, 14, trainer_class, **training)


def compared(case, folder, prepared, steps):
    """How far losses and weights of two processes with FSDP2 are from those of one without, and what was sharded."""
    ends = []
    for processes in (1, 2):
        output = folder / f"{case}-{processes}"

        def work(output=output, processes=processes):
            trainer = trainer_of_case(
                case, output, prepared, processes, processes > 1, num_train_epochs=steps // STEPS_PER_EPOCH
            )
            trainer.train()
            trainer.save_model()
            units = [name for name, module in trainer.model.named_modules() if isinstance(module, FSDPModule)]
            return {"losses": [row["loss"] for row in trainer.state.log_history if "loss" in row], "units": units}

        results = in_processes(processes, work, folder)
        if errors := [result["error"] for result in results if "error" in result]:
            return {"errors": errors}
        weights = next(output.glob("*.safetensors"))
        ends.append((results[0], load_file(weights)))
    (one, weights), (two, others) = ends
    if not CASES[case][3]:
        (ClickPromptForPAMLM if CASES[case][0] == "pamlm" else ClickPromptForCTR).from_pretrained(output)
    # Adding a constant to all keys changes nothing if prompts get it as well: these gradients are rounding errors,
    # which Adam makes as large as any.
    noise = ".key.bias" if CASES[case][1].get("prompt_encoder") == "paper" else "nothing"
    return {
        "steps": len(one["losses"]),
        "losses": max(abs(a - b) for a, b in zip(one["losses"], two["losses"], strict=True)),
        "weights": max((weights[name] - others[name]).abs().max().item() for name in weights if noise not in name),
        "same names": sorted(weights) == sorted(others),
        "units": two["units"],
    }


def prepared_rows(folder):
    splits = tiny_splits()
    processor = ClickPromptProcessor.fit(splits["train"], tiny_schema(), tiny_roberta_tokenizer())
    prepare_splits(splits, processor, folder / "data")
    return load_prepared(folder / "data")


def main():
    warnings.simplefilter("ignore")
    folder, steps, cases = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]
    prepared = prepared_rows(folder)
    print(json.dumps({case: compared(case, folder, prepared, steps) for case in cases}))


if __name__ == "__main__":
    main()
