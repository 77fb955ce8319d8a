"""How a model is made: synthetic sky, training, export, bundle, evaluation.

Not installed with ``astroclip_search``: run the steps from a clone, ``python -m export <step>``.
"""
