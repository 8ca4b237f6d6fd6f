"""Reads the reference outputs of the authors' implementation and loads their weights into our models."""

import json
from pathlib import Path

import torch
from safetensors import safe_open

from clickprompt_hf import ClickPromptConfig, ClickPromptForCTR, ClickPromptForPAMLM, CTRConfig

FIXTURES = Path(__file__).parent / "fixtures"

# Constants in the authors' weights: they say nothing.
_CONSTANTS = ("position_ids", "field_p", "field_q", "triangle_mask")
_RENAMES = (
    ("ctr_model.embed.embedding.", "clickprompt.ctr.embedding.table."),
    ("ctr_model.cross_net.cross_layers.", "clickprompt.ctr.cross_net.layers."),
    ("ctr_model.prompt_layers.0.", "clickprompt.prompt_encoder.bottleneck."),
    ("ctr_model.prompt_layers.2.", "clickprompt.prompt_encoder.expansion."),
    ("ctr_model.fc_out.", "ctr_head.output."),
    ("nlp_encoder.", "clickprompt.plm."),
    ("nlp_head.0.", "text_head.dense."),
    ("nlp_head.2.", "text_head.output."),
    ("alpha", "fusion_alpha"),
)


def _fusion(model_fusion: str, weighted_add: bool) -> str:
    if not model_fusion.endswith("add"):
        return "text"
    return "weighted" if weighted_add else "sum"


class Reference:
    """One reference file: `tensors` by their names there, and our model with its weights, in eval mode."""

    def __init__(self, name: str, folder: Path = FIXTURES, attn_implementation: str = "sdpa"):
        with safe_open(folder / f"{name}.safetensors", "pt") as file:
            self.tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            self.metadata = file.metadata()
        self.original = json.loads(self.metadata["config"])
        self.field_sizes = json.loads(self.metadata["field_sizes"])
        self.model = self._model(attn_implementation)

    def _model(self, attn_implementation: str):
        original, arguments = self.original, json.loads(self.metadata["model_args"])
        ctr_config = CTRConfig(
            backbone=original["ctr_model_name"].lower(),
            field_sizes=self.field_sizes,
            embedding_size=original["embed_size"],
            dnn_hidden_sizes=[original["hidden_size"]] * original["num_hidden_layers"],
            num_cross_layers=original["num_cross_layers"],
            first_order=original["use_lr"],
        )
        if original["model_fusion"] == "ctr_only":
            config = ClickPromptConfig(ctr_config=ctr_config, fusion="ctr")
        else:
            plm = json.loads(self.metadata["plm_config"])
            kept = ("model_type", "vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads")
            kept += ("intermediate_size", "hidden_act", "max_position_embeddings", "type_vocab_size", "layer_norm_eps")
            kept += ("pad_token_id", "hidden_dropout_prob", "attention_probs_dropout_prob")
            config = ClickPromptConfig(
                text_config={key: plm[key] for key in kept},
                ctr_config=ctr_config,
                prompt_length=original["num_prompt"],
                fusion=_fusion(original["model_fusion"], arguments["weighted_add"]),
                fusion_alpha_on="text",
                pooling={"cls": "cls", "avg": "mean"}[arguments["pooler_type"]],
                tie_word_embeddings=False,
            )
        model_class = ClickPromptForPAMLM if self.metadata["task"] == "mlm" else ClickPromptForCTR
        model = model_class._from_config(config, attn_implementation=attn_implementation)
        model.load_state_dict(self._state(config.ctr_config.backbone, set(model.state_dict())))
        return model.eval()

    def _state(self, backbone: str, expected: set[str]) -> dict[str, torch.Tensor]:
        first_order = "ctr_head.first_order." if backbone == "fm" else "clickprompt.ctr.first_order."
        state = {}
        for key, tensor in self.tensors.items():
            if not key.startswith("model.") or key.endswith(_CONSTANTS):
                continue
            name = key.removeprefix("model.")
            for old, new in (
                *_RENAMES,
                ("ctr_model.lr_layer.embed_w.", f"{first_order}weight.table."),
                ("ctr_model.lr_layer.bias", f"{first_order}bias"),
            ):
                name = new + name.removeprefix(old) if name.startswith(old) else name
            for old in ("ctr_model.dnn.dnn.", "ctr_model.parallel_dnn.dnn."):
                if name.startswith(old):
                    layer, parameter = name.removeprefix(old).split(".")
                    name = f"clickprompt.ctr.dnn.layers.{int(layer) // 3}.{parameter}"
            # the released code makes α even where it is not used
            if name in expected or name != "fusion_alpha":
                state[name] = tensor
        return state

    @property
    def inputs(self) -> dict[str, torch.Tensor]:
        """The model's inputs: global ids become per-field ids."""
        offsets = torch.tensor([0, *self.field_sizes[:-1]]).cumsum(0)
        task = self.metadata["task"]
        return {
            "feature_ids": self.tensors["input.ctr_input_ids"] - offsets,
            "input_ids": self.tensors["input.mlm_input_ids" if task == "mlm" else "input.input_ids"],
            "attention_mask": self.tensors["input.attention_mask"],
            "labels": self.tensors["input.mlm_labels" if task == "mlm" else "input.labels"],
        }

    @property
    def expected(self) -> dict[str, torch.Tensor]:
        """`probability`, `loss`, `prompts`, and gradients under `grad.`."""
        outputs = {k.removeprefix("output."): v for k, v in self.tensors.items() if k.startswith("output.")}
        return {**outputs, **{k: v for k, v in self.tensors.items() if k.startswith("grad.")}}
