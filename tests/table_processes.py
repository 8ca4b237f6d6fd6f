"""Trains with id tables sharded across two processes, and in one; prints how far apart the results are, as JSON.

python table_processes.py FOLDER
"""

import json
import os
import shutil
import sys
import warnings
from pathlib import Path

import torch
from processes import in_processes, model_of, trainer_of
from safetensors.torch import load_file
from sharded_processes import prepared_rows
from tiny_models import tiny_ctr_config
from transformers import TrainerCallback, set_seed

from clickprompt_hf import ClickPromptConfig, ClickPromptForCTR, ClickPromptForPAMLM
from clickprompt_hf.training import sharded_tables, table_checkpoints, table_rows
from clickprompt_hf.training.sharded_tables import RowShardedTable, shard_id_tables, sharded_from_pretrained

STEPS = 50
QUIET = {"eval_strategy": "no", "save_strategy": "no", "load_best_model_at_end": False, "max_steps": STEPS}
# what is trained, and the options of training
CASES = {
    "alone": ("alone", {"gradient_accumulation_steps": 2, "max_grad_norm": 0.05, "embedding_l2": 5.0}),
    "deepfm": ("deepfm", {"max_grad_norm": 0.0}),
    "pamlm": ("pamlm", {"learning_rate": 1e-3, "plm_learning_rate": 5e-4}),
}
# new ids per field; the table then has an odd number of rows
MORE_IDS = (2, 3, 3, 3)
DIVIDED, WHOLE = {"shard_id_tables": True}, {"sparse_embedding_updates": True}
EPOCHS = {"num_train_epochs": 4, "save_strategy": "epoch", "eval_strategy": "epoch", "seed": 3}
KILLED_AT = 13


def model_of_case(kind, processor):
    if kind != "deepfm":
        return model_of(kind, processor)
    set_seed(0)
    sizes = {"field_sizes": processor.field_sizes, "max_values": processor.max_values}
    ctr = tiny_ctr_config(backbone="deepfm", first_order=True, **sizes)
    return ClickPromptForCTR(ClickPromptConfig(ctr_config=ctr, fusion="ctr"))


def trained(output, prepared, processes, kind, **options):
    """A trainer that has trained and saved."""
    trainer = trainer_of(output, prepared, model_of_case(kind, prepared[1]), processes, 14, **options)
    trainer.train()
    trainer.save_model()
    return trainer


def losses_of(trainer):
    return [row["loss"] for row in trainer.state.log_history if "loss" in row]


def all_cases(folder, prepared, processes):
    """Train the cases; their losses, and what a trained model predicts."""
    losses, scores = {}, None
    for case, (kind, options) in CASES.items():
        way = WHOLE if processes == 1 else DIVIDED
        output = folder / f"{case}-{processes}"
        trainer = trained(output, prepared, processes, kind, **QUIET, **options, **way)
        losses[case] = losses_of(trainer)
        if case == "deepfm":
            predictions = trainer.predict(prepared[0]["test"]).predictions
            scores = (predictions[0] if isinstance(predictions, tuple) else predictions).reshape(-1).tolist()
    return {"losses": losses, "scores": scores}


class Kill(TrainerCallback):
    """Ends the process in the middle of an epoch."""

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == KILLED_AT:
            os._exit(0)


def interrupted(output, prepared, processes, resume):
    def work():
        trainer = trainer_of(
            output, prepared, model_of_case("deepfm", prepared[1]), processes, 14, **EPOCHS, **DIVIDED
        )
        if not resume:
            trainer.add_callback(Kill())
        trainer.train(resume_from_checkpoint=resume)
        trainer.save_model()
        return {"losses": losses_of(trainer), "best": trainer.state.best_global_step}

    return in_processes(processes, work, output.parent)[0]


def resumed(folder, prepared):
    """How far runs that were killed and resumed are from one that was not."""

    def uninterrupted():
        trainer = trained(folder / "uninterrupted", prepared, 1, "deepfm", **EPOCHS, **WHOLE)
        return {"losses": losses_of(trainer), "best": trainer.state.best_global_step}

    expected = in_processes(1, uninterrupted, folder)[0]
    weights = load_file(folder / "uninterrupted" / "model.safetensors")
    for processes in (1, 2):
        interrupted(folder / f"killed-{processes}", prepared, processes, None)
    report = {
        "files": sorted(path.name for path in (folder / "killed-2" / "checkpoint-10").iterdir() if path.is_file())
    }
    for first, second in ((2, 2), (2, 1), (1, 2)):
        output = folder / f"resumed-{first}-{second}"
        shutil.copytree(folder / f"killed-{first}", output)
        end = interrupted(output, prepared, second, True)
        if "error" in end:
            report[f"{first} to {second}"] = end
            continue
        others = load_file(output / "model.safetensors")
        report[f"{first} to {second}"] = {
            "best": [expected["best"], end["best"]],
            "losses": max(abs(a - b) for a, b in zip(expected["losses"], end["losses"], strict=True)),
            "weights": max((weights[name] - others[name]).abs().max().item() for name in weights),
        }
    return report


def more_ids(processor):
    return [size + more for size, more in zip(processor.field_sizes, MORE_IDS, strict=True)]


def rows_of(model):
    return {name: table.weight.detach().tolist() for name, table in sharded_tables.sharded_tables(model).items()}


def built(folder, prepared, processes):
    """The rows of each process of fresh tables, and of loaded ones with and without more ids."""
    table_rows._BYTES_PER_PIECE, sharded_tables._ROWS_PER_DRAW = 64, 4
    processor = prepared[1]

    def work():
        # the trainer's arguments let the processes meet
        trainer_of(folder / "met", prepared, model_of("alone", processor), processes, 14)
        small = tiny_ctr_config(field_sizes=[1] * len(processor.field_sizes), max_values=processor.max_values)
        fresh = ClickPromptForCTR(ClickPromptConfig(ctr_config=small, fusion="ctr"))
        shard_id_tables(fresh, processor.field_sizes, seed=5)
        from_pamlm = {"model_class": ClickPromptForCTR, "name_or_path": folder / "pamlm-2"}
        with warnings.catch_warnings():
            # the click heads are fresh
            warnings.simplefilter("ignore")
            loaded = sharded_from_pretrained(**from_pamlm)
            grown = sharded_from_pretrained(**from_pamlm, field_sizes=more_ids(processor))
        assert fresh.config.ctr_config.field_sizes == processor.field_sizes
        assert loaded.clickprompt.plm is not None
        return {"fresh": rows_of(fresh), "loaded": rows_of(loaded), "grown": rows_of(grown)}

    pieces = in_processes(processes, work, folder)
    if errors := [piece for piece in pieces if "error" in piece]:
        return errors
    return {
        kind: {name: [row for piece in pieces for row in piece[kind][name]] for name in pieces[0][kind]}
        for kind in pieces[0]
    }


def whole_tables(folder, prepared):
    """What `built` must give for loaded tables."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = ClickPromptForCTR.from_pretrained(folder / "pamlm-2")
    name = "clickprompt.ctr.embedding.table.weight"
    loaded = model.get_parameter(name).tolist()
    model.resize_feature_embeddings(more_ids(prepared[1]))
    return {"loaded": {name: loaded}, "grown": {name: model.get_parameter(name).tolist()}}


class SpoilOneRow(TrainerCallback):
    """Makes a row of the second process infinite, which no row of the data reads."""

    def on_step_end(self, args, state, control, model=None, **kwargs):
        if state.global_step == 2 and args.process_index == 1:
            table = next(iter(sharded_tables.sharded_tables(model).values()))
            with torch.no_grad():
                table.weight[-1] = float("inf")


def error_of(call):
    try:
        call()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return None


def failures(folder, prepared):
    """The errors in each process: a look-up outside the trainer, a full disk, a row that is not finite."""

    def full(*args):
        raise OSError(28, "No space left on device")

    def work():
        output, options = folder / "failing", {**QUIET, "max_steps": 2, **DIVIDED}
        trainer = trained(output, prepared, 2, "alone", **options)
        model, ids = trainer.model, torch.as_tensor(prepared[0]["test"].feature_ids[:2]).long()
        table = next(module for module in model.modules() if isinstance(module, RowShardedTable))
        first_weights = (output / "model.safetensors").read_bytes()
        errors = {"alone": error_of(lambda: model(feature_ids=ids)), "state": list(model.state_dict())}
        errors["grown"] = error_of(lambda: model.resize_feature_embeddings([50] * len(prepared[1].field_sizes)))
        errors["saved"] = error_of(lambda: model.save_pretrained(folder / "part"))
        errors["rows"] = [len(table.weight), table.num_rows]
        # only the first process writes headers
        layer, table_checkpoints.lay_out = table_checkpoints.lay_out, full
        errors["full disk"] = error_of(trainer.save_model)
        table_checkpoints.lay_out = layer
        errors["unchanged"] = (output / "model.safetensors").read_bytes() == first_weights
        free, shutil.disk_usage = shutil.disk_usage, lambda path: shutil._ntuple_diskusage(9, 9, 0)
        errors["small disk"] = error_of(trainer.save_model)
        shutil.disk_usage = free
        read, rank = sharded_tables.read_grown_rows, trainer.args.process_index
        sharded_tables.read_grown_rows = full if rank == 1 else read
        errors["not read"] = error_of(lambda: sharded_from_pretrained(ClickPromptForCTR, output))
        sharded_tables.read_grown_rows = read
        options = {**options, "max_steps": 5}
        spoiled = trainer_of(folder / "spoiled", prepared, model_of("alone", prepared[1]), 2, 14, **options)
        spoiled.add_callback(SpoilOneRow())
        errors["spoiled"] = error_of(spoiled.train)
        options = {**options, "max_steps": 2, "save_strategy": "steps", "save_steps": 1, "freeze": ["ctr"]}
        frozen = trained(folder / "frozen", prepared, 2, "pamlm", **options)
        frozen.train(resume_from_checkpoint=str(folder / "frozen" / "checkpoint-1"))
        before = dict(model_of("pamlm", prepared[1]).named_parameters())
        errors["frozen"] = all(
            table.weight.equal(before[name][table.first_row : table.first_row + table.num_embeddings])
            for name, table in sharded_tables.sharded_tables(frozen.model).items()
        )
        return errors

    return in_processes(2, work, folder)


def saved_alone(folder, prepared):
    """How `save_model` ends in the first process if the second does not call it, waiting or ended."""

    def work(second_ends):
        trainer = trainer_of(folder / "one", prepared, model_of("alone", prepared[1]), 2, 14, **QUIET, **DIVIDED)
        rank, error = trainer.args.process_index, None
        if second_ends and rank == 1:
            return None
        if not second_ends:
            trainer.args.ddp_timeout = 6
        if trainer.is_world_process_zero():
            error = error_of(trainer.save_model)
        if not second_ends:
            torch.distributed.barrier()
        return error

    ends = [in_processes(2, lambda ends=ends: work(ends), folder)[0] for ends in (False, True)]
    return {"errors": ends, "files": [path.name for path in (folder / "one").glob("*.safetensors")]}


def compared(folder, one, two):
    report = {}
    for case, (kind, _) in CASES.items():
        weights, others = (load_file(folder / f"{case}-{processes}" / "model.safetensors") for processes in (1, 2))
        report[case] = {
            "steps": len(two["losses"][case]),
            "losses": max(abs(a - b) for a, b in zip(one["losses"][case], two["losses"][case], strict=True)),
            "weights": max((weights[name] - others[name]).abs().max().item() for name in weights),
            "same names": sorted(weights) == sorted(others),
        }
        (ClickPromptForPAMLM if kind == "pamlm" else ClickPromptForCTR).from_pretrained(folder / f"{case}-2")
    return report


def loaded_scores(folder, prepared):
    """Scores of the saved model in one process."""
    model = ClickPromptForCTR.from_pretrained(folder / "deepfm-2").eval()
    with torch.no_grad():
        ids = torch.as_tensor(prepared[0]["test"].feature_ids[:]).long()
        return model(feature_ids=ids).logits.reshape(-1).tolist()


def main():
    warnings.filterwarnings("ignore", "`shard_id_tables` has no effect")
    folder = Path(sys.argv[1])
    prepared = prepared_rows(folder)
    one, two = (in_processes(number, lambda n=number: all_cases(folder, prepared, n), folder)[0] for number in (1, 2))
    if errors := [end for end in (one, two) if "error" in end]:
        print(json.dumps({"errors": errors}))
        return
    report = {
        "cases": compared(folder, one, two),
        "scores": [two["scores"], loaded_scores(folder, prepared)],
        "resumed": resumed(folder, prepared),
        "built": [built(folder, prepared, processes) for processes in (1, 2)],
        "whole": whole_tables(folder, prepared),
        "failures": failures(folder, prepared),
        "saved alone": saved_alone(folder, prepared),
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main()
