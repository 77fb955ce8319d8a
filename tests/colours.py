# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
A model whose right answers are known: it sees the mean colour of an image.
"""

import io
from pathlib import Path

import numpy as np
from PIL import Image

from astroclip_search.images.preprocess import Preprocessing
from astroclip_search.models.background import normalise
from astroclip_search.models.bundle import Bundle
from tests.loopback.archive import Archive

COLOURS = {'red': (1.0, 0.0, 0.0), 'green': (0.0, 1.0, 0.0), 'blue': (0.0, 0.0, 1.0)}


class ColourEncoder:
    """
    Stands in for `~astroclip_search.models.encoder.Encoder`; counts what it embeds.
    """

    device = 'cpu'

    def __init__(self, revision='colours'):
        self.bundle = Bundle('colours', Path(), revision,
                             Preprocessing((8, 8), None, 3, (0.5,) * 3, (0.5,) * 3),
                             context_length=64)
        self.n_images = self.n_texts = 0

    def encode_images(self, pixels):
        self.n_images += len(pixels)
        return normalise(pixels.reshape(len(pixels), -1, 3).mean(axis=1) + 1e-3)

    def encode_text(self, texts):
        self.n_texts += len(texts)
        return normalise(np.array([
            np.sum([COLOURS[word] for word in text.lower().split() if word in COLOURS] or
                   [(1.0, 1.0, 1.0)], axis=0) for text in texts]))

    encode_metadata = encode_text

    def n_tokens(self, text):
        return len(text.split()) + 2


def shaded(colour, size=(16, 16)):
    """
    An array of one hue, given as red, green and blue of 255, whose right half is a little darker:
    an image of one level would be blank.
    """
    pixels = np.tile(np.asarray(colour, float), (size[1], size[0], 1))
    pixels[:, size[0] // 2:] *= 0.9
    return pixels.round().astype(np.uint8)


def picture(colour, size=(16, 16)):
    """
    A Pillow image of one hue.
    """
    return Image.fromarray(shaded([255 * value for value in COLOURS[colour]], size))


def content(colour, kind='PNG'):
    """
    The same as bytes of a file.
    """
    stream = io.BytesIO()
    picture(colour).save(stream, kind, subsampling=0)  # JPEG would mix the colours
    return stream.getvalue()


def serve_colours(serve, colours, *, words=None, **options):
    """A MAST whose previews have one colour each; astroquery's answer with all of its rows."""
    from astroquery.mast import Observations

    rows, files = [], {}
    for i, colour in enumerate(colours):
        uri = f'mast:HST/product/p{i:03d}_{colour}.jpg'
        rows.append({
            'obsid': str(1000 + i), 'obs_id': f'p{i:03d}', 'obs_collection': 'HST',
            'target_name': f'T{i}', 'obs_title': words[i] if words else f'Title {i}',
            'dataproduct_type': 'image', 'jpegURL': uri, 's_ra': 10.0, 's_dec': 20.0,
            'calib_level': 3, 'intentType': 'science', 'dataRights': 'PUBLIC'})
        files[uri] = content(colour, 'JPEG') + b'%d' % i
    mast = serve(Archive(rows, files), **options)
    return mast, Observations.query_criteria(obs_collection='HST')


def best_colour(ranked):
    return ranked['jpegURL'][0].rsplit('_', 1)[1].removesuffix('.jpg')
