# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""ClickPrompt on Spark: fit vocabularies, encode rows, train and score. Needs `pip install "clickprompt_hf[spark]"`.

    from clickprompt_hf.cluster import spark

    processor = spark.fit_processor(train, schema)
    scored = spark.score(rows, "OUT_CTR")

docs/scale.md has a recipe for each.
"""

from .spark_encoding import encode
from .spark_scoring import score
from .spark_training import train
from .spark_vocabulary import fit_processor

__all__ = ["encode", "fit_processor", "score", "train"]
