"""``python -m rvqvae``: the command line, and what torchrun starts: ``torchrun … -m rvqvae train …``."""

from __future__ import annotations

import os
import sys

from rvqvae.commands.main import main

if __name__ == "__main__":
    if os.environ.get("WORLD_SIZE", "1") == "1":
        sys.exit(main())
    from rvqvae.distributed import lead

    sys.exit(lead(main))
