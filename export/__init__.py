"""How a model is made: synthetic sky, pictures with words, training, export, evaluation, release.

Each is a folder, and imports go one way, from right to left::

    sky, measures -> data -> training, finetuning -> to_onnx -> evaluation -> release

Not installed with ``astroclip_search``: run the steps from a clone, ``python -m export <step>``.
"""

import os

# ONNX Runtime would report each session to its maker; read when it is first imported.
os.environ.setdefault('ORT_DISABLE_TELEMETRY', '1')
