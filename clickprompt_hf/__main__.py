# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""`python -m clickprompt_hf` is the command `clickprompt`."""

from .cli import main

if __name__ == "__main__":
    main()
