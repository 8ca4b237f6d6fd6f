"""The authors' model on prepared batches, for same_work.py to compare with; runs in an environment of their versions.

    python3.11 -m venv authors
    authors/bin/pip install torch transformers==4.26.1 datasets h5py pandas scikit-learn "numpy<2" "pyarrow<22"
    authors/bin/python benchmarks/authors_clickprompt.py CODE FOLDER

CODE holds their repository (github.com/CHIANGEL/ClickPrompt). FOLDER holds what same_work.py writes there. The model,
its loss, the groups of its optimizer and the optimizer are theirs. Each line on standard input runs one round over all
batches and prints the round's CPU seconds.
"""

import argparse
import json
import resource
import sys
import time
import types
from contextlib import nullcontext
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("code", type=Path)
    parser.add_argument("folder", type=Path)
    args = parser.parse_args()
    settings = json.loads((args.folder / "settings.json").read_text(encoding="utf-8"))
    torch.set_num_threads(settings["threads"])
    torch.manual_seed(0)
    model, optimizer = their_model(args.code, settings)
    pamlm, training = settings["stage"] == "pamlm", settings["stage"] != "scoring"
    offsets = torch.tensor([0, *settings["field_sizes"][:-1]]).cumsum(0)
    batches = [their_batch(batch, offsets, pamlm) for batch in torch.load(args.folder / "batches.pt")]
    model.train(training)

    def gradients(batch: dict) -> None:
        with nullcontext() if training else torch.no_grad():
            loss = model(do_ctr=not pamlm, do_mlm_only=pamlm, **batch).loss
        if training:
            loss.backward()

    def step(batch: dict) -> None:
        gradients(batch)
        if training:
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            model.zero_grad()

    step(batches[0])
    with FlopCounterMode(display=False) as counter:
        for batch in batches:
            gradients(batch)
    print(json.dumps({"gflop": counter.get_total_flops() / 1e9}), flush=True)
    for _ in sys.stdin:
        start = time.process_time()
        for batch in batches:
            step(batch)
        seconds = time.process_time() - start
        # kilobytes on Linux
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
        print(json.dumps({"seconds": seconds, "peak_memory_gb": round(peak, 2)}), flush=True)


def their_model(code: Path, settings: dict) -> tuple:
    """Build their model and their trainer's optimizer."""
    sys.path.insert(0, str(code))
    # imported by their code and never used
    sys.modules["responses"] = types.SimpleNamespace(target=None)
    from arguments import Config, CTRModelArguments, ModelArguments, OurTrainingArguments
    from models import PLM4CTR_Model
    from trainers import PLM4CTRTrainer

    pamlm = settings["stage"] == "pamlm"
    fusion = "prefix" if pamlm else "prefix_add"
    model_arguments = ModelArguments(
        model_name_or_path=settings["plm"], do_ctr=not pamlm, do_mlm_only=pamlm, model_fusion=fusion, pooler_type="cls"
    )
    sizes = {name: settings[name] for name in ("embed_size", "hidden_size", "num_hidden_layers", "num_cross_layers")}
    ctr_arguments = CTRModelArguments(ctr_model_name="DCNV2", num_prompt=settings["prompt_length"], **sizes)
    field_sizes = settings["field_sizes"]
    config = Config.from_dict(
        {
            **ctr_arguments.to_dict(),
            "input_size": sum(field_sizes),
            "num_fields": len(field_sizes),
            "device": torch.device("cpu"),
            "n_gpu": 0,
            "model_fusion": fusion,
        }
    )
    model = PLM4CTR_Model(ctr_config=config, model_args=model_arguments)
    training_arguments = OurTrainingArguments(output_dir=settings["output_dir"], no_cuda=True, report_to=[])
    return model, PLM4CTRTrainer(model=model, args=training_arguments).create_optimizer()


def their_batch(batch: dict, offsets: torch.Tensor, pamlm: bool) -> dict:
    names = ("mlm_input_ids", "mlm_labels") if pamlm else ("input_ids", "labels")
    return {
        "ctr_input_ids": batch["feature_ids"] + offsets,
        "attention_mask": batch["attention_mask"],
        names[0]: batch["input_ids"],
        names[1]: batch["labels"],
    }


if __name__ == "__main__":
    main()
