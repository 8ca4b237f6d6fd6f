# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""Comparison of arms on one table: results, statistics, verdict and report."""

from .report import write_report
from .results import ARMS, ArmRun, Comparison, load_run, save_run
from .rules import Rules
from .verdict import Verdict

__all__ = ["ARMS", "ArmRun", "Comparison", "Rules", "Verdict", "load_run", "save_run", "write_report"]
