# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""ClickPrompt (arXiv 2310.09234): soft prompts for a language model, made from a CTR model's interaction vector.

Shapes: B batch, C columns of ids, D interaction size, T text tokens, H PLM hidden size, L PLM layers, A attention
heads, K prompt length, V vocabulary size, M masked tokens of the batch.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel
from transformers import initialization as init
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_outputs import BaseModelOutput
from transformers.utils import ModelOutput, logging

# One line an import: in parentheses they would not survive the copy into a checkpoint.
# isort: off
from .configuration_clickprompt import ClickPromptConfig
from .layers_ctr import FeatureEmbedding, FieldGraphStep, FirstOrder, XavierLinear, check_growth
from .layers_prompt import PromptLinear, PromptSlotLinear, SlotLinear, make_prompt_encoder
from .modeling_ctr import CTRBackbone, CTRHead, build_backbone
from .lm_heads import HEADS_WITH_BIAS, LinearLMHead
from .prompt_injection import CachePath, HiddenStatePath
from .prompt_injection import fresh_plm, plm_auto_class, prompt_path, take_positions
from .lm_heads import masked_lm_head
# isort: on

logger = logging.get_logger(__name__)


@dataclass
class ClickPromptModelOutput(ModelOutput):
    """What the trunk gives.

    Args:
        last_hidden_state: (B, T, H), the PLM's last layer at the text positions, or (B, R, H) at those asked for;
            `None` without a PLM.
        interaction: (B, D), the interaction vector q; `None` where the ids are not used.
        prompts: For every layer keys and values (B, L, 2, A, K, head size), or hidden states (B, L, K, H) if the PLM
            takes no cache; (B, K, H) if shallow. On request.
        hidden_states: L + 1 times (B, T, H), or (B, K + T, H) where prompts are positions of the input, in front. On
            request.
        attentions: L times (B, A, T, K + T), or (B, A, K + T, K + T) where prompts are positions of the input: the
            weights of each position's attention, those on the prompts in front. On request.
    """

    last_hidden_state: torch.Tensor | None = None
    interaction: torch.Tensor | None = None
    prompts: torch.Tensor | None = None
    hidden_states: tuple[torch.Tensor, ...] | None = None
    attentions: tuple[torch.Tensor, ...] | None = None


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
    """Prompt-augmented masked, or causal, language modelling; to the causal one every token but the first is masked.

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
    """The pooled text to the text logit: `Linear(H, H) -> Tanh -> Linear(H, 1)`.

    Fresh weights are Xavier normal: with a PLM's normal(0.02) the CTR side takes all that both could learn before the
    text side of a narrow PLM has begun.
    """

    def __init__(self, hidden_size: int):
        super().__init__()
        self.dense = XavierLinear(hidden_size, hidden_size)
        self.output = XavierLinear(hidden_size, 1)

    def forward(self, pooled: torch.Tensor) -> torch.Tensor:
        """pooled (B, H) to logits (B, 1)."""
        return self.output(torch.tanh(self.dense(pooled)))


class Fusion(nn.Module):
    r"""The two sides' logits to the click logit: their sum, their convex combination by α, or the one that there is.

    \\(\alpha z_{ctr} + (1 - \alpha) z_{text}\\) with the paper's `fusion_alpha_on="ctr"`; in the authors' code α
    weighs the text. A fixed α is a buffer.
    """

    def __init__(self, config: ClickPromptConfig):
        super().__init__()
        self.alpha_on = config.fusion_alpha_on
        self.alpha: Any
        alpha = torch.full((1,), float(config.fusion_alpha)) if config.fusion == "weighted" else None
        if alpha is not None and config.learn_fusion_alpha:
            self.alpha = nn.Parameter(alpha)
        else:
            self.register_buffer("alpha", alpha)

    def forward(self, ctr_logits: torch.Tensor | None, text_logits: torch.Tensor | None) -> torch.Tensor:
        """Logits (B, 1), at least one of them, to the click logit (B, 1)."""
        if ctr_logits is None:
            assert text_logits is not None  # a configuration has at least one side
            return text_logits
        if text_logits is None:
            return ctr_logits
        if self.alpha is None:
            return ctr_logits + text_logits
        alpha_on_ctr = self.alpha if self.alpha_on == "ctr" else 1 - self.alpha
        return alpha_on_ctr * ctr_logits + (1 - alpha_on_ctr) * text_logits


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
        r"^fusion\.",
        r"^(clickprompt\.)?(plm|prompt_encoder)\.",
    ]

    def __init__(self, config: ClickPromptConfig):
        # options given to `from_pretrained` were set after the configuration checked itself
        config.check()
        super().__init__(config)

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
            scale = self.config.prompt_initializer_scale if isinstance(module, PromptSlotLinear) else 1.0
            init.normal_(module.weight, std=scale * (2 / sum(module.weight.shape[2:])) ** 0.5)
            init.zeros_(module.bias)
        elif isinstance(module, nn.GRUCell):
            for name, parameter in module.named_parameters():
                (init.zeros_ if name.startswith("bias") else init.xavier_normal_)(parameter)
        elif isinstance(module, FieldGraphStep):
            for matrices in (module.outgoing, module.incoming):
                # Xavier normal for each square matrix
                init.normal_(matrices, std=matrices.shape[-1] ** -0.5)
            init.zeros_(module.bias)
        elif isinstance(module, (FirstOrder, *HEADS_WITH_BIAS)):
            init.zeros_(module.bias)
        elif isinstance(module, (CTRBackbone, CTRHead)):
            module.init_own_parameters()
        elif isinstance(module, nn.ParameterList):
            for bias in module:
                init.zeros_(bias)
        elif isinstance(module, Fusion) and module.alpha is not None:
            init.constant_(module.alpha, self.config.fusion_alpha)

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path, *args, **kwargs):
        """As transformers', which does not say whose weights are damaged.

        Raises:
            OSError: If a file is missing or damaged.
        """
        try:
            return super().from_pretrained(pretrained_model_name_or_path, *args, **kwargs)
        except SafetensorError as error:
            raise OSError(
                f"{pretrained_model_name_or_path} must hold whole weights, but a safetensors file is damaged or cut "
                f"off: {error}."
            ) from error

    @classmethod
    def from_plm_pretrained(cls, plm_name_or_path, ctr_config, plm_kwargs: dict | None = None, **prompt_options):
        """A ClickPrompt model on a pretrained PLM; backbone, prompt encoder and click heads are fresh.

        Args:
            plm_name_or_path: Hub id or folder of the PLM.
            ctr_config (`CTRConfig`): The backbone.
            plm_kwargs: Keyword arguments of the PLM's own `from_pretrained`, e.g. `revision` or `token`. The weights
                are loaded in float32, whatever they are stored in.
            prompt_options: Further arguments of `ClickPromptConfig`, e.g. `prompt_length` or `fusion`.

        Raises:
            ValueError: If an option is unknown or invalid, or the PLM's class cannot take prompts.
            OSError: If there is no such PLM.
        """
        known = {field.name for field in fields(ClickPromptConfig)}
        if unknown := sorted(prompt_options.keys() - known):
            raise ValueError(f"`prompt_options` must be arguments of ClickPromptConfig, got {unknown}.")
        if prompt_options.get("fusion") == "ctr":
            raise ValueError("`fusion` must be one that reads a PLM, got 'ctr'.")
        plm_kwargs = plm_kwargs or {}
        text_config = AutoConfig.from_pretrained(plm_name_or_path, **plm_kwargs)
        # The weights are loaded into a model of one type throughout, whatever they are stored in.
        text_config.architectures = text_config.dtype = None
        if Path(plm_name_or_path).is_dir():
            # a published configuration names the Hub's PLM, and no folder of this machine
            text_config._name_or_path = ""
        model = cls(ClickPromptConfig(text_config=text_config, ctr_config=ctr_config, **prompt_options))
        model._load_plm(plm_name_or_path, plm_kwargs)
        return model

    def _load_plm(self, plm_name_or_path, plm_kwargs: dict) -> None:
        plm = plm_auto_class(self.config.text_config).from_pretrained(plm_name_or_path, **plm_kwargs)
        self._copy_trunk(plm)

    def _copy_trunk(self, plm: PreTrainedModel) -> None:
        """Copies the weights of `plm`, which may have more than the trunk, as a pooler, a head or a decoder."""
        given, own = plm.base_model.state_dict(), self.trunk.plm
        own.load_state_dict({name: given[name] for name in own.state_dict()})

    def _set_gradient_checkpointing(self, enable=True, gradient_checkpointing_func=checkpoint, *args, **kwargs):
        options = gradient_checkpointing_func.keywords if isinstance(gradient_checkpointing_func, partial) else {}
        if enable and options.get("use_reentrant"):
            raise ValueError(
                "`use_reentrant` must be False for gradient checkpointing, got True: reentrant replays would run "
                "backward through the prompt encoder once a layer."
            )
        super()._set_gradient_checkpointing(enable, gradient_checkpointing_func, *args, **kwargs)
        plm = self.trunk.plm
        if plm is not None and any(isinstance(module, GradientCheckpointingLayer) for module in plm.modules()):
            # The layers' own flags do it. GPT-2 drops its cache, and the prompts in it, where the whole has one too.
            plm.gradient_checkpointing = False

    def resize_feature_embeddings(self, field_sizes: Sequence[int]) -> None:
        """Gives fields more ids: in every table of feature embeddings or weights, and in the configuration.

        Rows that there are stay; new ones start as their field's out-of-vocabulary row. The tables' weights are new
        parameters: make an optimizer afterwards.

        Args:
            field_sizes: New number of ids of each field, as `ClickPromptProcessor.extend` returns them.

        Raises:
            ValueError: If there is another number of fields, or a field would lose ids.
        """
        ctr_config = self.config.ctr_config
        check_growth(field_sizes, ctr_config.field_sizes)
        for module in self.modules():
            if isinstance(module, FeatureEmbedding):
                module.resize(field_sizes)
        ctr_config.field_sizes = list(field_sizes)
        if self.config.training_data is not None:
            # the processor that it was trained with is another one now
            known = self.config.training_data.items()
            self.config.training_data = {name: value for name, value in known if name != "processor_fingerprint"}

    def set_attn_implementation(self, attn_implementation, *args, **kwargs) -> None:
        """Chooses the PLM's attention kernels; the CTR part has no choice of them."""
        if self.trunk.plm is not None:
            self.trunk.plm.set_attn_implementation(attn_implementation, *args, **kwargs)

    def _returns_dict(self, return_dict: bool | None) -> bool:
        return bool(self.config.return_dict if return_dict is None else return_dict)

    @property
    def trunk(self) -> Any:
        """The `ClickPromptModel` under the head; the model itself where it has none."""
        return self.base_model

    def get_input_embeddings(self) -> nn.Module:
        """The PLM's token embeddings, or the feature embeddings without a PLM."""
        plm = self.trunk.plm
        return self.trunk.ctr.embedding.table if plm is None else plm.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        if self.trunk.plm is None:
            raise ValueError("A model without a PLM has no token embeddings to set.")
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
        self.prompt_path: CachePath | HiddenStatePath | None = None
        if config.use_plm:
            self.plm = fresh_plm(config.text_config)
            if config.prompt_strategy == "layerwise":
                self.prompt_path = prompt_path(self.plm)
            if config.num_prompts:
                self.prompt_encoder = make_prompt_encoder(
                    self.ctr.interaction_size, self.plm, self.prompt_path, config
                )
        self.post_init()

    @property
    def num_input_prompts(self) -> int:
        """Prompts that are positions of the PLM's input: 0 where they enter through its cache, else K."""
        return 0 if isinstance(self.prompt_path, CachePath) else self.config.num_prompts

    @property
    def can_select_positions(self) -> bool:
        """Whether the PLM's last layer can be run at some positions only; masks of other kernels have other shapes."""
        kernels = None if self.plm is None else self.plm.config._attn_implementation
        return isinstance(self.prompt_path, CachePath) and self.prompt_path.can_select and kernels in ("eager", "sdpa")

    def forward(
        self,
        feature_ids: torch.Tensor | None = None,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        output_prompts: bool = False,
        output_hidden_states: bool = False,
        output_attentions: bool = False,
        read_positions: torch.Tensor | None = None,
        return_dict: bool | None = None,
    ) -> ClickPromptModelOutput | tuple:
        """Ids and text to the interaction vector and the PLM's view of the text.

        Args:
            feature_ids: (B, C), each in [0, field_size); -1 is an empty slot of a multi-valued field. Needed unless
                the text alone is read.
            input_ids: (B, T), the text. Needed when the model has a PLM.
            attention_mask: (B, T), 1 at text, 0 at padding; all ones when left out. It covers the text only.
            output_prompts: Whether to return the prompts.
            output_hidden_states: Whether to return the states of all PLM layers.
            output_attentions: Whether to return the attention of all PLM layers; only eager attention has it.
            read_positions: (B, R), the text positions whose last state is wanted; all T when left out. Where the PLM's
                layers allow it, the last one does no work for others.
            return_dict: `False` for a plain tuple.

        Raises:
            ValueError: If there are no ids for the backbone or no text for the PLM, or the text is too long for the
                PLM's positions.
        """
        if self.ctr is not None and feature_ids is None:
            raise ValueError("`feature_ids` must be given: this model reads them.")
        interaction = None if self.ctr is None else self.ctr(feature_ids)
        prompts = None if self.prompt_encoder is None else self.prompt_encoder(interaction, self.plm)
        encoded = BaseModelOutput()
        if self.plm is not None:
            encoded = self.encode_text(
                input_ids, attention_mask, prompts, output_hidden_states, output_attentions, read_positions
            )
        outputs = ClickPromptModelOutput(
            last_hidden_state=encoded.last_hidden_state,
            interaction=interaction,
            prompts=prompts if output_prompts else None,
            hidden_states=encoded.hidden_states,
            attentions=encoded.attentions,
        )
        return outputs if self._returns_dict(return_dict) else outputs.to_tuple()

    def encode_text(
        self,
        input_ids: torch.Tensor | None,
        attention_mask: torch.Tensor | None,
        prompts: torch.Tensor | None,
        output_hidden_states: bool = False,
        output_attentions: bool = False,
        read_positions: torch.Tensor | None = None,
    ) -> BaseModelOutput:
        """The PLM's outputs for the text and its prompts, the last state at the text positions that are read."""
        if input_ids is None:
            raise ValueError(
                "`input_ids` must be given: this model has a PLM. Pass `use_plm=False` to load it without."
            )
        limit = self.config.max_text_length
        if limit is not None and input_ids.shape[1] > limit:
            raise ValueError(
                f"`input_ids` must have at most {limit} tokens a row, so that the text and {self.config.num_prompts} "
                f"prompts fit the PLM's positions; got {input_ids.shape[1]}."
            )
        if attention_mask is None:
            attention_mask = torch.ones_like(input_ids)
        inputs: dict[str, Any] = {
            # (B, T) -> (B, K + T): every text position sees every prompt
            "attention_mask": F.pad(attention_mask, (self.config.num_prompts, 0), value=1),
            "output_hidden_states": output_hidden_states,
            "output_attentions": output_attentions,
        }
        if self.config.causal:
            # nothing is generated; a cache of the text would only cost memory
            inputs["use_cache"] = False
        if prompts is None:
            encoded = self.plm(input_ids=input_ids, **inputs)
        elif isinstance(self.prompt_path, CachePath):
            # who wants the states of all layers wants those of all positions
            all_positions = output_hidden_states or output_attentions or not self.can_select_positions
            selected = None if all_positions else read_positions
            encoded = self.prompt_path.run(self.plm, prompts, input_ids, selected, **inputs)
            if selected is not None:
                return encoded
        elif self.prompt_path is not None:
            encoded = self.prompt_path.run(self.plm, prompts, input_ids, **inputs)
        else:
            # (B, K, H) and (B, T, H) -> (B, K + T, H)
            words = torch.cat([prompts, self.plm.get_input_embeddings()(input_ids)], dim=1)
            encoded = self.plm(inputs_embeds=words, **inputs)
        # (B, K + T, H) -> (B, T, H), where prompts are positions of the input
        states = encoded.last_hidden_state[:, self.num_input_prompts :]
        encoded.last_hidden_state = states if read_positions is None else take_positions(states, read_positions)
        return encoded


class ClickPromptForPretraining(ClickPromptPreTrainedModel):
    """Stage 1, what both tasks share: predict tokens from the text and the prompts. See its two subclasses."""

    def __init__(self, config: ClickPromptConfig):
        super().__init__(config)
        if not config.use_plm:
            raise ValueError("Pretraining needs a PLM, but the configuration has `fusion='ctr'`.")
        self.clickprompt = ClickPromptModel(config)

    def tie_head(self, decoder: str, bias: str | None = None) -> None:
        """Names the LM head's layer `decoder` as one with the input embeddings, where the configuration ties them."""
        embeddings = self.get_input_embeddings()
        name = next(name for name, module in self.named_modules() if module is embeddings)
        self.decoder_name, self.has_second_bias = decoder, bias is not None
        self._tied_weights_keys = {f"lm_head.{decoder}.weight": f"{name}.weight"}
        if bias is not None:
            self._tied_weights_keys[f"lm_head.{decoder}.bias"] = f"lm_head.{bias}"

    def predicting_positions(self, labels: torch.Tensor) -> tuple[torch.Tensor | None, torch.Tensor]:
        """Positions (B, R) whose states predict, or `None` for all, and the labels (B, R) that each of them predicts,
        -100 where none."""
        raise NotImplementedError

    def forward(
        self,
        feature_ids: torch.Tensor | None = None,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        num_items_in_batch: torch.Tensor | int | None = None,
        output_prompts: bool = False,
        return_dict: bool | None = None,
    ) -> ClickPromptForPAMLMOutput | tuple:
        """Text and intact ids to the loss over the predicted tokens, or to all logits without labels.

        Args:
            feature_ids: (B, C), never masked.
            input_ids: (B, T), masked for PA-MLM.
            attention_mask: (B, T), of the text.
            labels: (B, T), the token at the positions to predict, -100 elsewhere.
            num_items_in_batch: Tokens that the loss is divided by; those of this batch when left out.
            output_prompts: Whether to return the prompts.
            return_dict: `False` for a plain tuple.
        """
        positions = None
        if labels is not None:
            positions, labels = self.predicting_positions(labels)
        trunk = self.clickprompt(
            feature_ids, input_ids, attention_mask, output_prompts, read_positions=positions, return_dict=True
        )
        if labels is None:
            outputs = ClickPromptForPAMLMOutput(logits=self.lm_head(trunk.last_hidden_state), prompts=trunk.prompts)
        else:
            masked = labels != -100
            # (B, R, H) -> (M, H): the vocabulary is projected to where a loss is taken, and nowhere else
            logits = self.lm_head(trunk.last_hidden_state[masked]).float()
            total_loss = F.cross_entropy(logits, labels[masked], reduction="sum")
            correct = torch.zeros_like(labels)
            correct[masked] = (logits.argmax(dim=-1) == labels[masked]).long()
            outputs = ClickPromptForPAMLMOutput(
                loss=total_loss / _loss_divisor(num_items_in_batch, masked),
                masked_correct=correct.sum(dim=1),
                masked_count=masked.sum(dim=1),
                prompts=trunk.prompts,
            )
        return outputs if self._returns_dict(return_dict) else outputs.to_tuple()

    def set_output_embeddings(self, new_embeddings: nn.Module) -> None:
        """Puts a layer in the place of the LM head's decoder, and its bias in that of the head's second one."""
        path, _, name = self.decoder_name.rpartition(".")
        parent = self.lm_head.get_submodule(path)
        setattr(parent, name, new_embeddings)
        if self.has_second_bias:
            parent.bias = new_embeddings.bias

    def get_output_embeddings(self) -> nn.Module:
        return self.lm_head.get_submodule(self.decoder_name)


class ClickPromptForPAMLM(ClickPromptForPretraining):
    """Prompt-augmented masked language modelling: recover masked tokens from the text and the prompts.

    Raises:
        ValueError: If the PLM is a decoder, its family's head is not known, or there is no PLM.
    """

    def __init__(self, config: ClickPromptConfig):
        super().__init__(config)
        if config.causal:
            raise ValueError(
                f"PA-MLM needs an encoder, got {config.text_config.model_type!r}, a decoder. Use ClickPromptForPACLM."
            )
        family = masked_lm_head(config.text_config)
        self.lm_head = family.head_class(config.text_config)
        self.tie_head(family.decoder, family.bias)
        self.post_init()

    def predicting_positions(self, labels: torch.Tensor) -> tuple[torch.Tensor | None, torch.Tensor]:
        """The masked positions of each row, filled up with others, whose labels are -100, to those of the fullest."""
        masked = labels != -100
        fullest = max(1, int(masked.sum(dim=1).max()))
        positions = masked.int().topk(fullest, dim=1).indices
        return positions, labels.gather(1, positions)

    def _load_plm(self, plm_name_or_path, plm_kwargs: dict) -> None:
        family = masked_lm_head(self.config.text_config)
        whole, loading = family.auto_class.from_pretrained(plm_name_or_path, output_loading_info=True, **plm_kwargs)
        missing = [key for key in loading["missing_keys"] if key.startswith(tuple(family.parts.values()))]
        if missing:
            logger.warning(
                f"{plm_name_or_path} has no complete LM head: {', '.join(sorted(missing))} start fresh, in the shape "
                f"of {family.head_class.__name__}. PA-MLM trains them."
            )
        self._copy_trunk(whole)
        self.lm_head.load_state_dict(
            {
                ours + name.removeprefix(theirs): tensor
                for name, tensor in whole.state_dict().items()
                for ours, theirs in family.parts.items()
                if name.startswith(theirs)
            }
        )
        self.tie_weights()


class ClickPromptForPACLM(ClickPromptForPretraining):
    """Prompt-augmented causal language modelling, for decoders: predict each token from those before and the prompts.

    Raises:
        ValueError: If the PLM is an encoder, or there is no PLM.
    """

    def __init__(self, config: ClickPromptConfig):
        super().__init__(config)
        if not config.causal:
            raise ValueError(
                f"PA-CLM needs a decoder, got {config.text_config.model_type!r}, an encoder. Use ClickPromptForPAMLM."
            )
        self.lm_head = LinearLMHead(config.text_config)
        self.tie_head("decoder")
        self.post_init()

    def _load_plm(self, plm_name_or_path, plm_kwargs: dict) -> None:
        whole = AutoModelForCausalLM.from_pretrained(plm_name_or_path, **plm_kwargs)
        self._copy_trunk(whole)
        self.lm_head.decoder.load_state_dict(whole.get_output_embeddings().state_dict())
        self.tie_weights()

    def predicting_positions(self, labels: torch.Tensor) -> tuple[torch.Tensor | None, torch.Tensor]:
        """All: the state at one position predicts the token at the next, the last state none."""
        return None, F.pad(labels[:, 1:], (0, 1), value=-100)


# Whose mean is pooled: places in a PLM's hidden states, of which the first are the embeddings.
_POOLED_LAYERS = {"mean_first_last": (1, -1), "mean_last_two": (-2, -1)}


class ClickPromptForCTR(ClickPromptPreTrainedModel):
    """Stage 2, click prediction from the fused logit, with the PLM or, with `use_plm=False`, by the CTR part alone."""

    def __init__(self, config: ClickPromptConfig):
        super().__init__(config)
        self.clickprompt = ClickPromptModel(config)
        self.ctr_head = self.clickprompt.ctr.make_head() if config.fusion != "text" else None
        self.text_head = TextHead(config.text_config.hidden_size) if config.use_plm else None
        self.fusion = Fusion(config)
        self.post_init()

    def forward(
        self,
        feature_ids: torch.Tensor | None = None,
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
        positions = None
        if self.config.pooling == "cls" and not all_layers and input_ids is not None:
            positions = torch.zeros(len(input_ids), 1, dtype=torch.int64, device=input_ids.device)
        trunk = self.clickprompt(
            feature_ids,
            input_ids,
            attention_mask,
            output_prompts,
            all_layers,
            read_positions=positions,
            return_dict=True,
        )
        ctr_logits = None if self.ctr_head is None else self.ctr_head(trunk.interaction, feature_ids)
        text_logits = None if self.text_head is None else self.text_head(self.pool(trunk, attention_mask))
        logits = self.fusion(ctr_logits, text_logits)
        outputs = ClickPromptForCTROutput(
            loss=None if labels is None else click_loss(logits, labels, num_items_in_batch),
            logits=logits,
            ctr_logits=ctr_logits,
            text_logits=text_logits,
            prompts=trunk.prompts,
        )
        return outputs if self._returns_dict(return_dict) else outputs.to_tuple()

    def pool(self, trunk: ClickPromptModelOutput, attention_mask: torch.Tensor | None) -> torch.Tensor:
        """The trunk's view of the text to the pooled text (B, H), padding left out."""
        states: Any = trunk.last_hidden_state
        prompts = 0
        if trunk.hidden_states is not None:
            first, second = _POOLED_LAYERS.get(str(self.config.pooling), (-1, -1))
            states = (trunk.hidden_states[first] + trunk.hidden_states[second]) / 2
            prompts = self.clickprompt.num_input_prompts
            if not self.config.pool_prompts:
                states, prompts = states[:, prompts:], 0
        if self.config.pooling == "cls":
            return states[:, 0]
        if self.config.pooling == "last":
            if attention_mask is None:
                return states[:, -1]
            # the position of the last 1 of a mask, wherever its zeros are
            last = prompts + (
                attention_mask * torch.arange(1, attention_mask.shape[1] + 1, device=states.device)
            ).argmax(1)
            return states[torch.arange(len(states), device=states.device), last]
        if attention_mask is None:
            return states.mean(dim=1)
        weights = F.pad(attention_mask, (prompts, 0), value=1).unsqueeze(-1).to(states.dtype)
        return (states * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1)


def click_loss(
    logits: torch.Tensor, labels: torch.Tensor, num_items_in_batch: torch.Tensor | int | None = None
) -> torch.Tensor:
    """Mean binary cross-entropy, (), of click logits (B, 1) and clicks (B,); rows labelled -100 are left out."""
    counted = labels != -100
    losses = F.binary_cross_entropy_with_logits(
        logits.squeeze(-1).float(), labels.clamp(min=0).float(), reduction="none"
    )
    return (losses * counted).sum() / _loss_divisor(num_items_in_batch, counted)


def _loss_divisor(num_items_in_batch: torch.Tensor | int | None, counted: torch.Tensor) -> torch.Tensor | int:
    """What a summed loss is divided by: at least 1, so that a batch with nothing to predict has loss 0."""
    if num_items_in_batch is None:
        return counted.sum().clamp(min=1)
    if isinstance(num_items_in_batch, torch.Tensor):
        return num_items_in_batch.to(counted.device).clamp(min=1)
    return max(num_items_in_batch, 1)
