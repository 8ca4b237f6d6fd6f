"""Whether bf16 pays: the processor is asked before any bf16 product runs."""

import os

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import TrainingArguments

from clickprompt_hf.training import bf16
from clickprompt_hf.training.bf16 import choose_attention


class Products(TorchDispatchMode):
    """Records the types of all matrix products."""

    def __init__(self):
        super().__init__()
        self.types = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func is torch.ops.aten.mm.default:
            self.types.append(args[0].dtype)
        return func(*args, **(kwargs or {}))


@pytest.fixture
def cpu_only(monkeypatch):
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)


def test_a_cpu_without_bf16_runs_no_bf16_product(cpu_only, monkeypatch):
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: False)
    with Products() as products:
        assert not bf16.bf16_pays()
    assert torch.bfloat16 not in products.types


def test_torch_without_its_cpu_library_runs_no_bf16_product(cpu_only, monkeypatch):
    # products then run on the slow path of such a CPU: 0.3 s for 512 x 512 in bf16
    monkeypatch.setattr(torch.backends.mkldnn, "enabled", False)
    with Products() as products:
        assert not bf16.bf16_pays()
    assert torch.bfloat16 not in products.types


@pytest.mark.parametrize(("seconds", "pays"), [(1.0, False), (0.9, False), (0.8, True)])
def test_bf16_pays_if_its_products_are_clearly_faster(seconds, pays, cpu_only, monkeypatch):
    monkeypatch.setattr(bf16, "cpu_has_bf16", lambda: True)
    monkeypatch.setattr(bf16, "_seconds", lambda dtype: seconds if dtype is torch.bfloat16 else 1.0)
    assert bf16.bf16_pays() == pays


def test_the_timed_products_are_small():
    with Products() as products:
        assert bf16._seconds(torch.float32) > 0
    assert products.types == [torch.float32] * bf16._REPEATS
    # operations: milliseconds at the speed of one core
    assert 2 * bf16._SIZE**3 < 1e9


@pytest.mark.parametrize(
    ("options", "given", "expected"), [({"bf16": True}, None, "256"), ({"bf16": True}, "7", "7"), ({}, None, None)]
)
@pytest.mark.parametrize("name", ["ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY"])
def test_training_in_bf16_on_a_cpu_keeps_few_kernels(name, options, given, expected, tmp_path, monkeypatch):
    """Each shape of a batch of texts has kernels of its own, which oneDNN would keep by the thousand."""
    for cache in bf16._KERNEL_CACHES:
        # undone even where it was not set
        monkeypatch.setenv(cache, "")
        monkeypatch.delenv(cache)
    if given is not None:
        monkeypatch.setenv(name, given)
    args = TrainingArguments(str(tmp_path), report_to="none", use_cpu=True, **options)
    choose_attention(None, args, None)
    assert os.environ.get(name) == expected
