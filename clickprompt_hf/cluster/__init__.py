# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""ClickPrompt on clusters: what Spark runs, with the extra `spark`.

Ids, vocabularies and scores are those of one machine. Importing these modules does not need Spark.
"""
