"""Run the renderer: ``python -m export.sky --out DIR``."""

import sys

from .shards import main

sys.exit(main())
