# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
How fast and how large, as ratios to named peers that are measured in the same run.

``python -m benchmarks`` prints them all. The classes follow the naming of airspeed velocity
(``time_*``, ``track_*``, ``peakmem_*``), so that it can follow them over commits.
"""

import sys
from pathlib import Path

# Airspeed velocity imports this folder alone; what it measures is installed, but tests/ and
# export/ stand beside it.
if (root := str(Path(__file__).parents[1])) not in sys.path:
    sys.path.append(root)
