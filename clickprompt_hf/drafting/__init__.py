# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""From an unknown table to a schema.

| step | module |
|---|---|
| what a column's name suggests | `column_names.py` |
| what is known of a column | `column_profile.py` |
| which kind of field its cells are | `column_kinds.py` |
| numbers, ids and codes in digits | `number_columns.py` |
| times | `time_columns.py` |
| several values per cell | `list_columns.py` |
| words for missing cells | `missing_words.py` |
| what the marks within numbers mean | `written_numbers.py` |
| numbers with currencies, units or separators | `amounts.py` |
| sentinels: numbers that stand for missing cells | `sentinels.py` |
| row ids, families of columns, leaks | `column_checks.py` |
| which column is the label | `label_guess.py` |
| buckets of numbers | `bucket_choice.py` |
| what text costs the PLM | `text_estimate.py` |

`schema_draft.py` runs them.
"""
