"""Packaging of clickprompt_hf."""

import re
from pathlib import Path

from setuptools import find_packages, setup

here = Path(__file__).parent
version = re.search(r'__version__ = "(.+)"', (here / "clickprompt_hf" / "__init__.py").read_text()).group(1)
# what writes and checks the graphs of clickprompt_hf.export.export_ctr
ONNX = ["onnx", "onnxruntime", "onnxscript"]
PLOTS = ["matplotlib"]
APP = ["gradio>=6.31"]
DOCS = ["mkdocs-material", "mkdocstrings[python]", "ziamath"]

setup(
    name="clickprompt_hf",
    version=version,
    description="ClickPrompt for HuggingFace: language models that help click-through-rate prediction",
    long_description=(here / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    package_data={"clickprompt_hf.evaluation": ["*.jinja"], "clickprompt_hf.runs": ["help/*.txt"]},
    packages=find_packages(include=["clickprompt_hf", "clickprompt_hf.*"]),
    python_requires=">=3.10",
    install_requires=[
        "torch>=2.6",
        "transformers>=5.23",
        "numpy",
        "scipy",
        "pyarrow",
        "tokenizers",
        "datasets",
        "filelock",
        "accelerate",
        "peft",
        "evaluate",
        "safetensors",
        "scikit-learn",
        "pandas",
        "pyyaml",
        "tensorboard",
        "huggingface_hub",
        "jinja2",
    ],
    extras_require={
        "onnx": ONNX,
        "plots": PLOTS,
        "app": APP,
        "docs": DOCS,
        "dev": [
            *("pytest", "pytest-xdist", "ruff", "mypy", "types-PyYAML", "pandas-stubs", "build", "setuptools>=77"),
            *(*ONNX, *PLOTS, *APP, *DOCS),
        ],
    },
    classifiers=[
        "Intended Audience :: Science/Research",
        "Programming Language :: Python :: 3",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
    ],
)
