"""How a model is made: synthetic sky, training, export, bundle, evaluation.

Not installed with ``astroclip_search``: run the steps from a clone, ``python -m export <step>``.
"""

import os

# ONNX Runtime would report each session to its maker; read when it is first imported.
os.environ.setdefault('ORT_DISABLE_TELEMETRY', '1')
