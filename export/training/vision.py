"""
The image tower: a timm network with a linear head into the joint space.
"""

import json

import numpy as np
import timm
import torch

from export.training.text import TextMap

__all__ = ['MEAN', 'STD', 'ImageTower', 'load_checkpoint', 'normalise']

#: Mean and standard deviation of the input channels, in units of full scale.
MEAN = (0.5, 0.5, 0.5)
STD = (0.5, 0.5, 0.5)


class ImageTower(torch.nn.Module):
    """
    Image encoder.

    Parameters
    ----------
    network : str
        Name of a timm model; it is always trained from scratch.
    dim : int
        Dimension of the joint space.
    views : int, optional
        Mirror images that an embedding is the mean of: 1, 2 (left and right) or 4 (up and down
        too). The sky has neither.
    """

    def __init__(self, network='mobilenetv4_conv_small', dim=384, views=1):
        super().__init__()
        self.views = views
        self.trunk = timm.create_model(network, pretrained=False, num_classes=dim)

    def forward(self, pixel_values):
        """
        Embed images.

        Parameters
        ----------
        pixel_values : `torch.Tensor` of float32, shape (n, 3, s, s)
            Normalised pixels, see `normalise`.

        Returns
        -------
        image_embeds : `torch.Tensor` of float32, shape (n, d)
            Unit vectors.
        """
        mirrored = [pixel_values]
        for axis in (3, 2)[:self.views.bit_length() - 1]:
            mirrored += [view.flip(axis) for view in mirrored]
        vectors = self.embed(self.features(torch.cat(mirrored)))
        mean = vectors.reshape(self.views, -1, vectors.shape[-1]).mean(0)
        return torch.nn.functional.normalize(mean, dim=-1)

    def features(self, pixel_values):
        """
        Compute what the linear head is applied to.

        Parameters
        ----------
        pixel_values : `torch.Tensor` of float32, shape (n, 3, s, s)
            Normalised pixels.

        Returns
        -------
        features : `torch.Tensor` of float32, shape (n, f)
            Pooled features.
        """
        return self.trunk.forward_head(self.trunk.forward_features(pixel_values), pre_logits=True)

    def embed(self, features):
        """
        Apply the linear head.

        Parameters
        ----------
        features : `torch.Tensor` of float32, shape (n, f)
            Pooled features.

        Returns
        -------
        image_embeds : `torch.Tensor` of float32, shape (n, d)
            Unit vectors.
        """
        return torch.nn.functional.normalize(self.trunk.get_classifier()(features), dim=-1)

    @torch.no_grad()
    def encode(self, squares, *, batch_size=128):
        """
        Embed square RGB images.

        Parameters
        ----------
        squares : `numpy.ndarray` of uint8, shape (n, s, s, 3)
            Images at the resolution of the tower.
        batch_size : int, optional
            Images per forward pass.

        Returns
        -------
        embeddings : `numpy.ndarray` of float32, shape (n, d)
            Unit vectors.
        """
        self.eval()
        parts = [
            self(normalise(torch.from_numpy(np.ascontiguousarray(squares[i:i + batch_size]))))
            for i in range(0, len(squares), batch_size)
        ]
        return torch.cat(parts).float().numpy()


def normalise(squares):
    """
    Turn uint8 pixels into the network's input.

    Parameters
    ----------
    squares : `torch.Tensor` of uint8, shape (n, s, s, 3)
        RGB images.

    Returns
    -------
    pixel_values : `torch.Tensor` of float32, shape (n, 3, s, s)
        ``(x / 255 - mean) / std``, channels last in memory.
    """
    pixels = squares.permute(0, 3, 1, 2).float().div_(255)
    mean = torch.tensor(MEAN).view(1, 3, 1, 1)
    std = torch.tensor(STD).view(1, 3, 1, 1)
    return pixels.sub_(mean).div_(std)


def load_checkpoint(path):
    """
    Read the averaged towers of a training checkpoint.

    Parameters
    ----------
    path : path-like
        File written by `export.training.train`.

    Returns
    -------
    tower : `ImageTower`
        In evaluation mode.
    text_map : `export.training.text.TextMap`
        In evaluation mode.
    info : dict
        Configuration and progress of the run, and the factor of its softmax.
    """
    state = torch.load(path, map_location='cpu', weights_only=True)
    info = json.loads(state['info'])
    scale = state['averaged']['log_scale'].exp().item()
    info['logit_scale'] = min(scale, info['config']['train']['scale_max'])
    model = info['config']['model']
    tower = ImageTower(model['network'], model['dim'], model['views'])
    text_map = TextMap(model['dim'], model['text_width'])
    for module, prefix in ((tower, 'image.'), (text_map, 'text.')):
        module.load_state_dict({name.removeprefix(prefix): value
                                for name, value in state['averaged'].items()
                                if name.startswith(prefix)})
    return tower.eval(), text_map.eval(), info
