# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""ClickPrompt on clusters: what Spark and Ray run, each with its extra.

| what | Spark | Ray |
|---|---|---|
| fit vocabularies | `spark.fit_processor` | |
| encode rows for training | `spark.encode`, then `shards.join_shards` | |
| train | `spark.train` | `ray.train` |
| score | `spark.score` | `ray.score`, `ray.Scorer` |

Ids, vocabularies and scores are those of one machine. Importing these modules needs neither Spark nor Ray.
"""
