"""
Training of the text map alone, on image embeddings that stay as they are.

Images cost a pass of their tower, texts a product with a matrix: once the tower is done, the map
sees every image and hundreds of phrases in each step. What is asked: captions among a batch; labels
by many phrases among all images of their source, and among near labels only; and that phrases for
one label are close to each other, and far from those of other labels.
"""

import copy
import math
import zlib
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional

from export.data.labels import near_kinds
from export.sky import KINDS, names, synonyms
from export.sky.captions import PLAIN, with_article

__all__ = ['Pictures', 'fit_text', 'framed']

#: Instead of minus infinity, which would become NaN where nothing is left.
_NEVER = -1e30
#: Frames around a phrase beside those of the synthetic sky.
_FRAMES = (*PLAIN, 'find {}', 'find {a}', 'looking for {a}', '{} please', 'pictures of {}',
           'images with {}', 'I want {a}', 'observations of {a}', 'examples of {}', 'any {}')


@dataclass(frozen=True)
class Pictures:
    """
    Embeddings of pictures and what is said of them.

    Parameters
    ----------
    images : `numpy.ndarray` of float32, shape (v, n, d)
        Unit vectors of v views of n pictures.
    captions : list of list of (str, float)
        Texts of each picture and the weight to draw each with.
    kinds : `numpy.ndarray` of int64, shape (n,)
        Index of the kind in `export.sky.KINDS`, -1 if unknown.
    sources : `numpy.ndarray` of str, shape (n,)
        Source of each picture.
    """

    images: np.ndarray
    captions: list
    kinds: np.ndarray
    sources: np.ndarray


def framed(phrase):
    """
    Put a phrase as somebody might type it.

    Parameters
    ----------
    phrase : str
        What is asked for.

    Returns
    -------
    text : str
        The phrase in a frame such as "pictures of", always the same.
    """
    frame = _FRAMES[zlib.crc32(phrase.encode()) % len(_FRAMES)]
    return frame.format(phrase, a=with_article(phrase))


class _Phrases:
    """Groups of phrases of several classes as rows of a bank, some of them framed."""

    def __init__(self, groups, bank, frames):
        texts = sorted({text for found in groups for group in found for text in group})
        chosen = [text for text in texts if zlib.crc32(text[::-1].encode()) < frames * 2**32]
        self._plain = dict(zip(texts, bank.add(texts), strict=True))
        variants = [framed(text) for text in chosen]
        self._framed = dict(zip(chosen, bank.add(variants), strict=True))
        self._groups = groups

    def draw(self, rng):
        """Draw a phrase for each class: int64 (c,)."""
        rows = []
        for groups in self._groups:
            group = groups[rng.integers(len(groups))]
            text = group[rng.integers(len(group))]
            rows.append(self._framed[text] if text in self._framed and rng.random() < 0.5
                        else self._plain[text])
        return np.array(rows, np.int64)

    def share(self, number, share, rng):
        """Draw a share of all phrases of a class, two at least: int64 (k,)."""
        texts = [text for group in self._groups[number] for text in group]
        count = max(2, round(share * len(texts)))
        return np.array([self._plain[texts[i]] for i in rng.integers(len(texts), size=count)],
                        np.int64)


def fit_text(text_map, pictures, classes, bank, *, scenes=None, log_scale=3.4, steps=200,
             batch_size=512, scene_share=0.25, ways=2, frames=0.2, rate=1e-3, decay=0.99,
             caption_weight=1.0, kind_weight=0.5, label_weight=1.0, near_weight=0.5,
             near_share=0.02, phrase_weight=0.25, identity_weight=0.01, same_kind=0.15,
             blend=0.5, seed=0):
    """
    Fit a text map to image embeddings.

    Parameters
    ----------
    text_map : `export.training.text.TextMap`
        Where to begin; it is not changed.
    pictures : `Pictures`
        Real pictures, of training only.
    classes : `export.data.labels.LabelClasses`
        Labels of these pictures.
    bank : `export.training.text.CaptionBank`
        Sentence embeddings of texts.
    scenes : `Pictures`, optional
        Scenes of the synthetic sky.
    log_scale : float, optional
        Logarithm of the factor on cosines at the beginning.
    steps, batch_size : int, optional
        Number of steps, and of captions in each.
    scene_share : float, optional
        Share of scenes among them; half of these come from one group of near kinds.
    ways : int, optional
        Phrases drawn for each label in a step.
    frames : float, optional
        Share of phrases that half the time stand in a frame such as "pictures of".
    rate, decay : float, optional
        Learning rate, and decay of the average of the weights.
    caption_weight, kind_weight, label_weight, near_weight, phrase_weight : float, optional
        Weights of the losses: captions, class phrases of the kinds, labels among all images of
        their source, labels among near labels, phrases among phrases.
    near_share : float, optional
        Share of all phrases of a label that is asked for among near labels in a step.
    identity_weight : float, optional
        Pull of the matrix to the identity.
    same_kind : float, optional
        Weight of another picture of the same kind, against 1 for the own caption.
    blend : float, optional
        Share of what was fitted in the weights that are returned; the rest is the beginning,
        which knows what these phrases do not ask for.
    seed : int, optional
        Equal seeds give equal maps.

    Returns
    -------
    fitted : `export.training.text.TextMap`
        The average of the last steps.
    """
    rng = np.random.default_rng(seed)
    phrases = _Phrases(classes.phrases, bank, frames)
    kinds = _Phrases([(names(kind), synonyms(kind)) for kind in KINDS], bank, frames)
    draws = [_Captions(pictures, bank)]
    if scenes is not None:
        draws.append(_Captions(scenes, bank))
    labels = _Labels(classes, pictures.sources)
    fitted = copy.deepcopy(text_map)
    learned = copy.deepcopy(text_map).train()
    scale = torch.nn.Parameter(torch.tensor(float(log_scale)))
    optimizer = torch.optim.AdamW(
        [{'params': list(learned.parameters())}, {'params': [scale]}], lr=rate, betas=(0.9, 0.98),
        weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: (
        min((step + 1) / max(0.05 * steps, 1), 1) * 0.5 * (1 + math.cos(math.pi * step / steps))))

    for step in range(steps):
        count = round(batch_size * scene_share) if scenes is not None else 0
        parts = [draws[0].real(batch_size - count, rng)]
        if count:
            parts.append(draws[1].near(count, rng))
        images, captions, kind = (np.concatenate(part) for part in zip(*parts, strict=True))
        asked = [phrases.draw(rng) for _ in range(ways)]
        near, owners = labels.draw_near(phrases, near_share, rng)
        rows = [captions, kinds.draw(rng), near, *asked]
        sentences = torch.from_numpy(bank.vectors(np.concatenate(rows)))
        embedded = learned(sentences).split([len(part) for part in rows])
        factor = scale.exp().clamp(max=80.0)
        images = torch.from_numpy(images)
        value = caption_weight * _caption_loss(factor * images @ embedded[0].T, captions, kind,
                                               same_kind)
        known = kind >= 0
        if known.any():
            value = value + kind_weight * functional.cross_entropy(
                factor * images[known] @ embedded[1].T, torch.from_numpy(kind[known]),
                label_smoothing=0.05)
        view = torch.from_numpy(pictures.images[rng.integers(len(pictures.images))])
        value = value + near_weight * labels.among_near(factor * embedded[2], owners, view)
        for texts in embedded[3:]:
            value = value + label_weight * labels.among_source(factor * texts, view) / ways
        if phrase_weight and ways > 1:
            value = value + phrase_weight * labels.among_phrases(
                factor * embedded[3] @ embedded[4].T)
        matrix = learned.matrix
        value = value + identity_weight * (matrix - torch.eye(*matrix.shape)).square().sum()
        optimizer.zero_grad()
        value.backward()
        torch.nn.utils.clip_grad_norm_(learned.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        with torch.no_grad():
            share = 1 - min(decay, (2 + step) / (11 + step))
            for a, b in zip(fitted.parameters(), learned.parameters(), strict=True):
                a.lerp_(b, share)
    with torch.no_grad():
        for a, b in zip(fitted.parameters(), text_map.parameters(), strict=True):
            a.lerp_(b, 1 - blend)
    return fitted.eval()


class _Captions:
    """Draws of pictures with one caption and one view each."""

    def __init__(self, pictures, bank):
        self._images, self._kinds = pictures.images, pictures.kinds
        # All at once: a bank looks through everything that it has each time.
        rows = bank.add([text for found in pictures.captions for text, _ in found])
        ends = np.cumsum([len(found) for found in pictures.captions])
        self._texts = np.split(rows, ends[:-1])
        self._chances = [np.cumsum([weight for _, weight in found]) for found in pictures.captions]
        said = np.array([len(found) > 0 for found in pictures.captions])
        _, inverse, counts = np.unique(pictures.sources, return_inverse=True, return_counts=True)
        # A source is drawn from by the root of its size.
        chance = np.where(said, counts[inverse] ** -0.5, 0.0)
        self._chance = np.cumsum(chance / chance.sum())
        members = {kind: np.flatnonzero(said & (self._kinds == i)) for i, kind in enumerate(KINDS)}
        groups = [np.concatenate([members[kind] for kind in group]) for group in near_kinds()]
        self._groups = [group for group in groups if len(group)]

    def _take(self, rows, rng):
        texts = []
        for row in rows:
            ends = self._chances[row]
            place = np.searchsorted(ends, rng.random() * ends[-1])
            texts.append(self._texts[row][min(place, len(ends) - 1)])
        views = rng.integers(len(self._images), size=len(rows))
        return self._images[views, rows], np.array(texts, np.int64), self._kinds[rows]

    def real(self, count, rng):
        """Draw by source."""
        rows = np.searchsorted(self._chance, rng.random(count)).clip(0, len(self._texts) - 1)
        return self._take(rows, rng)

    def near(self, count, rng):
        """Draw one half anywhere and the other from kinds that are taken for each other."""
        rows = np.searchsorted(self._chance, rng.random(count)).clip(0, len(self._texts) - 1)
        if self._groups:
            group = self._groups[rng.integers(len(self._groups))]
            rows[count // 2:] = group[rng.integers(len(group), size=count - count // 2)]
        return self._take(rows, rng)


def _caption_loss(logits, captions, kind, same_kind):
    """Cross-entropy both ways with soft targets; ``logits`` is images by captions."""
    equal = captions[:, None] == captions[None]
    related = (kind[:, None] == kind[None]) & (kind[:, None] >= 0)
    targets = torch.from_numpy(np.where(equal, 1.0, related * same_kind).astype(np.float32))
    targets = targets / targets.sum(1, keepdim=True)
    return (functional.cross_entropy(logits, targets)
            + functional.cross_entropy(logits.T, targets)) / 2


class _Labels:
    """Losses of labels, a source at a time: sources look unlike each other."""

    def __init__(self, classes, sources):
        owners = np.array([source for source, _ in classes.keys])
        self._blocks = []
        for source in np.unique(owners):
            block = np.flatnonzero(owners == source)
            members = (sources == source) & classes.carried[:, block].any(1)
            self._blocks.append(self._block(classes, block, members))
        self._near = []
        for group in classes.near:
            block = np.array(group)
            self._near.append(self._block(classes, block, classes.carried[:, block].any(1)))
        # Two labels of one image say nothing against each other.
        carried = classes.carried.astype(np.float32)
        shared = (carried.T @ carried) > 0
        np.fill_diagonal(shared, False)
        self._ignored = torch.from_numpy((owners[:, None] != owners[None]) | shared)

    @staticmethod
    def _block(classes, block, members):
        rows = np.flatnonzero(members)
        wanted = torch.from_numpy(classes.carried[np.ix_(rows, block)].T.astype(np.float32))
        return torch.from_numpy(block), torch.from_numpy(rows), wanted

    def among_source(self, texts, images):
        """Ask which images of its source carry a label, and which labels an image carries."""
        parts = [_both_ways(texts[block] @ images[rows].T, wanted)
                 for block, rows, wanted in self._blocks]
        per_label, per_image = (torch.cat(part) for part in zip(*parts, strict=True))
        return (per_label.mean() + per_image.mean()) / 2

    def draw_near(self, phrases, share, rng):
        """Draw phrases of all near labels: rows of the bank, and where those of each are."""
        known = sorted({int(i) for block, *_ in self._near for i in block})
        rows = [phrases.share(i, share, rng) for i in known]
        ends = np.cumsum([len(found) for found in rows])
        owners = {i: slice(end - len(found), end)
                  for i, found, end in zip(known, rows, ends, strict=True)}
        return np.concatenate([np.empty(0, np.int64), *rows]), owners

    def among_near(self, texts, owners, images):
        """Ask among the images of near labels only; every group counts the same."""
        values = []
        for block, rows, wanted in self._near:
            parts = [texts[owners[int(i)]] for i in block]
            wanted = torch.cat([row.expand(len(part), -1)
                                for row, part in zip(wanted, parts, strict=True)])
            per_label, per_image = _both_ways(torch.cat(parts) @ images[rows].T, wanted)
            values.append((per_label.mean() + per_image.mean()) / 2)
        return torch.stack(values).mean() if values else texts.new_zeros(())

    def among_phrases(self, logits):
        """Ask which of the other phrases of its source means the same; classes by classes."""
        logits = logits.masked_fill(self._ignored, _NEVER)
        wanted = torch.arange(len(logits))
        return (functional.cross_entropy(logits, wanted)
                + functional.cross_entropy(logits.T, wanted)) / 2


def _both_ways(logits, wanted):
    """Cross-entropy of each label (c,) among images, and of each image (n,) among labels."""
    per_label = -(functional.log_softmax(logits, 1) * wanted).sum(1) / wanted.sum(1)
    per_image = -(functional.log_softmax(logits, 0) * wanted).sum(0) / wanted.sum(0)
    return per_label, per_image
