"""Private parts of other packages that the training code overrides or calls are still there and still used.

Each failure names the part, where it is needed and what to do.
"""

import inspect

import huggingface_hub
import pytest
import torch
from accelerate import Accelerator
from torch import nn
from torch._dynamo import OptimizedModule
from torch.utils.data import Dataset
from transformers import EarlyStoppingCallback, RobertaConfig, Trainer, TrainerCallback, TrainingArguments

from clickprompt_hf.training import ClickPromptTrainer
from clickprompt_hf.training.divergence import DivergenceCheckingTrainer
from clickprompt_hf.training.model_state import PREPARED
from clickprompt_hf.training.resuming import ResumableTrainer

PUBLIC = ("save_model", "floating_point_ops", "prediction_step", "evaluation_loop", "create_optimizer")
# parameters of `Trainer`'s method, and why ClickPromptTrainer overrides it
OVERRIDDEN = {
    "_clip_grad_norm": (["model"], "clips sparse gradients, which torch's own clipping refuses"),
    "_get_grad_norm": (["model", "grad_norm"], "computes the norm of sparse gradients without clipping"),
    "_get_train_sampler": (["train_dataset"], "orders rows by (seed, epoch)"),
    "_get_eval_sampler": (["eval_dataset"], "keeps predictions in the order of their rows"),
    "_get_num_items_in_batch": (["batch_samples", "device"], "leaves padded rows out of an evaluation's loss"),
    "_inner_training_loop": (
        ["batch_size", "args", "resume_from_checkpoint", "trial", "ignore_keys_for_eval"],
        "freezes parts and chooses kernels of the model that is trained, after `model_init` and a trial are applied",
    ),
    "_prepare_for_training": (
        ["max_steps", "train_dataloader", "resume_from_checkpoint"],
        "chooses the units of FSDP2 before accelerate prepares the model",
    ),
    "_get_collator_with_removed_columns": (
        ["data_collator", "description"],
        "keeps the numbers of the rows, from which masks are drawn",
    ),
    "_track_num_input_tokens": (["inputs"], "counts the tokens of the text instead of the feature ids"),
    "_save": (["output_dir", "state_dict"], "saves mixed adapters, which peft cannot save"),
    "_load_from_checkpoint": (["resume_from_checkpoint", "model"], "loads mixed adapters"),
    "_load_best_model": ([], "loads mixed adapters"),
}
# The same of the classes that ClickPromptTrainer derives from.
INHERITED = {
    ResumableTrainer: {
        "_init_training_state": (
            ["max_steps", "num_update_steps_per_epoch", "num_train_epochs", "resume_from_checkpoint", "trial"],
            "decides from the state whether a resumed run is done",
        ),
        "_load_from_checkpoint": (["resume_from_checkpoint", "model"], "loads shards without FSDP2, and the reverse"),
        "_load_optimizer_and_scheduler": (["checkpoint"], "loads shards without FSDP2, and the reverse"),
        "_evaluate": (["trial", "ignore_keys_for_eval", "skip_scheduler"], "skips `eval_on_start` in resumed runs"),
        "_finalize_training": (["trial", "num_train_samples", "start_time"], "counts the time of earlier parts"),
        "_maybe_log_save_evaluate": (
            ["tr_loss", "grad_norm", "model", "trial", "epoch", "ignore_keys_for_eval", "start_time", "learning_rate"],
            "saves an epoch's last step after the epoch's evaluation",
        ),
        "_determine_best_metric": (["metrics", "trial"], "lets `save_strategy='best'` wait as well"),
        "_save_checkpoint": (["model", "trial"], "gives a checkpoint its name once it is whole, and times saving"),
        "_get_output_dir": (["trial"], "writes checkpoints into a partial folder"),
        "_push_from_checkpoint": (["checkpoint_folder"], "pushes a checkpoint once it has its name"),
        "_save": (["output_dir", "state_dict"], "saves a model whole or not at all"),
    },
    DivergenceCheckingTrainer: {"training_step": (["model", "inputs", "num_items_in_batch"], "looks at each loss")},
}


class Rows(Dataset):
    def __len__(self):
        return 4

    def __getitem__(self, index):
        return {"x": torch.full((2,), float(index)), "labels": torch.tensor(1.0)}


class Regression(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(2, 1)

    def forward(self, x, labels):
        predictions = self.linear(x).squeeze(-1)
        return {"loss": (predictions - labels).square().mean(), "logits": predictions}


class RecordingTrainer(Trainer):
    """Records the names of the overridden methods as `Trainer` calls them."""


def _recording(name):
    def method(self, *args, **kwargs):
        self.called.add(name)
        return getattr(Trainer, name)(self, *args, **kwargs)

    return method


for _name in (*OVERRIDDEN, *(name for names in INHERITED.values() for name in names), *PUBLIC):
    setattr(RecordingTrainer, _name, _recording(_name))


@pytest.fixture(scope="module")
def called(tmp_path_factory):
    """Names of the recorded methods that `Trainer` calls in a training run with evaluation and saving."""
    called = set()
    options = {"eval_strategy": "epoch", "save_strategy": "epoch", "num_train_epochs": 1, "disable_tqdm": True}
    options |= {"load_best_model_at_end": True, "use_cpu": True, "report_to": "none"}
    args = TrainingArguments(str(tmp_path_factory.mktemp("run")), metric_for_best_model="loss", **options)
    # so that a checkpoint is pushed, which does nothing here
    args.push_to_hub = True
    RecordingTrainer.called = called
    RecordingTrainer.init_hf_repo = RecordingTrainer._finish_current_push = lambda self: None
    args.hub_strategy = "end"
    trainer = RecordingTrainer(Regression(), args, train_dataset=Rows(), eval_dataset=Rows())
    trainer.train()
    trainer.train(resume_from_checkpoint=True)
    return called


@pytest.mark.parametrize(
    ("overriding", "name"),
    [
        *((ClickPromptTrainer, name) for name in OVERRIDDEN),
        *((overriding, name) for overriding, names in INHERITED.items() for name in names),
    ],
)
def test_trainer_has_and_calls_the_private_methods_that_are_overridden(overriding, name, called):
    parameters, purpose = {ClickPromptTrainer: OVERRIDDEN, **INHERITED}[overriding][name]
    whole = f"transformers.Trainer.{name}, which {overriding.__name__} overrides because it {purpose},"
    method = getattr(Trainer, name, None)
    assert method is not None, f"{whole} is gone: find what replaces it in training/trainer.py."
    found = [parameter for parameter in inspect.signature(method).parameters if parameter != "self"]
    assert found == parameters, f"{whole} takes {found} instead of {parameters}: adapt training/trainer.py."
    assert name in called, f"{whole} is no longer called in training: find what replaces it in training/trainer.py."
    assert name in vars(overriding), f"{whole} is not overridden any more: remove it from this test."


@pytest.mark.parametrize("name", PUBLIC)
def test_trainer_calls_the_public_methods_that_are_overridden(name, called):
    assert name in called, f"transformers.Trainer no longer calls {name}, which ClickPromptTrainer overrides."


def test_callbacks_are_restored_by_class_name_before_training_begins(tmp_path):
    """What `EarlyStoppingCallback` of training/trainer.py relies on."""
    seen = []
    options = {"eval_strategy": "epoch", "save_strategy": "epoch", "disable_tqdm": True, "report_to": "none"}
    options |= {"load_best_model_at_end": True, "metric_for_best_model": "loss", "learning_rate": 0.0, "use_cpu": True}
    options["restore_callback_states_from_checkpoint"] = True

    class Stopping(EarlyStoppingCallback):
        def on_train_begin(self, *args, **kwargs):
            seen.append(self.early_stopping_patience_counter)

    Stopping.__name__ = "EarlyStoppingCallback"
    for epochs, resume in ((2, None), (3, True)):
        args = TrainingArguments(str(tmp_path), num_train_epochs=epochs, **options)
        datasets = {"train_dataset": Rows(), "eval_dataset": Rows()}
        Trainer(Regression(), args, callbacks=[Stopping(5)], **datasets).train(resume_from_checkpoint=resume)
    assert seen == [0, 1], (
        "transformers.Trainer no longer restores callbacks by class name before `on_train_begin`: a resumed run would "
        "start early stopping's count anew, or ignore its own patience. See training/trainer.py."
    )


def test_what_undoes_a_trainers_changes_knows_their_names(tmp_path):
    """What training/model_state.py restores, and what training/trainer.py sets for a compiled model."""
    model = torch.nn.Linear(2, 1)
    accelerator = Accelerator(cpu=True)
    accelerator.prepare_model(model)
    assert set(vars(model)) & {*PREPARED} == {"_is_accelerate_prepared"}, (
        "accelerate marks prepared models in another way: adapt PREPARED in training/model_state.py."
    )
    compiled = torch.compile(nn.Linear(2, 1), backend="eager")
    assert isinstance(compiled, OptimizedModule), "torch.compile returns another class: adapt training/trainer.py."
    assert callable(compiled.dynamo_ctx(compiled._orig_mod._call_impl))
    assert "_compiled_call_impl" in vars(nn.Module), "nn.Module.compile stores its function elsewhere."
    config = RobertaConfig(attn_implementation="eager")
    assert vars(config)["_attn_implementation_internal"] == "eager", (
        "configurations keep the attention implementation elsewhere: adapt training/model_state.py."
    )


def test_torch_tells_whether_the_cpu_has_bf16():
    check = getattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", None)
    assert check is not None, (
        "torch.ops.mkldnn._is_mkldnn_bf16_supported is gone: training/bf16.py asks it before running bf16 products."
    )
    assert isinstance(check(), bool)


def test_torch_can_change_the_timeout_of_a_process_group():
    change = getattr(torch.distributed.distributed_c10d, "_set_pg_timeout", None)
    assert change is not None, "torch has no _set_pg_timeout any more: see the processes of runs/predict.py."
    assert list(inspect.signature(change).parameters) == ["timeout", "group"]


def test_the_hub_raises_errors_of_its_own_http_library():
    """`huggingface_hub` may import another library as `httpx`, so `push_to_hub` catches the errors of that one."""
    httpx = getattr(huggingface_hub.utils, "httpx", None)
    assert httpx is not None, (
        "huggingface_hub.utils.httpx is gone: training/trainer.py explains its connection errors."
    )
    assert issubclass(huggingface_hub.errors.HfHubHTTPError, httpx.HTTPError), (
        "huggingface_hub no longer raises errors of huggingface_hub.utils.httpx: see `_explained_hub_errors`."
    )


def test_trainer_resets_its_losses_before_training_begins(tmp_path):
    """`restore_progress` of training/resuming.py sets them in `on_train_begin`."""
    seen = {}

    class Begin(TrainerCallback):
        def on_train_begin(self, args, state, control, **kwargs):
            seen.update({name: float(vars(trainer)[name]) for name in names})

    names = ("_tr_loss", "_total_loss_scalar", "_globalstep_last_logged", "_initial_global_step")
    args = TrainingArguments(str(tmp_path), max_steps=1, report_to="none", use_cpu=True, disable_tqdm=True)
    trainer = Trainer(Regression(), args, train_dataset=Rows(), callbacks=[Begin()])
    trainer.train()
    assert seen == dict.fromkeys(names, 0.0), (
        "transformers.Trainer keeps its losses elsewhere: a resumed run would report those of its last part. See "
        "training/resuming.py."
    )
