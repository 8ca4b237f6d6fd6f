"""Spark's daemon of Python workers: they fork from a process that has imported the package, which saves seconds."""

import contextlib
import gc

# workers of one test cannot import it
with contextlib.suppress(ImportError):
    import clickprompt_hf.cluster.spark_encoding
    import clickprompt_hf.cluster.worker_models
    import clickprompt_hf.export.export_ctr
    import clickprompt_hf.export.plm_scorer
    import clickprompt_hf.scoring.table_scoring  # noqa: F401

# workers collect garbage after each task
gc.collect()
gc.freeze()

if __name__ == "__main__":
    from pyspark.daemon import manager

    manager()
