"""
A bundle as the product runs it.
"""

import numpy as np
from PIL import Image

from astroclip_search.images.preprocess import resize
from astroclip_search.models.background import normalise
from astroclip_search.models.bundle import open_bundle
from astroclip_search.models.encoder import open_encoder

__all__ = ['Shipped']


class Shipped:
    """
    A bundle, through the product's own encoder and preprocessing.

    Parameters
    ----------
    name : str or path-like
        Folder, ``'default'``, or an id of the hub.

    Attributes
    ----------
    bundle : `astroclip_search.models.bundle.Bundle`
        What was opened.
    """

    def __init__(self, name):
        self.bundle = open_bundle(str(name))
        self._encoder = open_encoder(self.bundle, device='cpu', n_threads=1)

    def images(self, images):
        """
        Embed images.

        Parameters
        ----------
        images : sequence of `numpy.ndarray` of uint8
            RGB, of any shapes.

        Returns
        -------
        vectors : `numpy.ndarray` of float32, shape (n, d)
            Unit vectors.
        """
        return np.concatenate([self._encoder.encode_images(self.pixels(images[start:start + 64]))
                               for start in range(0, len(images), 64)])

    def pixels(self, images):
        """
        Resize and crop images as the model wants them.

        Parameters
        ----------
        images : sequence of `numpy.ndarray` of uint8
            RGB, of any shapes.

        Returns
        -------
        pixels : `numpy.ndarray` of uint8, shape (n, height, width, 3)
            Not normalised.
        """
        return np.stack([resize(Image.fromarray(image), self.bundle.preprocessing)
                         for image in images])

    def texts(self, texts, *, templates=None):
        """
        Embed phrases in the joint space.

        Parameters
        ----------
        texts : sequence of str
            Phrases.
        templates : sequence of str, optional
            Sentences that each is averaged over; by default those of the bundle.

        Returns
        -------
        vectors : `numpy.ndarray` of float32, shape (n, d)
            Unit vectors.
        """
        templates = templates or self.bundle.prompt_templates
        vectors = self._encoder.encode_text([template.replace('{}', text)
                                             for template in templates for text in texts])
        return normalise(vectors.reshape(len(templates), len(texts), -1).mean(0))

    def metadata(self, texts):
        """
        Embed the metadata of rows, and phrases to compare them with.

        Parameters
        ----------
        texts : sequence of str
            Phrases, titles.

        Returns
        -------
        vectors : `numpy.ndarray` of float32, shape (n, d)
            Unit vectors.
        """
        return self._encoder.encode_metadata(list(texts))
