"""Training steps with the PLM, our way and the plain way, for the benchmarks of both stages.

Ours reads whole batches of rows of similar length from token tables, uses bf16 (with eager attention on CPUs) if the
processor multiplies it faster, and projects only masked tokens to the vocabulary. Plain reads rows one by one,
tokenizes their rendered text per batch, uses fp32 and computes all logits.
"""

from collections.abc import Iterator
from itertools import count, product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import measure
import numpy as np
import torch
from datasets import Dataset
from torch.nn import functional as F
from torch.utils.data import DataLoader
from transformers import BertConfig, GPT2Config, PreTrainedConfig, RobertaConfig, T5Config

from clickprompt_hf import (
    ClickPromptConfig,
    ClickPromptForCTR,
    ClickPromptForPACLM,
    ClickPromptForPAMLM,
    ClickPromptProcessor,
)
from clickprompt_hf.data.collators import ClickPromptCLMCollator, ClickPromptCollator, ClickPromptMLMCollator
from clickprompt_hf.data.columnar import load_prepared, prepare_splits
from clickprompt_hf.data.reading import load_splits
from clickprompt_hf.presets import ctr_preset
from clickprompt_hf.runs.plms import scratch_tokenizer
from clickprompt_hf.training.bf16 import bf16_pays
from clickprompt_hf.training.sampling import EpochSampler

TINY = "2 x 128"
PLMS: dict[str, PreTrainedConfig] = {
    TINY: RobertaConfig(
        vocab_size=4096, hidden_size=128, num_hidden_layers=2, num_attention_heads=2, intermediate_size=512
    ),
    "4 x 256": RobertaConfig(
        vocab_size=8192, hidden_size=256, num_hidden_layers=4, num_attention_heads=4, intermediate_size=1024
    ),
    "6 x 384 (MiniLM)": BertConfig(
        hidden_size=384, num_hidden_layers=6, num_attention_heads=12, intermediate_size=1536
    ),
    "RoBERTa-base": RobertaConfig(vocab_size=50265),
    "RoBERTa-large": RobertaConfig(
        vocab_size=50265, hidden_size=1024, num_hidden_layers=24, num_attention_heads=16, intermediate_size=4096
    ),
    "BERT-large": BertConfig(hidden_size=1024, num_hidden_layers=24, num_attention_heads=16, intermediate_size=4096),
    "T5-base": T5Config(d_model=768, d_kv=64, d_ff=3072, num_layers=12, num_heads=12),
    "GPT-2": GPT2Config(),
}


def steps(
    stage: str,
    plain: bool,
    plm: str,
    prompt_length: int,
    prompt_encoder: str,
    batch_size: int,
    warmup: int,
    repeats: int,
    torch_compile: bool,
    data: Any,
) -> dict[str, Any]:
    """Measure samples per second over `repeats` optimizer steps, after `warmup` others.

    Args:
        stage: "pamlm" or "finetune".
        plain: Train the plain way.
        plm: Key of `PLMS`.
        prompt_length, prompt_encoder, batch_size: As in training.
        warmup: Number of steps before those. On a GPU, a step that meets lengths for the first time loads kernels.
        repeats: Number of steps to time.
        torch_compile: Compile the model, as `--torch_compile true` does in training.
        data: Name of a dataset and the path of its files, or `None`.
    """
    torch.manual_seed(0)
    with TemporaryDirectory() as folder:
        splits, schema = load_splits(*data)
        processor = processor_of(splits, schema)
        model = model_of(stage, plm, prompt_length, prompt_encoder, processor)
        device = measure.device()
        model.to(device).train()
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True)
        autocast = not plain and bf16_pays()
        if autocast and device.type == "cpu":
            # as the trainer does
            model.set_attn_implementation("eager")
        forward = torch.compile(model, dynamic=True) if torch_compile else model
        batches = _plain_batches if plain else _batches
        loader = batches(stage, splits["train"], processor, model, batch_size, Path(folder))

        def gradients() -> None:
            batch = {name: values.to(device) for name, values in next(loader).items()}
            with torch.autocast(device.type, torch.bfloat16, enabled=autocast):
                loss = _full_loss(model, batch) if plain and stage == "pamlm" else forward(**batch).loss
            loss.backward()

        def step() -> None:
            gradients()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()

        seconds = measure.repeat(step, warmup, repeats)
        peak = measure.peak_memory_gb()
        # batches differ in length and so in arithmetic
        forward = model
        gflop = float(np.mean([measure.gflop(gradients) for _ in range(min(repeats, 10))]))
    parameters = sum(parameter.numel() for parameter in model.parameters())
    rates = [batch_size / s for s in seconds]
    limit = measure.against_limit(rates, gflop / batch_size, autocast)
    return {"samples/s": rates, "parameters": parameters, "bf16": autocast, **limit, "peak_memory_gb": peak}


def processor_of(splits: Any, schema: Any, with_tokenizer: bool = True) -> ClickPromptProcessor:
    """Fit a processor to the training rows, with a tokenizer trained on a few of them."""
    processor = ClickPromptProcessor.fit(splits["train"], schema)
    if with_tokenizer:
        few = splits["train"].slice(0, 2000)
        processor.tokenizer = scratch_tokenizer("scratch-small", processor.render(few))
    return processor


def model_of(stage: str, plm: str, prompt_length: int, prompt_encoder: str, processor: ClickPromptProcessor) -> Any:
    vocabularies = {"field_sizes": processor.field_sizes, "max_values": processor.max_values}
    config = ClickPromptConfig(
        text_config=PLMS[plm].to_dict(),
        ctr_config=ctr_preset("dcnv2", "ml-1m", **vocabularies),
        prompt_length=prompt_length,
        prompt_encoder=prompt_encoder,
    )
    if stage == "finetune":
        return ClickPromptForCTR(config)
    return (ClickPromptForPACLM if config.causal else ClickPromptForPAMLM)(config)


def _collator(stage: str, processor: ClickPromptProcessor, model: Any) -> Any:
    if stage == "finetune":
        return ClickPromptCollator(processor)
    return ClickPromptMLMCollator(processor) if not model.config.causal else ClickPromptCLMCollator(processor)


def _batches(stage, rows, processor, model, batch_size, folder: Path) -> Iterator[dict[str, torch.Tensor]]:
    """Yield whole batches from token tables, as with `--train_sampling_strategy group_by_length`."""
    prepare_splits(
        {"train": rows, "validation": rows.slice(0, 1), "test": rows.slice(0, 1)}, processor, folder / "data"
    )
    dataset = load_prepared(folder / "data")[0]["train"]
    order = EpochSampler(len(dataset), seed=0, lengths=dataset.text_lengths(), batch_size=batch_size)
    loader = DataLoader(dataset, batch_size, sampler=order, collate_fn=_collator(stage, processor, model))
    for _ in count():
        yield from loader


def _plain_batches(stage, rows, processor, model, batch_size, folder: Path) -> Iterator[dict[str, torch.Tensor]]:
    """Yield batches of single rows, tokenized when the batch is made."""
    collate = _collator(stage, processor, model)

    def tokenize(batch: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        features = processor(batch)
        return collate([{name: features[name][i] for name in features} for i in range(len(batch))])

    loader = DataLoader(Dataset(rows), batch_size, shuffle=True, collate_fn=tokenize)
    for _ in count():
        yield from loader


def _full_loss(model: Any, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """Compute the loss from the logits of all tokens, as most implementations do."""
    labels = batch.pop("labels")
    logits = model(**batch).logits
    if model.config.causal:
        logits, labels = logits[:, :-1], labels[:, 1:]
    return F.cross_entropy(logits.flatten(0, 1).float(), labels.flatten())


def main(stage: str, description: str | None, arguments: list[str] | None = None) -> dict[str, Any]:
    """Run the benchmark of one stage: one row per PLM, prompt length, encoder and batch size."""
    parser = measure.data_parser(description)
    parser.add_argument("--plms", nargs="+", choices=PLMS, default=["4 x 256", "6 x 384 (MiniLM)", "RoBERTa-base"])
    parser.add_argument("--prompt_lengths", nargs="+", type=int, default=[10])
    parser.add_argument("--prompt_encoders", nargs="+", default=["released", "low_rank"])
    parser.add_argument("--batch_sizes", nargs="+", type=int, default=[32])
    parser.add_argument("--repeats", type=int, default=10)
    default = 40 if torch.cuda.is_available() else 2
    parser.add_argument("--warmup", type=int, default=default, help="steps before those that are timed")
    parser.add_argument("--torch_compile", action="store_true", help="compile ours")
    parser.add_argument("--no_plain", action="store_true", help="skip the plain way")
    args = parser.parse_args(arguments)
    if args.quick:
        args.plms, args.prompt_lengths, args.prompt_encoders = [TINY], [2], ["released"]
        args.batch_sizes, args.repeats = [4], 2
    rows = []
    for plm, length, encoder, batch_size in product(
        args.plms, args.prompt_lengths, args.prompt_encoders, args.batch_sizes
    ):
        for plain in [False] if args.no_plain else [False, True]:
            compiled = args.torch_compile and not plain
            data = (args.dataset, args.data_path)
            of_step = (stage, plain, plm, length, encoder, batch_size, args.warmup, args.repeats, compiled, data)
            measured = measure.in_fresh_process(steps, *of_step)
            row = {"PLM": plm, "K": length, "prompt encoder": encoder, "batch": batch_size}
            rows.append({**row, "way": "plain" if plain else "ours", **measured})
            print(rows[-1], flush=True)
    return measure.report(f"{stage}, training steps", rows, args)
