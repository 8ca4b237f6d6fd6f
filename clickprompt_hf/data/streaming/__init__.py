# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""Prepare tables that are larger than memory.

`StreamedTable` (`prepare`) reads each file once, by chunks, and gives each raw value a code within its chunk
(`distinct`). Codes and the distinct values of chunks go to disk (`spill`). They are merged into codes of the whole
table, on which splits (`row_splits`), vocabularies (`vocabulary`), the encoded rows (`row_encoding`) and their tokens
(`tokens`) are made.
"""
