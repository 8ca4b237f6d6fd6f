"""FuxiCTR's training loop on DCNv2, for ctr_only.py to compare with; runs in an environment that has FuxiCTR (2.3).

    python -m venv fuxictr && fuxictr/bin/pip install torch fuxictr
    fuxictr/bin/python benchmarks/fuxictr_dcnv2.py DATA.npz --batch_size 4096 --steps 60

Uses FuxiCTR's layers, data loader and `train_epoch`. The model is that of its model zoo, which the package does not
include. DATA.npz holds `feature_ids` (N, F), `field_sizes` (F,) and `labels` (N,). Prints rows per second.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from fuxictr.features import FeatureMap
from fuxictr.pytorch.dataloaders import RankDataLoader
from fuxictr.pytorch.layers import CrossNetV2, FeatureEmbedding, MLP_Block
from fuxictr.pytorch.models import BaseModel
from torch import nn


class DCNv2(BaseModel):
    """The parallel structure: cross network and DNN side by side."""

    def __init__(self, feature_map, embedding_size, hidden_sizes, num_cross_layers, folder):
        super().__init__(feature_map, verbose=0, model_root=folder, metrics=["AUC"])
        width = feature_map.num_fields * embedding_size
        self.embedding = FeatureEmbedding(feature_map, embedding_size)
        self.cross = CrossNetV2(width, num_cross_layers)
        self.dnn = MLP_Block(width, hidden_units=hidden_sizes)
        self.output = nn.Linear(width + hidden_sizes[-1], 1)
        self.compile("adam", "binary_crossentropy", 1e-3)
        self.reset_parameters()

    def forward(self, inputs):
        embeddings = self.embedding(self.get_inputs(inputs), flatten_emb=True)
        joined = torch.cat([self.cross(embeddings), self.dnn(embeddings)], dim=-1)
        return {"y_pred": self.output_activation(self.output(joined))}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--embedding_size", type=int, default=32)
    parser.add_argument("--hidden_sizes", type=int, nargs="+", default=[256] * 6)
    parser.add_argument("--num_cross_layers", type=int, default=6)
    parser.add_argument("--batch_size", type=int, default=4096)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--cpu_seconds", action="store_true")
    args = parser.parse_args()
    with np.load(args.data) as arrays:
        feature_ids, field_sizes, labels = (arrays[name] for name in ("feature_ids", "field_sizes", "labels"))
    rows = np.arange(args.batch_size * args.steps) % len(labels)
    fields = [f"field{f}" for f in range(len(field_sizes))]

    with tempfile.TemporaryDirectory() as folder:
        columns = {name: feature_ids[rows, f] for f, name in enumerate(fields)}
        np.savez(f"{folder}/train.npz", **columns, label=labels[rows])
        feature_map = FeatureMap("benchmark", folder)
        for name, size in zip(fields, field_sizes):
            feature_map.features[name] = {"source": "", "type": "categorical", "vocab_size": int(size)}
        feature_map.labels, feature_map.num_fields = ["label"], len(fields)
        feature_map.set_column_index()
        loader, _ = RankDataLoader(
            feature_map, stage="train", train_data=f"{folder}/train.npz", batch_size=args.batch_size, num_workers=0
        )
        model = DCNv2(feature_map, args.embedding_size, args.hidden_sizes, args.num_cross_layers, folder)
        # without the evaluation of the epoch
        model._eval_steps, model._max_gradient_norm, model._stop_training = args.steps + 1, 10.0, False
        model._total_steps = 0
        clock = time.process_time if args.cpu_seconds else time.perf_counter
        start = clock()
        model.train_epoch(loader)
        seconds = clock() - start
    print(json.dumps({"rows_per_second": len(rows) / seconds}))


if __name__ == "__main__":
    main()
