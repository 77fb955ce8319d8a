"""
Ways to fine-tune a CLIP model with few weights: low-rank changes of its matrices, and MLP heads.
"""

import math

import torch
from torch.nn.utils import parametrize

__all__ = ['Headed', 'LowRank', 'add_low_rank', 'merge_low_rank']


class LowRank(torch.nn.Module):
    """
    A matrix plus a learned one of low rank (LoRA [1]_), which is zero at first.

    It is registered on a parameter, not on a layer, so that it also serves attention, whose
    matrices torch uses without calling a layer.

    Parameters
    ----------
    shape : (int, int)
        Of the matrix.
    rank : int
        Of the change.
    alpha : float
        The change is multiplied by ``alpha / rank``.

    References
    ----------
    .. [1] Hu et al. 2021, https://arxiv.org/abs/2106.09685
    """

    def __init__(self, shape, rank, alpha):
        super().__init__()
        self.factor = alpha / rank
        self.up = torch.nn.Parameter(torch.zeros(shape[0], rank))
        self.down = torch.nn.Parameter(torch.empty(rank, shape[1]))
        torch.nn.init.kaiming_uniform_(self.down, a=math.sqrt(5))

    def forward(self, matrix):
        """
        Add the change.

        Parameters
        ----------
        matrix : `torch.Tensor`, shape (rows, columns)
            The frozen matrix.

        Returns
        -------
        matrix : `torch.Tensor`, shape (rows, columns)
            The matrix in use.
        """
        return matrix + self.factor * (self.up @ self.down)


def add_low_rank(model, *, rank, alpha):
    """
    Freeze a model and give all matrices of its linear and attention layers a low-rank change.

    Parameters
    ----------
    model : `torch.nn.Module`
        Changed in place. Temperature and bias of the logits go on being learned.
    rank : int
        Of the changes.
    alpha : float
        See `LowRank`.

    Returns
    -------
    count : int
        Number of matrices.

    Raises
    ------
    ValueError
        If the model has none.
    """
    model.requires_grad_(False)
    places = []
    for module in model.modules():
        if isinstance(module, torch.nn.Linear):
            places.append((module, 'weight'))
        elif isinstance(module, torch.nn.MultiheadAttention) and module.in_proj_weight is not None:
            places.append((module, 'in_proj_weight'))
    if not places:
        raise ValueError('the model has no matrix that could be changed: choose another method')
    for module, name in places:
        change = LowRank(getattr(module, name).shape, rank, alpha)
        parametrize.register_parametrization(module, name, change)
    _learn_temperature(model)
    return len(places)


def merge_low_rank(model):
    """
    Put low-rank changes into the matrices, after which the model is of its architecture again.

    Parameters
    ----------
    model : `torch.nn.Module`
        Changed in place; without changes it is left as it is.
    """
    for module in list(model.modules()):
        if parametrize.is_parametrized(module):
            for name in list(module.parametrizations):
                parametrize.remove_parametrizations(module, name, leave_parametrized=True)


class Headed(torch.nn.Module):
    """
    A frozen model with a learned MLP of two layers after each tower.

    Parameters
    ----------
    model : `torch.nn.Module`
        Model of open_clip.
    dim : int
        Dimension of its joint space, which is that of the new one, too.
    width : int
        Units of the hidden layers.
    """

    def __init__(self, model, dim, width):
        super().__init__()
        self.model = model.requires_grad_(False)
        self.image_head, self.text_head = (
            torch.nn.Sequential(torch.nn.Linear(dim, width), torch.nn.GELU(),
                                torch.nn.Linear(width, dim)) for _ in range(2))
        _learn_temperature(model)

    @property
    def visual(self):
        """The image tower below the head, which knows the preprocessing."""
        return self.model.visual

    @property
    def logit_scale(self):
        """Logarithm of the inverse temperature."""
        return self.model.logit_scale

    @property
    def logit_bias(self):
        """Bias of the logits, for models that have one."""
        return self.model.logit_bias

    def set_grad_checkpointing(self, enable=True):
        """
        Do nothing: no gradient passes through the towers.

        Parameters
        ----------
        enable : bool, optional
            Of no effect.
        """

    def train(self, mode=True):
        """
        Let the heads learn, while the towers stay as they are.

        Parameters
        ----------
        mode : bool, optional
            Whether to learn.

        Returns
        -------
        self : `Headed`
            As all modules do.
        """
        super().train(mode)
        self.model.eval()
        return self

    def encode_image(self, image, normalize=False):
        """
        Embed pictures.

        Parameters
        ----------
        image : `torch.Tensor`, shape (n, 3, s, s)
            Normalised pixels.
        normalize : bool, optional
            Whether to return unit vectors.

        Returns
        -------
        embeddings : `torch.Tensor`, shape (n, d)
            Of the joint space.
        """
        return self._headed(self.image_head, self.model.encode_image(image), normalize)

    def encode_text(self, text, normalize=False):
        """
        Embed texts.

        Parameters
        ----------
        text : `torch.Tensor` of int64, shape (n, length)
            Tokens.
        normalize : bool, optional
            Whether to return unit vectors.

        Returns
        -------
        embeddings : `torch.Tensor`, shape (n, d)
            Of the joint space.
        """
        return self._headed(self.text_head, self.model.encode_text(text), normalize)

    @staticmethod
    def _headed(head, features, normalize):
        features = head(features)
        return torch.nn.functional.normalize(features, dim=-1) if normalize else features


def _learn_temperature(model):
    for scalar in (model.logit_scale, model.logit_bias):
        if scalar is not None:
            scalar.requires_grad_(True)
