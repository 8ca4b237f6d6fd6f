# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""States of the texts that a model has read, for scoring: a text goes through the PLM's lower layers once.

This file ships with every checkpoint, so it imports only torch and the standard library.

Shapes: B batch, U distinct texts of a batch, T text tokens of the longest one, H PLM hidden size.
"""

import threading
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.nn.utils.rnn import pad_sequence

DEFAULT_MEGABYTES = 256
# Number of values compared per weight, besides its version, which misses writes through `.data`.
_NUM_SAMPLED = 32


class RecentTexts:
    """Keeps the states of the texts that were read last, within a memory limit. Threads may share it.

    A text is known by its token ids. Its states are those after the layers that see the text alone, without padding.
    They are forgotten as soon as a weight or the active adapters of these layers, or the model's precision, change.

    Args:
        megabytes: Largest size of the states, at least 0. With 0, nothing is kept and models read the texts
            themselves.

    Raises:
        ValueError: If `megabytes` is not a number of at least 0.
    """

    def __init__(self, megabytes: float = DEFAULT_MEGABYTES):
        if isinstance(megabytes, bool) or not isinstance(megabytes, (int, float)) or not 0 <= megabytes < float("inf"):
            raise ValueError(f"`text_state_memory` must be a number of megabytes, at least 0, got {megabytes!r}.")
        self.megabytes = megabytes
        self._max_bytes = int(megabytes * 1e6)
        self._num_bytes = 0
        self._lock = threading.Lock()
        # (t, H) by token ids, the one used last at the end
        self._states: OrderedDict[bytes, torch.Tensor] = OrderedDict()
        self._origin: Any = None

    def __getstate__(self) -> dict[str, Any]:
        # copies start empty: locks cannot be copied
        return {"megabytes": self.megabytes}

    def __setstate__(self, state: dict[str, Any]) -> None:
        type(self).__init__(self, **state)

    def __len__(self) -> int:
        """Number of texts whose states are kept."""
        return len(self._states)

    @property
    def num_bytes(self) -> int:
        """Size of what is kept."""
        return self._num_bytes

    def clear(self) -> None:
        """Forget all texts."""
        with self._lock:
            self._forget()

    def shared(self, model: Any, inputs: dict[str, Any]) -> dict[str, Any]:
        """Replace the texts of a batch by states, each distinct text once.

        Args:
            model: A ClickPrompt model in evaluation mode.
            inputs: Inputs of the model, among them `input_ids` (B, T) and `attention_mask` (B, T), padded on the
                right.

        Returns:
            The inputs with `text_states` (U, T, H), `attention_mask` (U, T) and, if texts repeat, `text_rows` (B,)
            instead of `input_ids`; or unchanged, if the model does not read states or nothing may be kept.
        """
        if not (self._max_bytes and "input_ids" in inputs and reads_states(model.config)):
            return inputs
        inputs = dict(inputs)
        input_ids, mask = inputs.pop("input_ids"), inputs.pop("attention_mask")
        keys = _keys(input_ids, mask)
        # the first row of each distinct text, in the order of the rows
        first_rows: dict[bytes, int] = {}
        for row, key in enumerate(keys):
            first_rows.setdefault(key, row)
        states = self._states_of(model, first_rows, input_ids, mask)
        inputs["text_states"] = pad_sequence(states, batch_first=True)
        inputs["attention_mask"] = mask[list(first_rows.values()), : inputs["text_states"].shape[1]]
        if len(states) < len(keys):
            numbers = {key: number for number, key in enumerate(first_rows)}
            inputs["text_rows"] = torch.tensor([numbers[key] for key in keys], device=mask.device)
        return inputs

    def _states_of(
        self, model: Any, first_rows: dict[bytes, int], input_ids: torch.Tensor, mask: torch.Tensor
    ) -> list[torch.Tensor]:
        """States (t, H) of each text, given by its key and its row in `input_ids` (B, T) and `mask` (B, T)."""
        origin = _origin(model)
        known = self._look_up(origin, list(first_rows))
        new = {key: row for key, row in first_rows.items() if key not in known}
        if new:
            rows = list(new.values())
            width = int(mask[rows].sum(dim=1).max())
            read = dict(zip(new, self.read(model, input_ids[rows, :width], mask[rows, :width])))
            self._keep(origin, read)
            known |= read
        return [known[key] for key in first_rows]

    def read(self, model: Any, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> list[torch.Tensor]:
        """Compute the states of texts that are not known.

        Args:
            model: The model.
            input_ids: (U, T)
            attention_mask: (U, T), 1 at text, 0 at padding.

        Returns:
            The states (t, H) of each text.
        """
        encoded = model.encode_text(input_ids, attention_mask)
        return [states[:length] for states, length in zip(encoded, attention_mask.sum(dim=1).tolist())]

    def _look_up(self, origin: Any, keys: Sequence[bytes]) -> dict[bytes, torch.Tensor]:
        """The known states of a model with the weights `origin`, by key."""
        with self._lock:
            if self._origin != origin:
                self._forget()
                self._origin = origin
            known = {key: states for key in keys if (states := self._states.get(key)) is not None}
            for key in known:
                self._states.move_to_end(key)
        return known

    def _keep(self, origin: Any, read: dict[bytes, torch.Tensor]) -> None:
        """Keep states (t, H) of a model with the weights `origin`, and drop the least recently used ones."""
        # A slice would keep the whole batch in memory.
        copies = {key: states.detach().clone() for key, states in read.items()}
        with self._lock:
            if self._origin != origin:
                # Another thread has changed the model in the meantime.
                return
            for key, states in copies.items():
                if key not in self._states:
                    self._states[key] = states
                    self._num_bytes += _size(key, states)
            while self._num_bytes > self._max_bytes:
                self._num_bytes -= _size(*self._states.popitem(last=False))

    def _forget(self) -> None:
        self._states.clear()
        self._num_bytes = 0


def reads_states(config: Any) -> bool:
    """Whether a model of this configuration reads states of its texts: whether PLM layers see the text alone."""
    # models of earlier versions, loaded with a checkpoint's own code, lack it
    num_layers = getattr(config, "num_lower_layers", 0)
    # this pooling reads the first layer
    return num_layers == 1 or (num_layers > 1 and config.pooling != "mean_first_last")


def _keys(input_ids: torch.Tensor, mask: torch.Tensor) -> list[bytes]:
    """Bytes of the token ids of each text, without padding."""
    ids, lengths = input_ids.to("cpu", torch.int32).numpy(), mask.sum(dim=1).tolist()
    return [row[:length].tobytes() for row, length in zip(ids, lengths)]


def _size(key: bytes, states: torch.Tensor) -> int:
    return len(key) + states.numel() * states.element_size()


def _origin(model: Any) -> tuple:
    """Everything that may change the states of a text: weights, adapters and precision.

    Weights are compared by identity and version, and a sample of them by value.
    """
    modules = [part for module in model.trunk.lower_modules() for part in module.modules()]
    tensors = [
        tensor for module in modules for tensor in (*module.parameters(recurse=False), *module.buffers(recurse=False))
    ]
    identities = [(id(t), t.data_ptr(), 0 if t.is_inference() else t._version) for t in tensors]
    sampled: dict[torch.device, list[torch.Tensor]] = {}
    for tensor in tensors:
        if tensor.is_floating_point() and tensor.numel() and not tensor.is_meta:
            sample = tensor.detach().reshape(-1)[:: -(-tensor.numel() // _NUM_SAMPLED)]
            sampled.setdefault(tensor.device, []).append(sample)
    values = [torch.cat(samples).float().cpu().numpy().tobytes() for samples in sampled.values()]
    kind = model.device.type
    precision = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else None
    return identities, values, _adapters(modules), precision


def _adapters(modules: Sequence[nn.Module]) -> list[str]:
    """Which adapters of PEFT are active in each module that has some, and how strongly."""
    names = ("_active_adapter", "_disable_adapters", "merged_adapters", "scaling")
    states = map(vars, modules)
    return [str([state.get(name) for name in names]) for state in states if "_active_adapter" in state]
