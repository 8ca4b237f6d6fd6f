# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""ClickPrompt (arXiv 2310.09234): soft prompts for a language model, made from a CTR model's interaction vector.

Shapes: B batch, C columns of ids, D interaction size, T text tokens, H PLM hidden size, L PLM layers, A attention
heads, K prompt length, V vocabulary size, M masked tokens of the batch.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from transformers import AutoConfig, AutoModel, AutoModelForMaskedLM, PreTrainedModel
from transformers import initialization as init
from transformers.modeling_outputs import BaseModelOutput
from transformers.utils import ModelOutput, logging

from .configuration_clickprompt import ClickPromptConfig
from .layers_ctr import FeatureEmbedding, FieldGraphStep, FirstOrder, XavierLinear
from .layers_prompt import PromptLinear, SlotLinear, make_prompt_encoder
from .modeling_ctr import SumHead, build_backbone
from .modeling_plm import PromptCache, lm_head_family, no_pooler, prepare_plm

logger = logging.get_logger(__name__)


@dataclass
class ClickPromptModelOutput(ModelOutput):
    """What the trunk gives.

    Args:
        last_hidden_state: (B, T, H), the PLM's last layer at the text positions; `None` without a PLM.
        interaction: (B, D), the interaction vector q; `None` where the ids are not used.
        prompts: (B, L, 2, A, K, H / A), keys and values for every layer, or (B, K, H) if shallow, on request.
        hidden_states: L + 1 times (B, T, H), or (B, K + T, H) with shallow prompts in front, on request.
    """

    last_hidden_state: torch.Tensor | None = None
    interaction: torch.Tensor | None = None
    prompts: torch.Tensor | None = None
    hidden_states: tuple[torch.Tensor, ...] | None = None


@dataclass
class ClickPromptForCTROutput(ModelOutput):
    """Click prediction.

    Args:
        loss: (), mean binary cross-entropy of the fused logit, with labels.
        logits: (B, 1), the fused logit, before the sigmoid.
        ctr_logits: (B, 1), the CTR side's logit, where the fusion has one.
        text_logits: (B, 1), the text side's logit, where the fusion has one.
        prompts: as in `ClickPromptModelOutput`.
    """

    loss: torch.Tensor | None = None
    logits: torch.Tensor | None = None
    ctr_logits: torch.Tensor | None = None
    text_logits: torch.Tensor | None = None
    prompts: torch.Tensor | None = None


@dataclass
class ClickPromptForPAMLMOutput(ModelOutput):
    """Prompt-augmented masked language modelling.

    Args:
        loss: (), mean cross-entropy over the masked tokens, with labels.
        logits: (B, T, V), without labels only: evaluation must not gather them.
        masked_correct: (B,) int64, masked tokens whose most likely token is the right one, with labels.
        masked_count: (B,) int64, masked tokens, with labels.
        prompts: as in `ClickPromptModelOutput`.
    """

    loss: torch.Tensor | None = None
    logits: torch.Tensor | None = None
    masked_correct: torch.Tensor | None = None
    masked_count: torch.Tensor | None = None
    prompts: torch.Tensor | None = None


class TextHead(nn.Module):
    """The pooled text to the text logit: `Linear(H, H) -> Tanh -> Linear(H, 1)`."""

    def __init__(self, hidden_size: int):
        super().__init__()
        self.dense = nn.Linear(hidden_size, hidden_size)
        self.output = nn.Linear(hidden_size, 1)

    def forward(self, pooled: torch.Tensor) -> torch.Tensor:
        """pooled (B, H) to logits (B, 1)."""
        return self.output(torch.tanh(self.dense(pooled)))


class ClickPromptPreTrainedModel(PreTrainedModel):
    """Weight initialisation, and loading of PLMs and of checkpoints, for all ClickPrompt models."""

    config_class = ClickPromptConfig
    config: ClickPromptConfig
    base_model_prefix = "clickprompt"
    main_input_name = "feature_ids"
    supports_gradient_checkpointing = True
    accepts_loss_kwargs = True
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True
    _supports_attention_backend = True
    # Heads of the other task, and the whole PLM when only the CTR part is built.
    _keys_to_ignore_on_load_unexpected = [  # noqa: RUF012
        r"^lm_head\.",
        r"^ctr_head\.",
        r"^text_head\.",
        r"^fusion_alpha$",
        r"^(clickprompt\.)?(plm|prompt_encoder)\.",
    ]

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, FeatureEmbedding):
            weight = module.table.weight
            init.normal_(weight, std=self.config.ctr_config.embedding_initializer_range)
            if not getattr(weight, "_is_hf_initialized", False):
                # No training row need hold an out-of-vocabulary id: it starts as no evidence at all.
                weight[module.field_offsets] = 0
            module.fill_buffers()
        elif isinstance(module, PromptLinear):
            init.xavier_normal_(module.weight, gain=self.config.prompt_initializer_scale)
        elif isinstance(module, (XavierLinear, nn.Conv2d)):
            init.xavier_normal_(module.weight)
        elif isinstance(module, SlotLinear):
            # Xavier normal for each matrix
            init.normal_(module.weight, std=(2 / sum(module.weight.shape[2:])) ** 0.5)
            init.zeros_(module.bias)
        elif isinstance(module, nn.GRUCell):
            for name, parameter in module.named_parameters():
                (init.zeros_ if name.startswith("bias") else init.xavier_normal_)(parameter)
        elif isinstance(module, FieldGraphStep):
            for matrices in (module.outgoing, module.incoming):
                # Xavier normal for each square matrix
                init.normal_(matrices, std=matrices.shape[-1] ** -0.5)
            init.zeros_(module.bias)
        elif isinstance(module, (FirstOrder, SumHead)):
            init.zeros_(module.bias)
        elif isinstance(module, nn.ParameterList):
            for bias in module:
                init.zeros_(bias)
        elif isinstance(module, ClickPromptForCTR) and module.fusion_alpha is not None:
            init.constant_(module.fusion_alpha, self.config.fusion_alpha)

    @classmethod
    def from_plm_pretrained(cls, plm_name_or_path, ctr_config, plm_kwargs: dict | None = None, **prompt_options):
        """A ClickPrompt model on a pretrained PLM; backbone, prompt encoder and click heads are fresh.

        Args:
            plm_name_or_path: Hub id or folder of the PLM.
            ctr_config (`CTRConfig`): The backbone.
            plm_kwargs: Keyword arguments of the PLM's own `from_pretrained`, e.g. `revision` or `dtype`.
            prompt_options: Further arguments of `ClickPromptConfig`, e.g. `prompt_length` or `fusion`.

        Raises:
            ValueError: If an option is invalid, or the PLM's class cannot take prompts.
            OSError: If there is no such PLM.
        """
        plm_kwargs = plm_kwargs or {}
        text_config = AutoConfig.from_pretrained(plm_name_or_path, **plm_kwargs)
        # The weights are loaded into a model of one type throughout, whatever they are stored in.
        text_config.architectures = text_config.dtype = None
        config = ClickPromptConfig(
            text_config=text_config,
            ctr_config=ctr_config,
            tie_word_embeddings=text_config.tie_word_embeddings,
            **prompt_options,
        )
        model = cls(config)
        model._load_plm(plm_name_or_path, plm_kwargs)
        return model

    def _load_plm(self, plm_name_or_path, plm_kwargs: dict) -> None:
        plm = AutoModel.from_pretrained(plm_name_or_path, **no_pooler(self.config.text_config), **plm_kwargs)
        self.trunk.plm.load_state_dict(plm.state_dict())

    @property
    def trunk(self) -> Any:
        """The `ClickPromptModel` under the head; the model itself where it has none."""
        return self.base_model

    def get_input_embeddings(self) -> nn.Module:
        """The PLM's token embeddings, or the feature embeddings without a PLM."""
        plm = self.trunk.plm
        return self.trunk.ctr.embedding.table if plm is None else plm.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        self.trunk.plm.set_input_embeddings(value)


class ClickPromptModel(ClickPromptPreTrainedModel):
    """The trunk: CTR backbone, prompt encoder and PLM, without heads."""

    def __init__(self, config: ClickPromptConfig):
        super().__init__(config)
        self.ctr: Any = None
        if config.use_ctr:
            self.ctr = build_backbone(config.ctr_config)
        self.plm: Any = None
        self.prompt_encoder: nn.Module | None = None
        if config.use_plm:
            self.plm = prepare_plm(AutoModel.from_config(config.text_config, **no_pooler(config.text_config)))
            if config.num_prompts:
                self.prompt_encoder = make_prompt_encoder(self.ctr.interaction_size, self.plm, config)
        self.post_init()

    def forward(
        self,
        feature_ids: torch.Tensor,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        output_prompts: bool = False,
        output_hidden_states: bool = False,
        return_dict: bool | None = None,
    ) -> ClickPromptModelOutput | tuple:
        """Ids and text to the interaction vector and the PLM's view of the text.

        Args:
            feature_ids: (B, C), each in [0, field_size); -1 is an empty slot of a multi-valued field.
            input_ids: (B, T), the text. Needed when the model has a PLM.
            attention_mask: (B, T), 1 at text, 0 at padding; all ones when left out. It covers the text only.
            output_prompts: Whether to return the prompts.
            output_hidden_states: Whether to return the states of all PLM layers.
            return_dict: `False` for a plain tuple.

        Raises:
            ValueError: If a PLM has no text to read, or the text is too long for its positions.
        """
        interaction = None if self.ctr is None else self.ctr(feature_ids)
        prompts = None if self.prompt_encoder is None else self.prompt_encoder(interaction, self.plm)
        outputs = ClickPromptModelOutput(interaction=interaction, prompts=prompts if output_prompts else None)
        if self.plm is not None:
            encoded = self.encode_text(input_ids, attention_mask, prompts, output_hidden_states)
            states: Any = encoded.last_hidden_state
            outputs.last_hidden_state = states[:, self.config.num_input_prompts :]
            outputs.hidden_states = encoded.hidden_states
        return outputs if return_dict is not False else outputs.to_tuple()

    def encode_text(
        self,
        input_ids: torch.Tensor | None,
        attention_mask: torch.Tensor | None,
        prompts: torch.Tensor | None,
        output_hidden_states: bool = False,
    ) -> BaseModelOutput:
        """The PLM's outputs for the text and its prompts; shallow prompts are positions of their own, in front."""
        if input_ids is None:
            raise ValueError(
                "`input_ids` must be given: this model has a PLM. Pass `use_plm=False` to load it without."
            )
        if input_ids.shape[1] > self.config.max_text_length:
            raise ValueError(
                f"`input_ids` must have at most {self.config.max_text_length} tokens a row, so that the text and "
                f"{self.config.num_prompts} prompts fit the PLM's positions; got {input_ids.shape[1]}."
            )
        if attention_mask is None:
            attention_mask = torch.ones_like(input_ids)
        # (B, T) -> (B, K + T): every text position sees every prompt
        attention_mask = F.pad(attention_mask, (self.config.num_prompts, 0), value=1)
        inputs: dict[str, Any] = {"input_ids": input_ids}
        if prompts is not None and self.config.prompt_strategy == "layerwise":
            inputs["past_key_values"] = PromptCache(prompts)
        elif prompts is not None:
            # (B, K, H) and (B, T, H) -> (B, K + T, H)
            inputs = {"inputs_embeds": torch.cat([prompts, self.plm.get_input_embeddings()(input_ids)], dim=1)}
        return self.plm(**inputs, attention_mask=attention_mask, output_hidden_states=output_hidden_states)


class ClickPromptForPAMLM(ClickPromptPreTrainedModel):
    """Stage 1, prompt-augmented masked language modelling: recover masked tokens from the text and the prompts."""

    def __init__(self, config: ClickPromptConfig):
        super().__init__(config)
        if not config.use_plm:
            raise ValueError("PA-MLM needs a PLM, but the configuration has `fusion='ctr'`.")
        family = lm_head_family(config.text_config)
        self.clickprompt = ClickPromptModel(config)
        self.lm_head = family.head_class(config.text_config)
        self._tied_weights_keys = {
            f"lm_head.{family.decoder}.weight": "clickprompt.plm.embeddings.word_embeddings.weight"
        }
        if family.bias is not None:
            self._tied_weights_keys[f"lm_head.{family.decoder}.bias"] = f"lm_head.{family.bias}"
        self.post_init()

    def _load_plm(self, plm_name_or_path, plm_kwargs: dict) -> None:
        family = lm_head_family(self.config.text_config)
        plm, loading = AutoModelForMaskedLM.from_pretrained(plm_name_or_path, output_loading_info=True, **plm_kwargs)
        self.clickprompt.plm.load_state_dict(plm.base_model.state_dict())
        missing = [key for key in loading["missing_keys"] if key.startswith(tuple(family.parts.values()))]
        if missing:
            logger.warning(
                f"{plm_name_or_path} has no complete LM head: {', '.join(sorted(missing))} start fresh, in the shape "
                f"of {family.head_class.__name__}. PA-MLM trains them."
            )
        for ours, theirs in family.parts.items():
            self.lm_head.get_submodule(ours).load_state_dict(plm.get_submodule(theirs).state_dict())
        self.tie_weights()

    def get_output_embeddings(self) -> nn.Module:
        return self.lm_head.get_submodule(lm_head_family(self.config.text_config).decoder)

    def forward(
        self,
        feature_ids: torch.Tensor,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        num_items_in_batch: torch.Tensor | int | None = None,
        output_prompts: bool = False,
        return_dict: bool | None = None,
    ) -> ClickPromptForPAMLMOutput | tuple:
        """Masked text and intact ids to the loss over the masked tokens, or to all logits without labels.

        Args:
            feature_ids: (B, C), never masked.
            input_ids: (B, T), masked.
            attention_mask: (B, T), of the text.
            labels: (B, T), the token at masked positions, -100 elsewhere.
            num_items_in_batch: Masked tokens that the loss is divided by; those of this batch when left out.
            output_prompts: Whether to return the prompts.
            return_dict: `False` for a plain tuple.
        """
        trunk = self.clickprompt(feature_ids, input_ids, attention_mask, output_prompts)
        outputs = ClickPromptForPAMLMOutput(prompts=trunk.prompts)
        if labels is None:
            outputs.logits = self.lm_head(trunk.last_hidden_state)
        else:
            masked = labels != -100
            # (B, T, H) -> (M, H): the vocabulary is projected to where a loss is taken, and nowhere else
            logits = self.lm_head(trunk.last_hidden_state[masked]).float()
            total_loss = F.cross_entropy(logits, labels[masked], reduction="sum")
            outputs.loss = total_loss / _loss_divisor(num_items_in_batch, masked)
            correct = torch.zeros_like(labels)
            correct[masked] = (logits.argmax(dim=-1) == labels[masked]).long()
            outputs.masked_correct, outputs.masked_count = correct.sum(dim=1), masked.sum(dim=1)
        return outputs if return_dict is not False else outputs.to_tuple()


# Whose mean is pooled: places in a PLM's hidden states, of which the first are the embeddings.
_POOLED_LAYERS = {"mean_first_last": (1, -1), "mean_last_two": (-2, -1)}


class ClickPromptForCTR(ClickPromptPreTrainedModel):
    """Stage 2, click prediction from the fused logit, with the PLM or, with `use_plm=False`, by the CTR part alone."""

    def __init__(self, config: ClickPromptConfig):
        super().__init__(config)
        self.clickprompt = ClickPromptModel(config)
        self.ctr_head = self.clickprompt.ctr.make_head() if config.fusion != "text" else None
        self.text_head = TextHead(config.text_config.hidden_size) if config.use_plm else None
        self.fusion_alpha: nn.Parameter | None = None
        if config.fusion == "weighted":
            self.fusion_alpha = nn.Parameter(
                torch.full((1,), float(config.fusion_alpha)), requires_grad=config.learn_fusion_alpha
            )
        self.post_init()

    def forward(
        self,
        feature_ids: torch.Tensor,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        num_items_in_batch: torch.Tensor | int | None = None,
        output_prompts: bool = False,
        return_dict: bool | None = None,
    ) -> ClickPromptForCTROutput | tuple:
        """Ids and text to the click logit.

        Args:
            feature_ids: (B, C).
            input_ids: (B, T), the text; not read without a PLM.
            attention_mask: (B, T), of the text.
            labels: (B,), clicks, 0 or 1; -100 leaves a row out of the loss.
            num_items_in_batch: Rows that the loss is divided by; those of this batch when left out.
            output_prompts: Whether to return the prompts.
            return_dict: `False` for a plain tuple.
        """
        all_layers = self.config.pooling in _POOLED_LAYERS or self.config.pool_prompts
        trunk = self.clickprompt(feature_ids, input_ids, attention_mask, output_prompts, all_layers)
        ctr_logits = None if self.ctr_head is None else self.ctr_head(trunk.interaction, feature_ids)
        text_logits = None
        if self.text_head is not None:
            text_logits = self.text_head(self.pool(trunk, attention_mask))
        logits = self.fuse(ctr_logits, text_logits)
        outputs = ClickPromptForCTROutput(
            logits=logits, ctr_logits=ctr_logits, text_logits=text_logits, prompts=trunk.prompts
        )
        if labels is not None:
            counted = labels != -100
            losses = F.binary_cross_entropy_with_logits(
                logits.squeeze(-1).float(), labels.clamp(min=0).float(), reduction="none"
            )
            outputs.loss = (losses * counted).sum() / _loss_divisor(num_items_in_batch, counted)
        return outputs if return_dict is not False else outputs.to_tuple()

    def pool(self, trunk: ClickPromptModelOutput, attention_mask: torch.Tensor | None) -> torch.Tensor:
        """The trunk's view of the text to the pooled text (B, H), padding left out."""
        states: Any = trunk.last_hidden_state
        prompts = 0
        if trunk.hidden_states is not None:
            first, second = _POOLED_LAYERS.get(self.config.pooling, (-1, -1))
            states = (trunk.hidden_states[first] + trunk.hidden_states[second]) / 2
            prompts = self.config.num_input_prompts
            if not self.config.pool_prompts:
                states, prompts = states[:, prompts:], 0
        if self.config.pooling == "cls":
            return states[:, 0]
        if attention_mask is None:
            return states.mean(dim=1)
        weights = F.pad(attention_mask, (prompts, 0), value=1).unsqueeze(-1).to(states.dtype)
        return (states * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1)

    def fuse(self, ctr_logits: torch.Tensor | None, text_logits: torch.Tensor | None) -> torch.Tensor:
        """The two sides' logits (B, 1) to the click logit (B, 1)."""
        if ctr_logits is None:
            assert text_logits is not None  # a configuration has at least one side
            return text_logits
        if text_logits is None:
            return ctr_logits
        if self.fusion_alpha is None:
            return ctr_logits + text_logits
        alpha_on_ctr = self.fusion_alpha if self.config.fusion_alpha_on == "ctr" else 1 - self.fusion_alpha
        return alpha_on_ctr * ctr_logits + (1 - alpha_on_ctr) * text_logits


def _loss_divisor(num_items_in_batch: torch.Tensor | int | None, counted: torch.Tensor) -> torch.Tensor | int:
    """What a summed loss is divided by: at least 1, so that a batch with nothing to predict has loss 0."""
    if num_items_in_batch is None:
        return counted.sum().clamp(min=1)
    if isinstance(num_items_in_batch, torch.Tensor):
        return num_items_in_batch.to(counted.device).clamp(min=1)
    return max(num_items_in_batch, 1)
