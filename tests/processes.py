"""Trains in one process and in two, which are forks that share the imports; prints the results as JSON.

python processes.py FOLDER
"""

import gc
import json
import os
import socket
import sys
import time
import traceback
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from accelerate.state import PartialState
from accelerate.utils import DistributedType
from forks import exit_code, start_fork
from safetensors.torch import load_file
from tiny_data import tiny_roberta_tokenizer, tiny_schema, tiny_splits
from tiny_models import tiny_ctr_config, tiny_text_config
from transformers import TrainerCallback, set_seed

from clickprompt_hf import ClickPromptConfig, ClickPromptForCTR, ClickPromptForPAMLM, ClickPromptProcessor
from clickprompt_hf.data import text_states
from clickprompt_hf.data.collators import ClickPromptCollator, ClickPromptMLMCollator
from clickprompt_hf.data.columnar import load_prepared, prepare_splits
from clickprompt_hf.runs import teacher
from clickprompt_hf.runs.preparation import PreparedData
from clickprompt_hf.runs.prepared_folder import prepared_data
from clickprompt_hf.training import ClickPromptTrainer, ClickPromptTrainingArguments, resuming
from clickprompt_hf.training.checkpoints import newest_whole_checkpoint

torch.set_num_threads(1)
gc.freeze()


def in_processes(number, work, folder):
    """Run `work` in forks; the JSON that each of them returns, or how it ended."""
    results = [folder / f"result-{rank}.json" for rank in range(number)]
    for result in results:
        # of earlier forks
        result.unlink(missing_ok=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes = []
    for rank in range(number):

        def work_of_rank(rank=rank):
            try:
                if number > 1:
                    of_processes = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": number, "LOCAL_WORLD_SIZE": number}
                    of_processes |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
                    os.environ.update({name: str(value) for name, value in of_processes.items()})
                result = work()
            except Exception as error:
                traceback.print_exc()
                result = {"error": f"{type(error).__name__}: {error}"}
            results[rank].write_text(json.dumps(result))

        processes.append(start_fork(work_of_rank))
    died = [{"error": f"the process died with code {exit_code(process)}"} for process in processes]
    return [json.loads(path.read_text()) if path.exists() else end for path, end in zip(results, died)]


def trainer_of(folder, prepared, model, processes, batch, trainer_class=ClickPromptTrainer, **options):
    """A trainer whose steps hold `batch` rows over all processes."""
    splits, processor = prepared
    options = {"num_train_epochs": 3, "logging_steps": 1, "learning_rate": 0.01, "plm_learning_rate": 0.01, **options}
    options.setdefault("use_cpu", True)
    args = ClickPromptTrainingArguments(
        str(folder),
        per_device_train_batch_size=batch // processes,
        per_device_eval_batch_size=3,
        report_to="none",
        disable_tqdm=True,
        **options,
    )
    is_pamlm = isinstance(model, ClickPromptForPAMLM)
    return trainer_class(
        model,
        args,
        train_dataset=splits["train"],
        eval_dataset=splits["validation"],
        data_collator=ClickPromptMLMCollator(processor) if is_pamlm else ClickPromptCollator(processor),
        processing_class=processor,
    )


def model_of(kind, processor, **options):
    set_seed(0)
    ctr = tiny_ctr_config(field_sizes=processor.field_sizes, max_values=processor.max_values)
    if kind == "alone":
        return ClickPromptForCTR(ClickPromptConfig(ctr_config=ctr, fusion="ctr"))
    dropout = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "max_position_embeddings": 80}
    text = tiny_text_config(vocab_size=len(processor.tokenizer), **dropout)
    config = ClickPromptConfig(text_config=text, ctr_config=ctr, prompt_length=2, **options)
    return (ClickPromptForPAMLM if kind == "pamlm" else ClickPromptForCTR)(config)


def difference(folder, prepared, kind, **options):
    """How far the weights and metrics of two processes are from those of one."""
    ends = []
    for processes in (1, 2):
        output = folder / f"{kind}-{len(options)}-{processes}"

        def work(output=output, processes=processes):
            # states are cached below the last layer
            depth = {"prompt_depth": 1} if "cache_text_states" in options else {}
            model = model_of(kind, prepared[1], **depth)
            trainer = trainer_of(output, prepared, model, processes, 14, **options)
            trainer.train()
            trainer.save_model()
            return [entry for entry in trainer.state.log_history if "eval_loss" in entry]

        ends.append((in_processes(processes, work, folder)[0], load_file(output / "model.safetensors")))
    (one, weights), (two, others) = ends
    evaluations = [
        abs(a[name] - b[name])
        for a, b in zip(one, two, strict=True)
        for name in a
        if "runtime" not in name and "second" not in name
    ]
    return {
        "weights": max((weights[name] - others[name]).abs().max().item() for name in weights),
        "evaluations": max(evaluations),
    }


def teacher_logits(folder, prepared, processes):
    """What each process maps of the logits of a teacher whose pieces the processes share."""
    (splits, processor), output = prepared, folder / f"teacher-{processes}"
    model = model_of("ctr", processor)
    model.save_pretrained(output)
    processor.save_pretrained(output)
    teacher._PIECE_ROWS = 25

    def work():
        args = ClickPromptTrainingArguments(str(output), use_cpu=True, disable_tqdm=True, report_to="none")
        prepared_data(output).mkdir(parents=True, exist_ok=True)
        loaded = ClickPromptProcessor.from_pretrained(output)
        data = PreparedData(dict(splits), loaded, {})
        taught = teacher.with_teacher_logits(data, teacher.Teacher(str(output), model.config, loaded), args)
        return taught.splits["train"].teacher_logits.tolist()

    return in_processes(processes, work, folder)


def diverged(folder, prepared):
    def work():
        model = model_of("alone", prepared[1])
        trainer = trainer_of(folder / "diverged", prepared, model, 2, 14, logging_steps=100)
        trainer.add_callback(Spoil())
        trainer.train()
        return "trained"

    return in_processes(2, work, folder)


def decided(folder, prepared):
    """Resume in two processes; the second one finds an earlier checkpoint, and that the run has stopped early."""

    def work(epochs, resume):
        if resume and int(os.environ["RANK"]) == 1:
            resuming.newest_whole_checkpoint = lambda folder: folder / "checkpoint-5"
            resuming.ResumableTrainer._has_stopped_early = lambda self: True
        options = {"num_train_epochs": epochs, "load_best_model_at_end": False}
        trainer = trainer_of(folder / "decided", prepared, model_of("alone", prepared[1]), 2, 14, **options)
        trainer.train(resume_from_checkpoint=resume)
        return [trainer._resumed_from and Path(trainer._resumed_from).name, trainer.state.global_step]

    in_processes(2, lambda: work(2, None), folder)
    return in_processes(2, lambda: work(3, True), folder)


def waiting(folder, prepared):
    """Per process, how many texts it encodes and maps; the one that writes goes on once the other waits for it."""
    acquire, encode = text_states.filelock.FileLock.acquire, ClickPromptForCTR.encode_text
    encoded = []

    def watched_acquire(self, *args, blocking=None, **kwargs):
        if blocking is None:
            (folder / f"waits-{os.environ['RANK']}").touch()
        return acquire(self, *args, blocking=blocking, **kwargs)

    def watched_encode(self, input_ids, attention_mask):
        other, end = folder / f"waits-{1 - int(os.environ['RANK'])}", time.monotonic() + 20
        while not other.exists():
            if time.monotonic() > end:
                raise TimeoutError("the other process does not wait for the states")
            time.sleep(0.01)
        encoded.append(len(input_ids))
        return encode(self, input_ids, attention_mask)

    def work():
        text_states.filelock.FileLock.acquire, ClickPromptForCTR.encode_text = watched_acquire, watched_encode
        model, splits = model_of("ctr", prepared[1], prompt_depth=1), prepared[0]
        trainer = trainer_of(folder / "waiting", prepared, model, 2, 14, cache_text_states=True)
        trainer.cache_texts(splits.values())
        return [sum(encoded), len(trainer._cached_rows.get(splits["train"]).cached_texts.states)]

    return in_processes(2, work, folder)


class Spoil(TrainerCallback):
    """Makes the loss of the second epoch's last step infinite, in one of the processes."""

    def on_step_begin(self, args, state, control, model=None, **kwargs):
        if state.global_step == 9 and args.process_index == 0:
            with torch.no_grad():
                model.clickprompt.ctr.embedding.table.weight.fill_(float("inf"))


class ForcedFSDPTrainer(ClickPromptTrainer):
    """On CPUs, accelerate uses DDP instead of FSDP: claim to have accelerators."""

    def create_accelerator_and_postprocess(self):
        PartialState._shared_state["distributed_type"] = DistributedType.MULTI_GPU
        super().create_accelerator_and_postprocess()


def fsdp(folder, prepared, kind):
    """Train with FSDP2; accelerate uses it for several accelerators, so the processes claim to have them."""
    output = folder / f"fsdp-{kind}"
    os.environ.update(ACCELERATE_USE_FSDP="true", FSDP_VERSION="2", FSDP_STATE_DICT_TYPE="SHARDED_STATE_DICT")
    os.environ.update(FSDP_AUTO_WRAP_POLICY="NO_WRAP", FSDP_RESHARD_AFTER_FORWARD="true")

    def train(epochs, resume):
        model = model_of(kind, prepared[1])
        given = {"num_train_epochs": epochs, "load_best_model_at_end": False, "trainer_class": ForcedFSDPTrainer}
        trainer = trainer_of(output, prepared, model, 2, 14, **given)
        assert trainer.accelerator.distributed_type == DistributedType.FSDP
        trainer.train(resume_from_checkpoint=resume)
        trainer.save_model()
        return trainer.state.global_step

    try:
        result = {"trained": in_processes(2, lambda: train(2, None), folder)}
        if "error" in str(result):
            return result
        result["whole"] = str(newest_whole_checkpoint(output))
        result["files"] = sorted(path.name for path in output.iterdir() if path.suffix != ".py")
        result["in checkpoint"] = sorted(
            path.name for path in newest_whole_checkpoint(output).iterdir() if path.suffix != ".py"
        )
        ClickPromptForCTR.from_pretrained(output)
        result["resumed"] = in_processes(2, lambda: train(3, True), folder)
        return result
    finally:
        for name in [name for name in os.environ if name.startswith("FSDP_") or name == "ACCELERATE_USE_FSDP"]:
            del os.environ[name]


def main():
    warnings.simplefilter("ignore")
    folder = Path(sys.argv[1])
    splits = tiny_splits()
    processor = ClickPromptProcessor.fit(splits["train"], tiny_schema(), tiny_roberta_tokenizer())
    prepare_splits(splits, processor, folder / "data")
    prepared = load_prepared(folder / "data")
    logits = np.random.default_rng(0).normal(size=60).astype(np.float32)
    taught = ({**prepared[0], "train": replace(prepared[0]["train"], teacher_logits=logits)}, processor)
    report = {
        "sparse": difference(folder, prepared, "alone", sparse_embedding_updates=True),
        "pamlm": difference(folder, prepared, "pamlm"),
        "cached": difference(folder, prepared, "pamlm", cache_text_states=True, masked_variants=2),
        "distilled": difference(folder, taught, "alone", distill_weight=0.7, distill_temperature=2.0),
        "teacher": [*teacher_logits(folder, prepared, 1), *teacher_logits(folder, prepared, 2)],
        "diverged": diverged(folder, prepared),
        "decided": decided(folder, prepared),
        "waiting": waiting(folder, prepared),
        "fsdp": fsdp(folder, prepared, "ctr"),
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main()
