# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""What the commands do, one module per subcommand; the only place that knows command-line flags."""
