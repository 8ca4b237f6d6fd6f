"""Private parts of other packages that the training code overrides or calls are still there and still used.

Each failure names the part, where it is needed and what to do.
"""

import inspect

import huggingface_hub
import pytest
import torch
from torch import nn
from torch.utils.data import Dataset
from transformers import EarlyStoppingCallback, Trainer, TrainingArguments

from clickprompt_hf.training import ClickPromptTrainer

# parameters of `Trainer`'s method, and why ClickPromptTrainer overrides it
OVERRIDDEN = {
    "_clip_grad_norm": (["model"], "clips sparse gradients, which torch's own clipping refuses"),
    "_get_grad_norm": (["model", "grad_norm"], "computes the norm of sparse gradients without clipping"),
    "_get_train_sampler": (["train_dataset"], "orders rows by (seed, epoch)"),
    "_get_eval_sampler": (["eval_dataset"], "keeps predictions in the order of their rows"),
    "_save_checkpoint": (["model", "trial"], "leaves the time of saving out of the throughput"),
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


for _name in (*OVERRIDDEN, "save_model", "floating_point_ops", "prediction_step"):
    setattr(RecordingTrainer, _name, _recording(_name))


@pytest.fixture(scope="module")
def called(tmp_path_factory):
    """Names of the recorded methods that `Trainer` calls in one training run with evaluation and saving."""
    called = set()
    options = {"eval_strategy": "epoch", "save_strategy": "epoch", "num_train_epochs": 1, "disable_tqdm": True}
    args = TrainingArguments(str(tmp_path_factory.mktemp("run")), report_to="none", use_cpu=True, **options)
    RecordingTrainer.called = called
    RecordingTrainer(Regression(), args, train_dataset=Rows(), eval_dataset=Rows()).train()
    return called


@pytest.mark.parametrize("name", OVERRIDDEN)
def test_trainer_has_and_calls_the_private_methods_that_are_overridden(name, called):
    parameters, purpose = OVERRIDDEN[name]
    whole = f"transformers.Trainer.{name}, which ClickPromptTrainer overrides because it {purpose},"
    method = getattr(Trainer, name, None)
    assert method is not None, f"{whole} is gone: find what replaces it in training/trainer.py."
    found = [parameter for parameter in inspect.signature(method).parameters if parameter != "self"]
    assert found == parameters, f"{whole} takes {found} instead of {parameters}: adapt training/trainer.py."
    assert name in called, f"{whole} is no longer called in training: find what replaces it in training/trainer.py."
    assert name in vars(ClickPromptTrainer), f"{whole} is not overridden any more: remove it from this test."


@pytest.mark.parametrize("name", ["save_model", "floating_point_ops", "prediction_step"])
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


def test_torch_tells_whether_the_cpu_has_bf16():
    check = getattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", None)
    assert check is not None, (
        "torch.ops.mkldnn._is_mkldnn_bf16_supported is gone: training/bf16.py asks it before running bf16 products."
    )
    assert isinstance(check(), bool)


def test_the_hub_raises_errors_of_its_own_http_library():
    """`huggingface_hub` may import another library as `httpx`, so `push_to_hub` catches the errors of that one."""
    httpx = getattr(huggingface_hub.utils, "httpx", None)
    assert httpx is not None, (
        "huggingface_hub.utils.httpx is gone: training/trainer.py explains its connection errors."
    )
    assert issubclass(huggingface_hub.errors.HfHubHTTPError, httpx.HTTPError), (
        "huggingface_hub no longer raises errors of huggingface_hub.utils.httpx: see `_explained_hub_errors`."
    )
