# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""Prepare tables that are larger than memory.

`prepare_stream` reads each file once, by chunks, and gives each raw value a code within its chunk (`distinct`). Codes
and the distinct values of chunks go to disk (`spill`). They are merged into codes of the whole table, on which splits
(`row_splits`), vocabularies (`vocabulary`) and the encoded rows (`prepare`) are made.
"""
