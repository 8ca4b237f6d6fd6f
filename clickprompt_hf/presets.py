# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""Backbone sizes of the paper's experiments (arXiv 2310.09234), per dataset, and sizes by rows for other tables."""

from dataclasses import dataclass, fields
from typing import Any

from .configuration_clickprompt import CTRConfig

# Embedding size per dataset. The sizes per backbone below list only what differs from the defaults.
_PUBLISHED_EMBEDDING_SIZE = {"ml-1m": 32, "bookcrossing": 32, "amazon-toys": 16, "goodreads": 16}
_DATASETS = tuple(_PUBLISHED_EMBEDDING_SIZE)


def _same(**sizes: Any) -> dict[str, dict[str, Any]]:
    """The same sizes for all datasets."""
    return {name: dict(sizes) for name in _DATASETS}


def _per_dataset(depths: tuple[int, ...], widths: tuple[int, ...] = (256,) * 4, **more: Any) -> dict[str, dict]:
    """Depth and width of the hidden layers per dataset, in the order of `_DATASETS`."""
    return {
        name: {"dnn_hidden_sizes": [width] * depth, **more} for name, width, depth in zip(_DATASETS, widths, depths)
    }


def _with_cross_layers(sizes: dict[str, dict]) -> dict[str, dict]:
    """Sizes with as many cross layers as hidden layers."""
    return {name: {**of, "num_cross_layers": len(of["dnn_hidden_sizes"])} for name, of in sizes.items()}


_PUBLISHED_SIZES: dict[str, dict[str, dict[str, Any]]] = {
    "lr": _same(),
    "fm": {**_same(first_order=False), "goodreads": {"first_order": True}},
    "dnn": _per_dataset((6, 6, 6, 6)),
    "deepfm": {name: {**sizes, "first_order": name == "ml-1m"} for name, sizes in _per_dataset((6, 4, 6, 6)).items()},
    "xdeepfm": _per_dataset((3, 6, 3, 6), cin_layer_sizes=[25, 25, 25]),
    "ipnn": _per_dataset((6, 6, 6, 6), widths=(256, 256, 256, 512)),
    "dcn": _with_cross_layers(_per_dataset((4, 4, 3, 4), widths=(256, 256, 256, 512))),
    "dcnv2": _with_cross_layers(_per_dataset((6, 6, 3, 6), widths=(256, 256, 256, 512))),
    "autoint": _per_dataset((6, 6, 6, 6), num_attention_layers=6, num_attention_heads=1, attention_size=32),
    # the authors publish no sizes for Amazon-Toys
    "fibinet": _per_dataset((2, 2, 2, 2), senet_reduction_ratio=3, bilinear_kind="interaction"),
    "fignn": {**_same(num_graph_layers=3), "bookcrossing": {"num_graph_layers": 6}},
    "fgcnn": {
        # two embedding tables, each half as wide
        name: {**sizes, "embedding_size": _PUBLISHED_EMBEDDING_SIZE[name] // 2}
        for name, sizes in _per_dataset((3, 3, 3, 3)).items()
    },
    # the authors publish no sizes for GoodReads
    "transformer": {
        **_same(num_attention_layers=2, num_attention_heads=1),
        "bookcrossing": {"num_attention_layers": 3, "num_attention_heads": 2},
    },
}


def preset_datasets() -> list[str]:
    """List the datasets with published sizes."""
    return list(_PUBLISHED_EMBEDDING_SIZE)


def preset_backbones() -> list[str]:
    """List the backbones with published sizes."""
    return list(_PUBLISHED_SIZES)


def ctr_preset(backbone: str, dataset: str = "ml-1m", **overrides: Any) -> CTRConfig:
    """Build the configuration of `backbone` at its published size on `dataset`.

    Args:
        backbone: One of `preset_backbones()`.
        dataset: One of `preset_datasets()`.
        overrides: Arguments of `CTRConfig` that replace published values.

    Raises:
        ValueError: If `backbone` or `dataset` has no preset; the message lists those that do.
    """
    if backbone not in _PUBLISHED_SIZES:
        raise ValueError(f"`backbone` must be one of {sorted(_PUBLISHED_SIZES)} for a preset, got {backbone!r}.")
    if dataset not in _PUBLISHED_EMBEDDING_SIZE:
        raise ValueError(
            f"`dataset` must be one of {sorted(_PUBLISHED_EMBEDDING_SIZE)} for a preset, got {dataset!r}."
        )
    published = {"embedding_size": _PUBLISHED_EMBEDDING_SIZE[dataset], **_PUBLISHED_SIZES[backbone][dataset]}
    return CTRConfig(backbone=backbone, **{**published, **overrides})


@dataclass(frozen=True)
class TablePreset:
    """Sizes and training settings for a table without published ones.

    Args:
        name: Name of the preset.
        reason: Why it was chosen.
        sizes: Arguments of `CTRConfig`.
        training: Training arguments for a backbone alone, by name.
        evaluations_per_epoch: Evaluations within an epoch, for a backbone alone.
    """

    name: str
    reason: str
    sizes: dict[str, Any]
    training: dict[str, Any]
    evaluations_per_epoch: int = 1

    def sizes_of(self, backbone: str) -> dict[str, Any]:
        """The sizes that a backbone of `preset_backbones()` has, as arguments of `CTRConfig`."""
        options = {option.name: option.metadata for option in fields(CTRConfig)}
        with_embeddings = options["embedding_size"]["needs"]["backbone"]
        sizes = {
            name: value
            for name, value in self.sizes.items()
            if backbone in options[name]["needs"].get("backbone", with_embeddings)
        }
        if backbone == "fgcnn":
            # two embedding tables, each half as wide
            sizes["embedding_size"] //= 2
        return sizes


# Training rows below which a table is small, and from which it gets the sizes published for MovieLens-1M.
SMALL_ROWS, LARGE_ROWS = 20_000, 200_000


_TRAINING = {"learning_rate": 3e-3, "num_train_epochs": 15, "early_stopping_patience": 4}
# with more steps per epoch, larger ones overfit rare values before the first evaluation
_MEDIUM_TRAINING = {**_TRAINING, "learning_rate": 1e-3}


def table_preset(num_rows: int, num_fields: int, num_values: int) -> TablePreset | None:
    """Choose sizes and training settings by the size of a table.

    They were chosen on validation rows of such tables.

    Args:
        num_rows: Number of training rows.
        num_fields: Number of fields with ids.
        num_values: Number of distinct values of all fields in the training rows.

    Returns:
        The preset; `None` from `LARGE_ROWS` rows on, where tables are about as large as the published ones.
    """
    if num_rows >= LARGE_ROWS:
        return None
    reason = f"{num_rows:,} training rows, {num_fields} fields, {num_values:,} values"
    if num_rows < SMALL_ROWS:
        return TablePreset("small", reason, _sizes(8, 64), dict(_TRAINING), evaluations_per_epoch=2)
    return TablePreset("medium", reason, _sizes(16, 128), dict(_MEDIUM_TRAINING), evaluations_per_epoch=2)


def _sizes(embedding_size: int, width: int) -> dict[str, Any]:
    return {
        "embedding_size": embedding_size,
        "dnn_hidden_sizes": [width, width],
        "num_cross_layers": 2,
        "dnn_dropout": 0.3,
        "embedding_dropout": 0.3,
        # larger fresh embeddings are noise that the first layers learn to read, most of it for rare values
        "embedding_initializer_range": 1e-3,
    }
