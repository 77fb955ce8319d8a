"""
What a scene is made of, as classes of its own to be told apart from its pixels.

A caption names one or two properties of a scene; the renderer knows all of them. A
linear head on the image tower learns them beside the captions, and is not exported.
"""

import torch

from export.sky import KINDS

__all__ = ['AttributeHead', 'Vocabulary']

#: Properties that mean the same for every kind of scene.
_GENERAL = frozenset(('style', 'mosaic', 'annotated'))


class Vocabulary:
    """
    Numbers for the values that attributes of scenes take.

    Parameters
    ----------
    tokens : list of str
        One for each kind, attribute and value, written ``kind.attribute=value``.

    Attributes
    ----------
    groups : list of int
        For each token the number of its attribute; exactly one token of a group is true.
    """

    def __init__(self, tokens):
        self.tokens = sorted(tokens)
        names = sorted({token.partition('=')[0] for token in self.tokens})
        self.groups = [names.index(token.partition('=')[0]) for token in self.tokens]
        self._index = {token: i for i, token in enumerate(self.tokens)}

    def __len__(self):
        return len(self.tokens)

    @classmethod
    def of(cls, kinds, attributes):
        """
        Collect the vocabulary of some scenes.

        Parameters
        ----------
        kinds : iterable of int
            Kind of each scene.
        attributes : iterable of dict
            Attributes of each scene.

        Returns
        -------
        vocabulary : `Vocabulary`
            Of all values that occur; attributes that never vary are left out.
        """
        values = {}
        for kind, found in zip(kinds, attributes, strict=True):
            for token in _tokens(kind, found):
                values.setdefault(token.partition('=')[0], set()).add(token)
        return cls([token for found in values.values() if len(found) > 1 for token in found])

    def encode(self, kind, attributes):
        """
        Return the tokens that are true of a scene.

        Parameters
        ----------
        kind : int
            Kind of the scene.
        attributes : dict
            Its attributes.

        Returns
        -------
        numbers : list of int
            Values that the vocabulary does not hold are left out.
        """
        return [self._index[token] for token in _tokens(kind, attributes) if token in self._index]


def _tokens(kind, attributes):
    return [f'{"" if name in _GENERAL else KINDS[kind]}.{name}={value}'
            for name, value in attributes.items()]


class AttributeHead(torch.nn.Module):
    """
    Linear classifier of every attribute at once.

    Parameters
    ----------
    features : int
        Dimension of the image features.
    vocabulary : `Vocabulary`
        What is to be told apart.
    """

    def __init__(self, features, vocabulary):
        super().__init__()
        self.linear = torch.nn.Linear(features, len(vocabulary))
        self.register_buffer('groups', torch.tensor(vocabulary.groups, dtype=torch.int64),
                             persistent=False)

    def forward(self, features, tokens):
        """
        Compute the mean cross-entropy of the attributes that are known.

        Parameters
        ----------
        features : `torch.Tensor` of float32, shape (n, f)
            Image features.
        tokens : `torch.Tensor` of int64, shape (n, a)
            True tokens of each image, padded with -1.

        Returns
        -------
        value : `torch.Tensor`
            Scalar, zero if no attribute is known.
        """
        known = tokens >= 0
        if not known.any():
            return features.new_zeros(())
        logits = self.linear(features)
        # Softmax within each group: all groups share one pass over the logits.
        top = logits.amax(1, keepdim=True).detach()
        sums = logits.new_zeros(len(logits), int(self.groups.max()) + 1)
        sums = sums.index_add(1, self.groups, (logits - top).exp())
        chosen = tokens.clamp(min=0)
        wanted = logits.gather(1, chosen) - top
        value = sums.gather(1, self.groups[chosen]).clamp(min=1e-20).log() - wanted
        return (value * known).sum() / known.sum()
