"""
What is minimised.

Images and captions of a batch find each other, with soft targets: a batch holds equal
captions, several pictures of one kind, and two views of one picture, which are positives of
each other's captions. Images of known kind find the phrases of their kind. And every label
of a source is asked for among the pictures of that source only, so that the look of a
survey is no answer. Embeddings of earlier batches are remembered and serve as further
negatives.
"""

import torch
from torch.nn import functional

__all__ = ['Losses', 'soft_targets']

#: Instead of minus infinity, which would become NaN where nothing is left.
_NEVER = -1e30


def soft_targets(batch, others, same_kind):
    """
    Say which texts of other pictures describe which images.

    Parameters
    ----------
    batch, others : dict of `torch.Tensor`
        ``picture``, ``caption`` and ``kind`` int64 (n,) and (m,); a kind is -1 if unknown.
    same_kind : float
        Weight of another picture of the same kind, against 1 for the own caption.

    Returns
    -------
    targets : `torch.Tensor` of float32, shape (n, m)
        Rows sum up to one where there is any.
    """
    equal = ((batch['caption'][:, None] == others['caption'][None])
             | (batch['picture'][:, None] == others['picture'][None]))
    related = (batch['kind'][:, None] == others['kind'][None]) & (batch['kind'][:, None] >= 0)
    targets = torch.where(equal, 1.0, related * same_kind)
    return targets / targets.sum(1, keepdim=True)


def _label_loss(logits, carried, same, own, per_label):
    """
    Compare pictures with labels of their own source, both ways.

    ``logits``, ``carried`` and ``same`` (source) are (m, c); of ``own`` pictures (m,) the label is
    wanted, among all of them the picture. Pictures without a label say nothing.
    """
    wanted = carried.float()
    labelled = wanted.sum(1) > 0
    asked = same & labelled[:, None]
    rows = labelled & own
    found = -(functional.log_softmax(logits.masked_fill(~same, _NEVER), 1) * wanted)
    by_picture = found.masked_fill(~same, 0).sum(1)[rows] / wanted.sum(1)[rows]
    wanted = wanted * asked
    columns = wanted.sum(0) > 0
    found = -(functional.log_softmax(logits.masked_fill(~asked, _NEVER), 0) * wanted)
    by_label = found.masked_fill(~asked, 0).sum(0)[columns] / wanted.sum(0)[columns]
    if not rows.any():
        return logits.new_zeros(())
    return (1 - per_label) * by_picture.mean() + per_label * by_label.mean()


class Losses:
    """
    Loss of a batch, with a memory of earlier ones.

    Parameters
    ----------
    pictures : `export.training.batches.Material`
        Training pictures.
    settings : dict
        Settings of the stage, see ``configs/default.toml``.
    device : `torch.device`
        Where to compute.

    Attributes
    ----------
    remembered : dict of `torch.Tensor`
        ``image`` float32 (m, d), ``picture``, ``caption`` and ``kind`` int64 (m,) of the last
        pictures, without gradients.
    """

    def __init__(self, pictures, settings, device):
        self._settings = settings
        self._vectors = torch.from_numpy(pictures.vectors).to(device)
        self._carried = torch.from_numpy(pictures.carried).to(device)
        self._sources = torch.from_numpy(pictures.sources).to(device)
        self._label_sources = torch.from_numpy(pictures.label_sources).to(device)
        self.remembered = {}

    def __call__(self, towers, images, batch):
        """
        Compute the loss of one batch and remember it.

        Parameters
        ----------
        towers : `export.training.fitting.Towers`
            Model.
        images : `torch.Tensor` of float32, shape (n, d)
            Embeddings of the pictures of the batch.
        batch : dict of `torch.Tensor`
            From `export.training.batches.Batches`.

        Returns
        -------
        value : `torch.Tensor`
            Scalar.
        """
        settings, count = self._settings, len(images)
        scale = towers.log_scale.exp().clamp(max=settings['scale_max'])
        own = {'image': images, **{name: batch[name] for name in ('picture', 'caption', 'kind')}}
        seen = {name: torch.cat([value, self.remembered[name]]) if self.remembered else value
                for name, value in own.items()}
        texts = towers.text(self._sentences(
            torch.cat([batch['caption'], batch['classes'], batch['asked']])))
        captions, classes, asked = texts.split([count, len(batch['classes']), len(batch['asked'])])
        with torch.no_grad():
            earlier = towers.text(self._sentences(seen['caption'][count:]))
        targets = soft_targets(own, seen, settings['same_kind'])
        value = (
            functional.cross_entropy(scale * images @ torch.cat([captions, earlier]).T, targets)
            + functional.cross_entropy(scale * captions @ seen['image'].T, targets)
        ) / 2
        known = batch['kind'] >= 0
        if known.any():
            value = value + settings['class_weight'] * functional.cross_entropy(
                scale * images[known] @ classes.T, batch['kind'][known], label_smoothing=0.05)
        if len(asked):
            sources = self._sources[seen['picture']]
            value = value + settings['label_weight'] * _label_loss(
                scale * seen['image'] @ asked.T, self._carried[seen['picture']],
                sources[:, None] == self._label_sources[None],
                torch.arange(len(sources), device=images.device) < count,
                settings['by_label'],
            )
        matrix = towers.text.matrix
        identity = torch.eye(*matrix.shape, device=matrix.device)
        value = value + settings['identity_weight'] * (matrix - identity).square().sum()
        self.remembered = {name: found.detach()[:settings['memory']]
                           for name, found in seen.items()} if settings['memory'] else {}
        return value

    def _sentences(self, rows):
        return self._vectors[rows].float()
