# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""ClickPrompt (arXiv 2310.09234): soft prompts for a language model, made from a CTR model's interaction vector.

Shapes: B batch, C columns of ids, S entries of all vectors, D interaction size, T text tokens, H PLM hidden size,
L PLM layers, N of them with prompts, A attention heads, K prompt length, V vocabulary size, M masked tokens of the
batch. A batch has U texts and G rows of ids: B of each, unless its rows share them by `text_rows` or `feature_rows`.
"""

from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel
from transformers.integrations import is_deepspeed_zero3_enabled
from transformers.modeling_outputs import BaseModelOutput
from transformers.utils import ModelOutput, logging

# One import per line: parentheses do not survive the copy into a checkpoint.
# isort: off
from .click_heads import Fusion, TextHead, click_loss, loss_divisor, pool
from .click_probabilities import CLICK_PROBABILITIES_FILE, load_click_probabilities, save_click_probabilities
from .configuration_clickprompt import ClickPromptConfig, attention_by_part
from .input_checks import check_click_labels, check_has_lower_layers, check_inputs, check_pooled_layers
from .input_checks import check_text_length, check_token_labels
from .layers_ctr import FeatureEmbedding, SelfInitialized, check_growth, init_xavier_linear
from .layers_prompt import make_prompt_encoder
from .loading_clickprompt import HUB_ARGUMENTS, TRUNK_PARTS, Checkpoint, listed, record_fingerprints
from .lm_heads import CAUSAL_LM_HEAD, LMHeadFamily, masked_lm_head
from .modeling_ctr import build_backbone
from .plm_loading import build_plm, load_plm, plm_classes
from .plm_split import PLM_SPLITS
from .prompt_injection import checkpointing_layers, choose_injection, layer_lists, take_rows
from .warnings_clickprompt import warn_at_caller
from .whole_files import whole_contents
# isort: on

logger = logging.get_logger(__name__)

# Where PEFT keeps a module that an adapter trains in whole.
_COPY_OF_ADAPTER = ".modules_to_save."
_HUB_SAVING_ARGUMENTS = ("repo_id", "commit_message", "commit_description", "private", "revision", "create_pr", "tags")


@dataclass
class ClickPromptModelOutput(ModelOutput):
    """Outputs of the trunk.

    Args:
        last_hidden_state: (B, T, H), the PLM's last layer at the text positions, or (B, R, H) at `read_positions`;
            `None` without a PLM.
        interaction: (G, D), the interaction vector q; `None` if feature ids are unused.
        prompts: Keys and values (G, N, 2, A, K, head size), or hidden states (G, N, K, H) if the PLM takes no cache;
            (G, K, H) if shallow. On request.
        hidden_states: L + 1 tensors (B, T, H), or (B, K + T, H) if prompts are positions of the PLM's input. With
            `text_states`, the last N + 1. On request.
        attentions: L tensors (B, A, T, K + T), or (B, A, K + T, K + T) if prompts are positions of the layer's input.
            Keys of the prompts come first; layers below the prompts have none. With `text_states`, the last N. On
            request.
    """

    last_hidden_state: torch.Tensor | None = None
    interaction: torch.Tensor | None = None
    prompts: torch.Tensor | None = None
    hidden_states: tuple[torch.Tensor, ...] | None = None
    attentions: tuple[torch.Tensor, ...] | None = None


@dataclass
class ClickPromptForCTROutput(ModelOutput):
    """Outputs of click prediction.

    Args:
        loss: (), mean binary cross-entropy of the fused logit. With labels only.
        logits: (B, 1), the fused logit, before the sigmoid and what `corrected_probabilities` applies.
        ctr_logits: (B, 1), the CTR side's logit, if the fusion uses it.
        text_logits: (B, 1), the text side's logit, if the fusion uses it.
        prompts: As in `ClickPromptModelOutput`.
        hidden_states: As in `ClickPromptModelOutput`.
        attentions: As in `ClickPromptModelOutput`.
    """

    loss: torch.Tensor | None = None
    logits: torch.Tensor | None = None
    ctr_logits: torch.Tensor | None = None
    text_logits: torch.Tensor | None = None
    prompts: torch.Tensor | None = None
    hidden_states: tuple[torch.Tensor, ...] | None = None
    attentions: tuple[torch.Tensor, ...] | None = None


@dataclass
class ClickPromptForPAMLMOutput(ModelOutput):
    """Outputs of prompt-augmented masked or causal language modeling.

    In the causal case, "masked" tokens are all tokens but each row's first.

    Args:
        loss: (), mean cross-entropy over the masked tokens. With labels only.
        logits: (B, T, V). Without labels only, so that evaluation does not gather them.
        masked_correct: (B,) int64, masked tokens whose top prediction is right. With labels only.
        masked_count: (B,) int64, number of masked tokens. With labels only.
        prompts: As in `ClickPromptModelOutput`.
        hidden_states: As in `ClickPromptModelOutput`.
        attentions: As in `ClickPromptModelOutput`.
    """

    loss: torch.Tensor | None = None
    logits: torch.Tensor | None = None
    masked_correct: torch.Tensor | None = None
    masked_count: torch.Tensor | None = None
    prompts: torch.Tensor | None = None
    hidden_states: tuple[torch.Tensor, ...] | None = None
    attentions: tuple[torch.Tensor, ...] | None = None


@dataclass(frozen=True)
class BelowPrompts:
    """What the layers with prompts start from.

    Args:
        text: (U, T), the texts' token ids; or (U, T, H), their states, if there are layers below the prompts.
        hidden_states: Inputs (U, T, H) of the layers below, if they ran and on request.
        attentions: Attention weights (U, A, T, T) of the layers below, if they ran and on request.
    """

    text: torch.Tensor | None = None
    hidden_states: tuple[torch.Tensor, ...] = ()
    attentions: tuple[torch.Tensor, ...] = ()


class ClickPromptPreTrainedModel(PreTrainedModel):
    """Base class of all ClickPrompt models: fresh weights, loading of PLMs and of checkpoints."""

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
    # Heads of the other task. The trunk adds the parts that it is built without.
    _keys_to_ignore_on_load_unexpected = [r"^lm_head\.", r"^ctr_head\.", r"^text_head\.", r"^fusion\."]  # noqa: RUF012

    def __init__(self, config: ClickPromptConfig):
        # options of `from_pretrained` are set after the configuration has checked itself
        config.check()
        if is_deepspeed_zero3_enabled():
            raise ValueError(
                f"{type(self).__name__} must be built whole, but DeepSpeed's ZeRO-3 is set to build it in parts. "
                "Create the model before the training arguments, or call `unset_hf_deepspeed_config()` of "
                "transformers.integrations first; the trainer shards the weights."
            )
        super().__init__(config)
        # names of tensors that the checkpoint lacked
        self.fresh_weights: tuple[str, ...] = ()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, SelfInitialized):
            module.init_own_parameters()
        init_xavier_linear(module)

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path,
        *model_args,
        ignore_mismatched_sizes: bool = False,
        output_loading_info: bool = False,
        **kwargs,
    ):
        """Load a checkpoint, as in transformers, and raise an error for incomplete or wrong weights.

        Heads that are not in the checkpoint are randomly initialized, with a warning; `fresh_weights` lists their
        tensors. For click heads after PA-MLM, which finetuning trains, it is a `FreshHeadsWarning`. With a
        `state_dict`, its tensors are loaded instead of those in the checkpoint's files, which are still checked;
        `config` must be given.

        Raises:
            ValueError: If weights are missing, have other names, shapes or types than the model's, are NaN or
                infinite, or are not those that `config.json` was saved with; if an index names files outside the
                folder; if there is a `state_dict` without a `config`. The message names files and tensors.
            OSError: If a file is missing, damaged or cut off.
        """
        if kwargs.get("state_dict") is not None and kwargs.get("config") is None:
            raise ValueError("`config` must be given with `state_dict`, got None.")
        hub_arguments = {name: kwargs[name] for name in HUB_ARGUMENTS if name in kwargs}
        checkpoint = Checkpoint.find(
            cls.config_class, pretrained_model_name_or_path, kwargs.get("variant"), **hub_arguments
        )
        if kwargs.get("attn_implementation") is not None:
            kwargs["attn_implementation"] = attention_by_part(kwargs["attn_implementation"])
        loaded: Any = super().from_pretrained(
            # transformers takes either
            pretrained_model_name_or_path if kwargs.get("state_dict") is None else None,
            *model_args,
            # refused below, by name
            ignore_mismatched_sizes=True,
            output_loading_info=True,
            **kwargs,
        )
        model, info = loaded
        info["missing_keys"] = {*info["missing_keys"], *_not_in_adapters(model, model.fresh_weights)}
        model.fresh_weights = checkpoint.check(model, info, ignore_mismatched_sizes)
        if model.fresh_weights:
            warn_at_caller(
                f"{checkpoint.name} was saved without {listed(model.fresh_weights)}, which are now randomly "
                "initialized: train the model before you use it.",
                checkpoint.warning_of_fresh(model.fresh_weights),
            )
        model._load_uncalled_weights()
        return (model, info) if output_loading_info else model

    def _adjust_missing_and_unexpected_keys(self, loading_info) -> None:
        super()._adjust_missing_and_unexpected_keys(loading_info)
        # `from_pretrained` refuses them or warns about them: a report of transformers would repeat that
        self.fresh_weights, loading_info.missing_keys = tuple(loading_info.missing_keys), set()

    def save_pretrained(  # type: ignore[override]  # passes the other arguments on
        self,
        save_directory,
        is_main_process: bool = True,
        state_dict: dict | None = None,
        push_to_hub: bool = False,
        **kwargs,
    ) -> None:
        """Save weights, configuration and code, as in transformers, but atomically: see `whole_contents`.

        `config.json` keeps fingerprints of the weights. An adapter is saved without it; `click_probabilities.json`
        then keeps the calibration.

        Raises:
            OSError: If a file cannot be written; the message names the file and the reason.
            ValueError: If this process has only some rows of the id tables, and no `state_dict` is given.
        """
        tables = [module for module in self.modules() if isinstance(module, FeatureEmbedding)]
        if state_dict is None and not all(module.has_all_rows for module in tables):
            raise ValueError(
                "`state_dict` must be given to save a model whose id tables are sharded across processes, got "
                "None. To save all rows, call the trainer's `save_model` in all processes."
            )
        if not is_main_process or kwargs.get("distributed_checkpoint"):
            # other processes write nothing, or all write into the same folder
            super().save_pretrained(save_directory, is_main_process, state_dict, push_to_hub, **kwargs)
            return
        hub_arguments = {name: kwargs.pop(name) for name in _HUB_SAVING_ARGUMENTS if name in kwargs}
        with whole_contents(save_directory) as partial:
            super().save_pretrained(partial, is_main_process, state_dict, **kwargs)
            is_adapter = getattr(self, "_hf_peft_config_loaded", False)
            if self.should_save_on_this_rank(is_main_process) and is_adapter:
                save_click_probabilities(self.config, partial / CLICK_PROBABILITIES_FILE)
            if self.should_save_on_this_rank(is_main_process) and not is_adapter and not kwargs.get("variant"):
                record_fingerprints(partial)
        # a checkpoint has all weights of its class
        self.fresh_weights = ()
        if push_to_hub:
            repo_id = hub_arguments.pop("repo_id", Path(save_directory).name)
            options = {name: kwargs[name] for name in ("token", "max_shard_size") if name in kwargs}
            self.push_to_hub(repo_id, **hub_arguments, **options)

    def load_adapter(self, peft_model_id: str | None = None, *args, **kwargs) -> Any:
        """Load an adapter as in transformers, with the calibration saved next to it."""
        info = super().load_adapter(peft_model_id, *args, **kwargs)
        if peft_model_id is not None:
            self.load_calibration(peft_model_id, **(kwargs.get("adapter_kwargs") or {}))
        return info

    def load_calibration(self, name_or_path: str | Path, **hub_arguments: Any) -> None:
        """Load the calibration that was saved with an adapter.

        `from_pretrained` and `load_adapter` do this themselves; `PeftModel.from_pretrained` does not.

        Args:
            name_or_path: Folder or Hub id of the adapter; without `click_probabilities.json`, nothing changes.
            hub_arguments: Where to load from, as in `from_pretrained`.

        Raises:
            ValueError: If the file is damaged.
        """
        known = {name: value for name, value in hub_arguments.items() if name in HUB_ARGUMENTS}
        load_click_probabilities(self.config, name_or_path, **known)

    def _load_uncalled_weights(self) -> None:
        """Load small weights that `device_map` has left on disk and that are used outside of their module's call.

        accelerate loads a module's weights for the time of its call. Backbones and DeBERTa use some without a call;
        of a backbone, only the embedding tables stay on disk.
        """
        ctr, plm = self.trunk.ctr, self.trunk.plm
        uncalled = [] if ctr is None else [part for part in ctr.modules() if not isinstance(part, nn.Embedding)]
        if plm is not None:
            uncalled += [part for name, part in plm.named_modules() if name.endswith("rel_embeddings")]
        for module in uncalled:
            if hook := getattr(module, "_hf_hook", None):
                hook.pre_forward(module)
                hook.offload = False

    @classmethod
    def from_plm_pretrained(cls, plm_name_or_path, ctr_config, plm_kwargs: dict | None = None, **prompt_options):
        """Build a ClickPrompt model on a pretrained PLM; backbone, prompt encoder and click heads are randomly
        initialized.

        Args:
            plm_name_or_path: Hub id or folder of the PLM.
            ctr_config (`CTRConfig`): Configuration of the backbone.
            plm_kwargs: Keyword arguments of the PLM's own `from_pretrained`, e.g. `revision`, `token` or
                `attn_implementation`. Weights are loaded in float32, whatever type they are stored in.
            prompt_options: Further arguments of `ClickPromptConfig`, e.g. `prompt_length` or `fusion`.

        Raises:
            ValueError: If an option is unknown or invalid, or the PLM's class cannot take prompts.
            OSError: If the PLM does not exist.
        """
        known = {"attn_implementation", *(field.name for field in fields(ClickPromptConfig))}
        if unknown := sorted(prompt_options.keys() - known):
            raise ValueError(f"`prompt_options` must be arguments of ClickPromptConfig, got {unknown}.")
        if prompt_options.get("fusion") == "ctr":
            raise ValueError("`fusion` must be one that reads a PLM, got 'ctr'.")
        plm_kwargs = dict(plm_kwargs or {})
        if plm_kwargs.get("attn_implementation") is not None:
            plm_kwargs["attn_implementation"] = attention_by_part(plm_kwargs["attn_implementation"])[""]
        text_config = AutoConfig.from_pretrained(plm_name_or_path, **plm_kwargs)
        # The model has one type throughout, whatever type the PLM is stored in.
        text_config.architectures = text_config.dtype = None
        if Path(plm_name_or_path).is_dir():
            # a published configuration must not name a folder of this machine
            text_config._name_or_path = ""
        model = cls(ClickPromptConfig(text_config=text_config, ctr_config=ctr_config, **prompt_options))
        model._load_plm(plm_name_or_path, plm_kwargs)
        return model

    def _load_plm(self, plm_name_or_path, plm_kwargs: dict) -> None:
        auto_class, _ = plm_classes(self.config.text_config)
        load_plm(self.trunk.plm, plm_name_or_path, plm_kwargs, auto_class)

    def _set_gradient_checkpointing(self, enable=True, gradient_checkpointing_func=checkpoint, *args, **kwargs):
        options = gradient_checkpointing_func.keywords if isinstance(gradient_checkpointing_func, partial) else {}
        if enable and options.get("use_reentrant"):
            raise ValueError(
                "`use_reentrant` must be False for gradient checkpointing, got True: reentrant replays would run "
                "backward through the prompt encoder once per layer."
            )
        super()._set_gradient_checkpointing(enable, gradient_checkpointing_func, *args, **kwargs)
        plm = self.trunk.plm
        if plm is not None and checkpointing_layers(plm):
            # The layers' flags suffice. With the model's own flag set, GPT-2 drops its cache and the prompts in it.
            plm.gradient_checkpointing = False

    def resize_feature_embeddings(self, field_sizes: Sequence[int]) -> None:
        """Add ids to fields, in every table of feature embeddings or weights and in the configuration.

        Existing rows stay; new ones start as their field's out-of-vocabulary row. The tables' weights become new
        parameters: create the optimizer afterwards.

        Args:
            field_sizes: New number of ids per field, as `ClickPromptProcessor.extend` returns them.

        Raises:
            ValueError: If the number of fields changes, or a field would lose ids.
        """
        ctr_config = self.config.ctr_config
        check_growth(field_sizes, ctr_config.field_sizes)
        for module in self.modules():
            if isinstance(module, FeatureEmbedding):
                module.resize(field_sizes)
        ctr_config.field_sizes = list(map(int, field_sizes))
        if self.config.training_data is not None:
            # the processor that the model was trained with has changed
            known = self.config.training_data.items()
            self.config.training_data = {name: value for name, value in known if name != "processor_fingerprint"}

    @classmethod
    def _can_set_attn_implementation(cls) -> bool:
        # transformers looks for attention in this file, but only the PLM's can be chosen
        return True

    def set_attn_implementation(self, attn_implementation: str | dict, *args, **kwargs) -> None:
        """Choose the PLM's attention kernels; the CTR part has fixed ones.

        Args:
            attn_implementation: A name, or as in transformers a mapping with the name under `"text_config"` or `""`.
            args: Further arguments of transformers.
            kwargs: Further arguments of transformers.

        Raises:
            ValueError: If a key or a name is unknown, or the PLM does not support the implementation.
        """
        super().set_attn_implementation(attention_by_part(attn_implementation), *args, **kwargs)
        self.trunk._report_attention()

    def freeze_lower_layers(self) -> None:
        """Exclude the layers below the prompts, and the embeddings under them, from training.

        They run without dropout and without gradients, even in training mode: a text always has the same states, which
        may then be computed once (`encode_text`, `text_states`). An LM head's decoder that is tied to the embeddings
        is frozen with them. It is an option of a run: checkpoints do not record it.

        Raises:
            ValueError: If the model has no layers below the prompts.
        """
        check_has_lower_layers(self.config, "freeze_lower_layers")
        trunk = self.trunk
        for module in trunk.lower_modules():
            module.requires_grad_(False)
        trunk.lower_is_frozen = True
        trunk.train(trunk.training)

    @property
    def lower_layers_frozen(self) -> bool:
        """Whether `freeze_lower_layers` was called."""
        return self.trunk.lower_is_frozen

    def encode_text(self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None) -> torch.Tensor:
        """Run the embeddings and the layers below the prompts on texts.

        Args:
            input_ids: (U, T), the texts.
            attention_mask: (U, T), 1 at text, 0 at padding; `None` for all ones.

        Returns:
            (U, T, H), states that `forward` takes as `text_states`. States at padding are meaningless.

        Raises:
            ValueError: If the model has no layers below the prompts, or the text exceeds the PLM's positions.
        """
        check_has_lower_layers(self.config, "encode_text")
        check_text_length(self.config, input_ids)
        return self.trunk.run_below_prompts(input_ids, attention_mask).text

    def _returns_dict(self, return_dict: bool | None) -> bool:
        return bool(self.config.return_dict if return_dict is None else return_dict)

    @property
    def trunk(self) -> Any:
        """The `ClickPromptModel` under the head, or the model itself if it has no head."""
        return self.base_model

    def get_input_embeddings(self) -> nn.Module:
        """The PLM's token embeddings, or the feature embeddings without a PLM."""
        plm = self.trunk.plm
        return self.trunk.ctr.embedding.table if plm is None else plm.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        if self.trunk.plm is None:
            raise ValueError("This model has no token embeddings to set: it has no PLM.")
        self.trunk.plm.set_input_embeddings(value)


def _not_in_adapters(model: nn.Module, keys: Iterable[str]) -> list[str]:
    """The tensors that no adapter replaces by a trained copy of its own."""
    copied = {name.partition(_COPY_OF_ADAPTER)[0] for name in model.state_dict() if _COPY_OF_ADAPTER in name}
    return [key for key in keys if not key.startswith(tuple(f"{module}." for module in copied))]


class ClickPromptModel(ClickPromptPreTrainedModel):
    """The trunk: CTR backbone, prompt encoder and PLM, without heads."""

    def __init__(self, config: ClickPromptConfig):
        super().__init__(config)
        self.ctr: Any = None
        if config.use_ctr:
            self.ctr = build_backbone(config.ctr_config)
        self.plm: Any = None
        self.prompt_encoder: nn.Module | None = None
        # how prompts enter the PLM
        self.injection: Any = None
        # how the PLM runs in two parts, if there are layers below the prompts
        self.split = PLM_SPLITS[config.text_config.model_type] if config.num_lower_layers else None
        self.lower_is_frozen = False
        if config.use_plm:
            self.plm = build_plm(config.text_config)
            self._report_attention()
            self.injection = choose_injection(self.plm, config)
            if config.num_prompts:
                self.prompt_encoder = make_prompt_encoder(self.ctr.interaction_size, self.injection.sizes, config)
        self._no_split_modules = self._unsplittable_modules()
        absent = [part for part in TRUNK_PARTS if getattr(self, part) is None]
        self._keys_to_ignore_on_load_unexpected = [
            *self._keys_to_ignore_on_load_unexpected,
            *(rf"^(clickprompt\.)?{part}\." for part in absent),
        ]
        self.post_init()

    def _report_attention(self) -> None:
        """Record the attention kernels that the PLM runs, which may differ from those requested."""
        if self.plm is not None:
            self.config._attn_implementation = {"": self.plm.config._attn_implementation}

    def _unsplittable_modules(self) -> set[str]:
        """Names of the classes whose parts must share a device under `device_map`: they combine tensors of several."""
        parts: list[Any] = [part for part in (self.ctr, self.prompt_encoder) if part is not None]
        if self.plm is not None:
            # MPNet's layers lack gradient checkpointing
            parts += checkpointing_layers(self.plm) or [
                layer for name in layer_lists(self.plm)[:1] for layer in self.plm.get_submodule(name)
            ]
        return {type(part).__name__ for part in parts}

    def train(self, mode: bool = True) -> "ClickPromptModel":
        """Set training mode, in which frozen lower layers stay in evaluation mode."""
        super().train(mode)
        if self.lower_is_frozen:
            for module in self.lower_modules():
                module.eval()
        return self

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
        text_states: torch.Tensor | None = None,
        text_rows: torch.Tensor | None = None,
        feature_rows: torch.Tensor | None = None,
        feature_vectors: torch.Tensor | None = None,
    ) -> ClickPromptModelOutput | tuple:
        """Turn ids into the interaction vector and its prompts, and text into the PLM's states.

        Rows that share a text or ids can share the work: `text_rows` and `feature_rows` say which one each row has.

        Args:
            feature_ids: (G, C), each in [0, field_size); -1 is an empty slot of a multi-valued field. Required unless
                the model uses the text alone.
            input_ids: (U, T), the texts. Required if the model has a PLM, or else `text_states`.
            attention_mask: (U, T), 1 at text, 0 at padding; `None` for all ones. It covers the text only.
            output_prompts: Whether to return the prompts.
            output_hidden_states: Whether to return the states of all PLM layers.
            output_attentions: Whether to return the attention weights of all PLM layers; needs eager attention.
            read_positions: (B, R), text positions in [0, T) whose last state to return; `None` for all T. Where the
                PLM's layers allow it, the last layer skips the others.
            return_dict: `False` for a plain tuple; `None` for the configuration's choice.
            text_states: (U, T, H), the texts' states after the layers below the prompts (`encode_text`), of any
                floating-point type, instead of `input_ids`.
            text_rows: (B,) int64, the text of each row, in [0, U); `None` if row i has text i.
            feature_rows: (B,) int64, the row of `feature_ids` of each row, in [0, G); `None` if row i has row i.
            feature_vectors: (G, S), the vectors of all fields of vectors, as the processor makes them; missing ones
                are NaN. Required with such fields unless the model uses the text alone.

        Raises:
            ValueError: If ids or text that the model needs are missing, shapes disagree, text is given twice, the
                model has no layers below the prompts for `text_states`, or the text exceeds the PLM's positions.
        """
        check_inputs(
            self.config,
            feature_ids,
            input_ids,
            attention_mask,
            text_states=text_states,
            text_rows=text_rows,
            feature_rows=feature_rows,
            feature_vectors=feature_vectors,
        )
        interaction = None if self.ctr is None else self.ctr(feature_ids, *self.vectors_of(feature_vectors))
        prompts = self.make_prompts(interaction)
        below, encoded = BelowPrompts(), BaseModelOutput()
        if self.plm is not None:
            layers = {"output_hidden_states": output_hidden_states, "output_attentions": output_attentions}
            below = self.run_below_prompts(input_ids, attention_mask, text_states, **layers)
            encoded = self.injection.inject_rows(
                self.plm,
                take_rows(prompts, feature_rows),
                below.text,
                attention_mask,
                text_rows,
                read_positions,
                **layers,
            )
        outputs = ClickPromptModelOutput(
            last_hidden_state=encoded.last_hidden_state,
            interaction=interaction,
            prompts=prompts if output_prompts else None,
            hidden_states=_from_the_bottom(below.hidden_states, encoded.hidden_states, text_rows),
            attentions=_from_the_bottom(below.attentions, encoded.attentions, text_rows),
        )
        return outputs if self._returns_dict(return_dict) else outputs.to_tuple()

    def vectors_of(self, feature_vectors: torch.Tensor | None) -> tuple[torch.Tensor, ...]:
        """Further arguments of the backbone and its head; without vectors, custom backbones need not accept any."""
        return () if feature_vectors is None else (feature_vectors,)

    def make_prompts(self, interaction: torch.Tensor | None) -> torch.Tensor | None:
        """Interaction vectors (B, D) to prompts in the shape that the injection takes; `None` without prompts."""
        if self.prompt_encoder is None:
            return None
        # A function rather than the PLM: accelerate moves modules among a call's arguments, which weights on disk
        # do not survive.
        return self.prompt_encoder(interaction, partial(self.injection.project, self.plm))

    def run_below_prompts(
        self,
        input_ids: Any,
        attention_mask: torch.Tensor | None,
        text_states: torch.Tensor | None = None,
        **output_options: bool,
    ) -> BelowPrompts:
        """Run the embeddings and the layers below the prompts on the texts, unless their states are given.

        Without such layers, the prompts start from the texts' ids.
        """
        if self.split is None:
            return BelowPrompts(input_ids)
        if text_states is not None:
            # the type is known even if accelerate leaves the weights on disk
            return BelowPrompts(text_states.to(self.plm.dtype))
        with torch.no_grad() if self.lower_is_frozen else nullcontext():
            outputs = self.split.run_lower(
                self.plm, self.config.num_lower_layers, input_ids, attention_mask, **output_options
            )
        # the last states are also the first ones above
        return BelowPrompts(outputs.last_hidden_state, (outputs.hidden_states or ())[:-1], outputs.attentions or ())

    def lower_modules(self) -> list[nn.Module]:
        """The PLM's modules below the prompts: embeddings and layers."""
        return [] if self.split is None else self.split.lower_modules(self.plm, self.config.num_lower_layers)


def _from_the_bottom(
    below: tuple[torch.Tensor, ...], above: tuple[torch.Tensor, ...] | None, text_rows: torch.Tensor | None
) -> tuple[torch.Tensor, ...] | None:
    """One tensor per layer, from the bottom: those below the prompts, expanded from texts to rows; those above."""
    return None if above is None else (*(take_rows(tensor, text_rows) for tensor in below), *above)


class ClickPromptForPretraining(ClickPromptPreTrainedModel):
    """Base class of both tasks of stage 1: predict tokens from the text and the prompts.

    Args:
        config: Configuration of the model.

    Raises:
        ValueError: If the configuration has no PLM.
    """

    def __init__(self, config: ClickPromptConfig):
        super().__init__(config)
        if not config.use_plm:
            raise ValueError("Pretraining needs a PLM, but the configuration has `fusion='ctr'`.")
        self.clickprompt = ClickPromptModel(config)

    def add_lm_head(self, family: LMHeadFamily) -> None:
        """Build the LM head, and tie its decoder to the input embeddings if the configuration ties them."""
        self.head_family = family
        self.lm_head = family.build(self.config.text_config)
        embeddings = self.get_input_embeddings()
        name = next(name for name, module in self.named_modules() if module is embeddings)
        self._tied_weights_keys = {f"lm_head.{family.decoder}.weight": f"{name}.weight"}
        if family.bias is not None:
            self._tied_weights_keys[f"lm_head.{family.decoder}.bias"] = f"lm_head.{family.bias}"

    def get_expanded_tied_weights_keys(self, all_submodels: bool = False) -> dict:
        tied = super().get_expanded_tied_weights_keys(all_submodels)
        own, second = f"lm_head.{self.head_family.decoder}.bias", self.head_family.bias
        if second is not None and own not in tied:
            # Untied decoders add their own bias only. One of the two is not saved where both are one parameter, as in
            # a model whose LM head PEFT has trained and merged.
            tied[f"lm_head.{second}"] = own
        return tied

    def untie_word_embeddings(self) -> None:
        """Give the LM head's decoder its own copy of the input embeddings' weights, if it shares them.

        Call it before an adapter targets the decoder or the embeddings: merging it would change both. The decoder's
        weights become a new parameter: create the optimizer afterwards.
        """
        decoder: Any = self.get_output_embeddings()
        decoder.weight = nn.Parameter(decoder.weight.detach().clone(), requires_grad=decoder.weight.requires_grad)
        self.config.tie_word_embeddings = False
        self.all_tied_weights_keys = self.get_expanded_tied_weights_keys(all_submodels=True)

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        # transformers' heads do not zero their second bias in a model of another family
        self.head_family.init_bias(self.lm_head, module)

    def predicting_positions(self, labels: torch.Tensor) -> tuple[torch.Tensor | None, torch.Tensor]:
        """Map token labels (B, T) to positions (B, R) whose states predict them and to the labels (B, R) there.

        Positions are `None` for all T. Labels are -100 where nothing is predicted.
        """
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
        text_states: torch.Tensor | None = None,
        text_rows: torch.Tensor | None = None,
        feature_rows: torch.Tensor | None = None,
        feature_vectors: torch.Tensor | None = None,
        output_hidden_states: bool = False,
        output_attentions: bool = False,
    ) -> ClickPromptForPAMLMOutput | tuple:
        """Compute the loss over the predicted tokens, or all logits without labels.

        Args:
            feature_ids: (G, C), never masked.
            input_ids: (U, T), masked for PA-MLM.
            attention_mask: (U, T), 1 at text, 0 at padding; `None` for all ones.
            labels: (B, T), the original token at positions to predict, -100 elsewhere.
            num_items_in_batch: Number of tokens to divide the loss by; `None` for this batch's.
            output_prompts: Whether to return the prompts.
            return_dict: `False` for a plain tuple; `None` for the configuration's choice.
            text_states: (U, T, H), see `ClickPromptModel.forward`.
            text_rows: (B,), the text of each row; `None` if row i has text i.
            feature_rows: (B,), the row of `feature_ids` of each row; `None` if row i has row i.
            feature_vectors: (G, S), see `ClickPromptModel.forward`.
            output_hidden_states: Whether to return the states of all PLM layers.
            output_attentions: Whether to return the attention weights of all PLM layers; needs eager attention.
        """
        positions = None
        if labels is not None:
            check_token_labels(labels, input_ids if text_states is None else text_states, text_rows)
            positions, labels = self.predicting_positions(labels)
        trunk = self.clickprompt(
            feature_ids,
            input_ids,
            attention_mask,
            output_prompts,
            output_hidden_states,
            output_attentions,
            read_positions=positions,
            return_dict=True,
            text_states=text_states,
            text_rows=text_rows,
            feature_rows=feature_rows,
            feature_vectors=feature_vectors,
        )
        trunk_outputs = {
            "prompts": trunk.prompts,
            "hidden_states": trunk.hidden_states,
            "attentions": trunk.attentions,
        }
        if labels is None:
            outputs = ClickPromptForPAMLMOutput(logits=self.lm_head(trunk.last_hidden_state), **trunk_outputs)
        else:
            labels = labels.to(trunk.last_hidden_state.device)
            masked = labels != -100
            # (B, R, H) -> (M, H): project to the vocabulary only where a loss is taken
            logits = self.lm_head(trunk.last_hidden_state[masked]).float()
            total_loss = F.cross_entropy(logits, labels[masked], reduction="sum")
            correct = torch.zeros_like(labels)
            correct[masked] = (logits.argmax(dim=-1) == labels[masked]).long()
            outputs = ClickPromptForPAMLMOutput(
                loss=total_loss / loss_divisor(num_items_in_batch, masked),
                masked_correct=correct.sum(dim=1),
                masked_count=masked.sum(dim=1),
                **trunk_outputs,
            )
        return outputs if self._returns_dict(return_dict) else outputs.to_tuple()

    def set_output_embeddings(self, new_embeddings: nn.Module) -> None:
        """Replace the LM head's decoder, and the head's second bias by the new decoder's."""
        path, _, name = self.head_family.decoder.rpartition(".")
        parent = self.lm_head.get_submodule(path)
        setattr(parent, name, new_embeddings)
        if self.head_family.bias is not None:
            parent.bias = new_embeddings.bias

    def get_output_embeddings(self) -> nn.Module:
        return self.lm_head.get_submodule(self.head_family.decoder)


class ClickPromptForPAMLM(ClickPromptForPretraining):
    """Prompt-augmented masked language modeling: recover masked tokens from the text and the prompts.

    Args:
        config: Configuration of the model.

    Raises:
        ValueError: If the PLM is a decoder or of a family without a known head, or the configuration has no PLM.
    """

    def __init__(self, config: ClickPromptConfig):
        super().__init__(config)
        if config.causal:
            raise ValueError(
                f"PA-MLM needs an encoder, got {config.text_config.model_type!r}, a decoder. Use ClickPromptForPACLM."
            )
        self.add_lm_head(masked_lm_head(config.text_config))
        self.post_init()

    def predicting_positions(self, labels: torch.Tensor) -> tuple[torch.Tensor | None, torch.Tensor]:
        """Masked positions of each row, padded with unmasked ones (label -100) to the longest row."""
        masked = labels != -100
        fullest = max(1, int(masked.sum(dim=1).max()))
        positions = masked.int().topk(fullest, dim=1).indices
        return positions, labels.gather(1, positions)

    def _load_plm(self, plm_name_or_path, plm_kwargs: dict) -> None:
        family = self.head_family
        whole, lost = load_plm(self.trunk.plm, plm_name_or_path, plm_kwargs, family.auto_class)
        missing = [key for key in lost if key.startswith(tuple(family.parts.values()))]
        if missing:
            logger.warning(
                f"{plm_name_or_path} has no complete LM head: {', '.join(sorted(missing))} are randomly "
                f"initialized, in the shape of {type(self.lm_head).__name__}. PA-MLM trains them."
            )
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
    """Prompt-augmented causal language modeling for decoders: predict each token from earlier ones and the prompts.

    Args:
        config: Configuration of the model.

    Raises:
        ValueError: If the PLM is an encoder, or the configuration has no PLM.
    """

    def __init__(self, config: ClickPromptConfig):
        super().__init__(config)
        if not config.causal:
            raise ValueError(
                f"PA-CLM needs a decoder, got {config.text_config.model_type!r}, an encoder. Use ClickPromptForPAMLM."
            )
        self.add_lm_head(CAUSAL_LM_HEAD)
        self.post_init()

    def _load_plm(self, plm_name_or_path, plm_kwargs: dict) -> None:
        whole, _ = load_plm(self.trunk.plm, plm_name_or_path, plm_kwargs, AutoModelForCausalLM)
        self.get_output_embeddings().load_state_dict(whole.get_output_embeddings().state_dict())
        self.tie_weights()

    def predicting_positions(self, labels: torch.Tensor) -> tuple[torch.Tensor | None, torch.Tensor]:
        """All positions: each state predicts the next token, the last state nothing."""
        return None, F.pad(labels[:, 1:], (0, 1), value=-100)


# Indices into a PLM's hidden states, whose first entry is the embeddings, of the two layers whose mean is pooled.
_POOLED_LAYERS = {"mean_first_last": (1, -1), "mean_last_two": (-2, -1)}


class ClickPromptForCTR(ClickPromptPreTrainedModel):
    """Stage 2: click prediction from the fused logit, with the PLM or, with `use_plm=False`, by the CTR part alone.

    Args:
        config: Configuration of the model.
    """

    def __init__(self, config: ClickPromptConfig):
        super().__init__(config)
        self.clickprompt = ClickPromptModel(config)
        self.ctr_head = self.clickprompt.ctr.make_head() if config.fusion != "text" else None
        self.text_head = TextHead(config.text_config.hidden_size) if config.use_plm else None
        self.fusion = Fusion(config)
        self._no_split_modules = set() if self.ctr_head is None else {type(self.ctr_head).__name__}
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
        text_states: torch.Tensor | None = None,
        text_rows: torch.Tensor | None = None,
        feature_rows: torch.Tensor | None = None,
        feature_vectors: torch.Tensor | None = None,
        output_hidden_states: bool = False,
        output_attentions: bool = False,
    ) -> ClickPromptForCTROutput | tuple:
        """Compute the click logit of each row, and the loss with labels.

        Args:
            feature_ids: (G, C).
            input_ids: (U, T), the texts; unused without a PLM.
            attention_mask: (U, T), 1 at text, 0 at padding; `None` for all ones.
            labels: (B,), clicks, 0 or 1; -100 excludes a row from the loss.
            num_items_in_batch: Number of rows to divide the loss by; `None` for this batch's.
            output_prompts: Whether to return the prompts.
            return_dict: `False` for a plain tuple; `None` for the configuration's choice.
            text_states: (U, T, H), see `ClickPromptModel.forward`; unused without a PLM.
            text_rows: (B,), the text of each row; `None` if row i has text i.
            feature_rows: (B,), the row of `feature_ids` of each row; `None` if row i has row i.
            feature_vectors: (G, S), see `ClickPromptModel.forward`.
            output_hidden_states: Whether to return the states of all PLM layers.
            output_attentions: Whether to return the attention weights of all PLM layers; needs eager attention.

        Raises:
            ValueError: As in `ClickPromptModel.forward`; also if `pooling` reads a layer below `text_states`, or
                labels have another shape or, on the CPU, other values.
        """
        if text_states is not None:
            check_pooled_layers(self.config)
        text = next((given for given in (text_rows, input_ids, text_states) if given is not None), None)
        trunk = self.clickprompt(
            feature_ids,
            input_ids,
            attention_mask,
            output_prompts,
            output_hidden_states or self.config.pooling in _POOLED_LAYERS or self.config.pool_prompts,
            output_attentions,
            read_positions=self.pooled_positions(text),
            return_dict=True,
            text_states=text_states,
            text_rows=text_rows,
            feature_rows=feature_rows,
            feature_vectors=feature_vectors,
        )
        ctr_logits = text_logits = None
        if self.ctr_head is not None:
            vectors = self.clickprompt.vectors_of(feature_vectors)
            ctr_logits = take_rows(self.ctr_head(trunk.interaction, feature_ids, *vectors), feature_rows)
        if self.text_head is not None:
            text_logits = self.text_head(self.pooled_text(trunk, take_rows(attention_mask, text_rows)))
        logits = self.fusion(ctr_logits, text_logits)
        loss = None
        if labels is not None:
            check_click_labels(labels, logits.shape[0])
            loss = click_loss(logits, labels, num_items_in_batch)
        outputs = ClickPromptForCTROutput(
            loss=loss,
            logits=logits,
            ctr_logits=ctr_logits,
            text_logits=text_logits,
            prompts=trunk.prompts,
            hidden_states=trunk.hidden_states if output_hidden_states else None,
            attentions=trunk.attentions,
        )
        return outputs if self._returns_dict(return_dict) else outputs.to_tuple()

    def pooled_positions(self, text: torch.Tensor | None) -> torch.Tensor | None:
        """The only position (B, 1) that pooling reads of B texts, the first; `None` if it reads others."""
        if text is None or self.config.pooling != "cls" or self.config.pool_prompts:
            return None
        return torch.zeros(text.shape[0], 1, dtype=torch.int64, device=text.device)

    def pooled_text(self, trunk: ClickPromptModelOutput, attention_mask: torch.Tensor | None) -> torch.Tensor:
        """Pool the trunk's states of the text to (B, H), with the prompts if `pool_prompts`."""
        states: Any = trunk.last_hidden_state
        num_prompts = 0
        if trunk.hidden_states is not None:
            first, second = _POOLED_LAYERS.get(str(self.config.pooling), (-1, -1))
            if len(trunk.hidden_states) <= self.config.text_config.num_hidden_layers and first > 0:
                # states below `text_states` are missing
                first -= self.config.num_lower_layers
            states = (trunk.hidden_states[first] + trunk.hidden_states[second]) / 2
            if self.config.pool_prompts:
                num_prompts = self.config.num_prompts
            else:
                states = self.clickprompt.injection.text_states(states)
        return pool(states, attention_mask, self.config.pooling, num_prompts)
