"""The synthetic sky: rendered scenes whose captions are exactly true.

A painter fills a `~export.sky.fields.Canvas` with linear light (``galaxies``, ``nebulae``,
``stars``, ``solar``, ``detectors``), the ``camera`` turns it into a preview as archives show it,
and ``captions`` puts what is really there into words.
"""

from .captions import HELD_OUT, caption, names, synonyms
from .scene import KINDS, Scene, render
from .shards import main, write_shard

__all__ = ['HELD_OUT', 'KINDS', 'Scene', 'caption', 'main', 'names', 'render', 'synonyms',
           'write_shard']
