"""Loads checkpoints, scores with them and saves them again, where clickprompt_hf cannot be imported.

    python -I without_package.py FOLDER

FOLDER holds checkpoints in `ctr`, `pamlm`, `paclm`, `alone` and `mine`; `inputs.json` has a batch for each, and rows.
What they give is written to `outputs.json`.
"""

import json
import sys
from pathlib import Path


class Refuse:
    """An import hook: the package is not there."""

    @staticmethod
    def find_spec(name, path=None, target=None):
        if name.partition(".")[0] == "clickprompt_hf":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


sys.meta_path.insert(0, Refuse)

import torch  # noqa: E402
from transformers import (  # noqa: E402
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    AutoProcessor,
    pipeline,
)

HUB_ID = "org/name"
TRUST = {"trust_remote_code": True}


def main(folder: Path) -> None:
    inputs = json.loads((folder / "inputs.json").read_text())
    outputs: dict = {"scores": {}}

    def output(auto_class, path, batch):
        model = auto_class.from_pretrained(path, **TRUST)
        with torch.no_grad():
            result = model(**{name: torch.tensor(values) for name, values in inputs[batch].items()})
        return model, (result.last_hidden_state if auto_class is AutoModel else result.logits).tolist()

    for name, auto_class in (
        ("ctr", AutoModelForSequenceClassification),
        ("alone", AutoModelForSequenceClassification),
        ("pamlm", AutoModelForMaskedLM),
        ("paclm", AutoModelForCausalLM),
    ):
        model, outputs[name] = output(auto_class, folder / name, name)
        model.save_pretrained(folder / "again" / name)
        AutoProcessor.from_pretrained(folder / name, **TRUST).save_pretrained(folder / "again" / name)
    # the checkpoint of one head also names the code of the others
    outputs["trunk"] = output(AutoModel, folder / "ctr", "ctr")[1]
    outputs["finetuned"] = type(output(AutoModelForSequenceClassification, folder / "pamlm", "pamlm")[0]).__name__
    AutoConfig.from_pretrained(folder / "ctr", **TRUST).save_pretrained(folder / "again" / "config")
    model, outputs["hub"] = output(AutoModelForSequenceClassification, HUB_ID, "ctr")
    model.save_pretrained(folder / "again" / "hub")
    _, outputs["reloaded"] = output(AutoModelForSequenceClassification, folder / "again" / "ctr", "ctr")

    for name in (HUB_ID, *(str(folder / name) for name in ("ctr", "alone", "again/ctr"))):
        score = pipeline("ctr-prediction", model=name, **TRUST)
        outputs["scores"][Path(name).name if name == HUB_ID else str(Path(name).relative_to(folder))] = score(
            inputs["rows"]
        )
    score.save_pretrained(folder / "again" / "pipeline")

    try:
        AutoModelForSequenceClassification.from_pretrained(folder / "mine", **TRUST)
    except ValueError as error:
        outputs["own backbone"] = str(error)
    try:
        score.processor.extend({name: [value] for name, value in inputs["rows"][0].items()})
    except ImportError as error:
        outputs["extending"] = str(error)
    outputs["imported"] = [name for name in sys.modules if name.partition(".")[0] == "clickprompt_hf"]
    (folder / "outputs.json").write_text(json.dumps(outputs))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
