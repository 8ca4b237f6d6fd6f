# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""Click probabilities over HTTP.

| step | module |
|---|---|
| load an exported folder | `load_export` of `export/export_engines.py` |
| load a checkpoint | `checkpoint_engine.py` |
| what both can do | `engine.py` |
| read requests and answer them | `service.py` |
| gather rows of several requests into batches | `batching.py` |
| count | `metrics.py` |

Only `checkpoint_engine.py` imports torch and transformers. Exported folders are served without them, unless their
texts need a tokenizer in Python or a text encoder.
"""
