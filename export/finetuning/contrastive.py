"""
The contrastive loss over a batch that may be larger than one process, or one pass, can hold.
"""

import torch
from open_clip.loss import ClipLoss
from torch import distributed
from torch.nn import functional

__all__ = ['Contrastive', 'backward', 'embed']


class Contrastive(ClipLoss):
    """
    Contrastive loss in which texts that are no wrong answers are not counted as such.

    All pictures of a proposal have the same words. Of the texts of a batch, those that are of the
    group of a picture without being its own are therefore left out, and so are pictures for a text.

    Parameters
    ----------
    kind : {'softmax', 'sigmoid'}
        The loss of CLIP, or that of SigLIP [1]_.
    rank, world_size : int, optional
        Which process this is, of how many. Every process has the loss of its own pictures and
        texts against those of all; the mean of their gradients is the gradient of the joint batch.
    masked : bool, optional
        Whether groups are looked at.

    References
    ----------
    .. [1] Zhai et al. 2023, https://arxiv.org/abs/2303.15343
    """

    def __init__(self, kind, *, rank=0, world_size=1, masked=True):
        super().__init__(local_loss=True, gather_with_grad=True, rank=rank, world_size=world_size)
        if kind not in ('softmax', 'sigmoid'):
            raise ValueError(f'loss = {kind!r}: choose softmax or sigmoid')
        self.kind = kind
        self.masked = masked

    def forward(self, images, texts, scale, bias, groups):
        """
        Compute the loss.

        Parameters
        ----------
        images, texts : `torch.Tensor` of float32, shape (n, d)
            Unit vectors of this process.
        scale, bias : `torch.Tensor`
            Of the logits; no bias is None.
        groups : `torch.Tensor` of int64, shape (n,)
            Equal for pairs with the same words.

        Returns
        -------
        value : `torch.Tensor`
            Scalar.
        """
        per_image, per_text = self.get_logits(images, texts, scale)
        own = self.get_ground_truth(images.device, len(images))
        related = groups[:, None] == self._gathered(groups)[None]
        if not self.masked:
            related = torch.zeros_like(related)
        related = related.scatter(1, own[:, None], False)
        if self.kind == 'softmax':
            return (functional.cross_entropy(per_image.masked_fill(related, -torch.inf), own)
                    + functional.cross_entropy(per_text.masked_fill(related, -torch.inf), own)) / 2
        signs = torch.full_like(per_image, -1).scatter(1, own[:, None], 1)
        logits = per_image if bias is None else per_image + bias
        each = functional.logsigmoid(signs * logits).masked_fill(related, 0)
        return -each.sum() / len(images)

    def _gathered(self, groups):
        if self.world_size == 1:
            return groups
        everyone = [torch.empty_like(groups) for _ in range(self.world_size)]
        distributed.all_gather(everyone, groups)
        return torch.cat(everyone)


def embed(model, pixels, tokens, precision):
    """
    Embed pictures and texts.

    Parameters
    ----------
    model : `torch.nn.Module`
        Model of open_clip.
    pixels : `torch.Tensor` of float32, shape (n, 3, s, s)
        Normalised pixels.
    tokens : `torch.Tensor` of int64, shape (m, length)
        Texts.
    precision : {'fp32', 'bf16'}
        With ``bf16`` the towers run in mixed precision.

    Returns
    -------
    images, texts : `torch.Tensor` of float32, shapes (n, d) and (m, d)
        Unit vectors.
    """
    with torch.autocast(pixels.device.type, torch.bfloat16, enabled=precision == 'bf16'):
        images, texts = model.encode_image(pixels), model.encode_text(tokens)
    return (functional.normalize(images.float(), dim=-1),
            functional.normalize(texts.float(), dim=-1))


def backward(model, parts, loss, *, precision='fp32', seed=0):
    """
    Compute the gradient of the loss over a whole batch, a part at a time.

    Several parts are first embedded without a gradient; that of the loss, by the embeddings of the
    whole batch, is then carried through the towers part by part (gradient cache [1]_). The gradient
    is that of one pass with the whole batch, for the memory of one part and a second pass forward.

    Parameters
    ----------
    model : `torch.nn.Module`
        Model of open_clip; gradients are added to those of its parameters.
    parts : list of (`torch.Tensor`, `torch.Tensor`, `torch.Tensor`)
        Normalised pixels, tokens and groups.
    loss : `Contrastive`
        Loss.
    precision : {'fp32', 'bf16'}
        See `embed`.
    seed : int, optional
        For what is random in a model, which has to be the same in both passes.

    Returns
    -------
    value : `torch.Tensor`
        The loss, without a gradient.

    References
    ----------
    .. [1] Gao et al. 2021, https://arxiv.org/abs/2101.06983
    """
    def embedded(i):
        torch.manual_seed(seed + i)
        return embed(model, *parts[i][:2], precision)

    def judged(images, texts):
        return loss(images, texts, model.logit_scale.exp(), model.logit_bias, groups)

    groups = torch.cat([part[2] for part in parts])
    if len(parts) == 1:
        value = judged(*embedded(0))
        value.backward()
        return value.detach()
    with torch.no_grad():
        cached = [torch.cat(vectors) for vectors in zip(*map(embedded, range(len(parts))),
                                                        strict=True)]
    cached = [vectors.requires_grad_() for vectors in cached]
    value = judged(*cached)
    value.backward()
    sizes = [len(part[2]) for part in parts]
    gradients = [vectors.grad.split(sizes) for vectors in cached]
    for i in range(len(parts)):
        torch.autograd.backward(embedded(i), [gradients[0][i], gradients[1][i]])
    return value.detach()
