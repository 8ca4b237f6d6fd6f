# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""From raw files to batches.

| step | module |
|---|---|
| read | `sources/`, `table_files.py`, `split_files.py`, `schema_file.py` |
| check labels | `labels.py` |
| split | `splits.py` |
| fit | `vocabulary.py`, `buckets.py` |
| encode | `columnar.py`, `token_tables.py` |
| all of these, for tables larger than memory | `streaming/` |
| count training values, which drift is measured against | `drift.py` |
| check the splits | `shared_rows.py` |
| batches | `collators.py`, `row_batches.py`; their masks, `random_draws.py` |
| states of texts | `text_states.py`, `text_variants.py` |

`reading.py` runs the first three. Tables are Arrow tables until they are encoded.
"""
