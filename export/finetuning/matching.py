"""
How well pictures and captions of held-out proposals find each other, while a model is trained.

Pictures are seen whole. PAPERCLIP's training curves judge each from one random crop.
"""

import numpy as np
import torch

from export.finetuning.captioned import whole
from export.finetuning.contrastive import Contrastive, embed

__all__ = ['embed_pairs', 'match', 'normalise']

#: Pictures that are told apart at a time, in PAPERCLIP's training curves and here.
BATCH = 100


def normalise(pixels, preprocessing, device):
    """
    Turn pixels into what a model takes.

    Parameters
    ----------
    pixels : `torch.Tensor` of uint8, shape (n, 3, s, s)
        RGB.
    preprocessing : dict
        ``mean`` and ``std`` of the model, in units of full scale.
    device : `torch.device`
        Where the model is.

    Returns
    -------
    pixels : `torch.Tensor` of float32, shape (n, 3, s, s)
        On the device.
    """
    mean, std = (torch.tensor(preprocessing[name], device=device).view(3, 1, 1)
                 for name in ('mean', 'std'))
    return (pixels.to(device, non_blocking=True) / 255 - mean) / std


@torch.no_grad()
def embed_pairs(clip, pairs, *, batch_size=64, precision='fp32'):
    """
    Embed whole pictures, and captions from their beginning.

    Parameters
    ----------
    clip : `export.finetuning.pretrained.Clip`
        Model; it is in evaluation mode afterwards.
    pairs : `export.finetuning.captioned.Pairs`
        Pairs.
    batch_size : int, optional
        How many at a time.
    precision : {'fp32', 'bf16'}
        See `export.finetuning.contrastive.embed`.

    Returns
    -------
    images, texts : `torch.Tensor` of float32, shape (n, d)
        Unit vectors, on the CPU.
    """
    clip.model.eval()
    device = clip.model.logit_scale.device
    found = []
    for start in range(0, len(pairs), batch_size):
        rows = range(start, min(start + batch_size, len(pairs)))
        pixels = torch.stack([whole(pairs.picture(i), clip.preprocessing) for i in rows])
        tokens = clip.tokenizer([pairs.captions[i] for i in rows]).to(device)
        pixels = normalise(pixels, clip.preprocessing, device)
        vectors = embed(clip.model, pixels, tokens, precision)
        found.append([part.cpu() for part in vectors])
    return tuple(torch.cat(vectors) for vectors in zip(*found, strict=True))


def match(images, texts, groups, *, scale, bias=None, kind='softmax'):
    """
    Compute loss and retrieval accuracy.

    Parameters
    ----------
    images, texts : `torch.Tensor` of float32, shape (n, d)
        Unit vectors.
    groups : `numpy.ndarray` of int, shape (n,)
        Equal for pairs with the same words.
    scale, bias : float
        Of the logits.
    kind : {'softmax', 'sigmoid'}
        See `export.finetuning.contrastive.Contrastive`.

    Returns
    -------
    numbers : dict
        ``loss``, and ``top10``: the share of captions whose own picture is among the first tenth,
        both as means over batches of 100 in a fixed random order, as in PAPERCLIP's training curves
        (other than there, the loss does not count pictures of the same proposal as wrong);
        ``top10_captions``: the share of pictures whose caption is among the first tenth of all
        distinct captions. Chance is a tenth for both. Equal scores are in the worst order.
    """
    order = torch.from_numpy(np.random.default_rng(0).permutation(len(images)))
    groups = torch.from_numpy(np.asarray(groups))
    scale = torch.as_tensor(scale)
    losses, tops = [], []
    for rows in order.split(BATCH):
        if len(rows) < min(BATCH, len(order)):
            break  # of another size, with another chance
        loss = Contrastive(kind)(images[rows], texts[rows], scale, bias, groups[rows])
        losses.append(loss.item())
        scores = texts[rows] @ images[rows].T
        rank = (scores >= scores.diagonal()[:, None]).sum(1)
        tops.append((rank <= max(1, len(rows) // 10)).double().mean().item())
    distinct, first = np.unique(groups.numpy(), return_index=True)
    scores = images @ texts[first].T
    own = scores[torch.arange(len(scores)), np.searchsorted(distinct, groups.numpy())]
    rank = (scores >= own[:, None]).sum(1)
    near = rank <= max(1, len(distinct) // 10)
    return {'loss': float(np.mean(losses)), 'top10': float(np.mean(tops)),
            'top10_captions': near.double().mean().item()}
