"""
Pairs of pictures and captions in WebDataset shards, read in any order.

Shards are not unpacked: where a picture lies in its file is found once, so that which pairs make a
step, and how they are cut, depends on the seed and the number of the step alone. A run that is
resumed, or divided among processes, sees just what one that is not would have seen.
"""

import hashlib
import io
import json
import re
import tarfile
from pathlib import Path, PurePosixPath

import numpy as np
import torch
from PIL import Image

from export.data.pairs import MAX_SIDE

__all__ = ['Pairs', 'Views', 'passage', 'view', 'whole']

_FORMATS = {'.jpg': 'JPEG', '.jpeg': 'JPEG', '.png': 'PNG', '.webp': 'WEBP'}
_TURNS = (None, Image.Transpose.ROTATE_90, Image.Transpose.ROTATE_180, Image.Transpose.ROTATE_270)
_INTERPOLATIONS = {'bicubic': Image.Resampling.BICUBIC, 'bilinear': Image.Resampling.BILINEAR}


class Pairs:
    """
    The pairs of one side of a split.

    Parameters
    ----------
    folder : path-like
        Folder of ``*.tar`` as `export.data.shards` writes them: a picture, its caption in ``.txt``
        and, in ``.json``, the ``caption_group`` that pictures with the same words share. Without
        the last, equal captions are one group.

    Raises
    ------
    ValueError
        If there is no pair.
    """

    def __init__(self, folder):
        self.captions, self._groups, self._places = [], [], []
        for shard in sorted(Path(folder).glob('*.tar')):
            for members in _samples(shard):
                self._add(shard, members)
        if not self.captions:
            raise ValueError(f'{folder} has no shards with pairs: make them with `export shards`')
        self.groups = np.array([int.from_bytes(hashlib.sha256(name.encode()).digest()[:7])
                                for name in self._groups])

    def __len__(self):
        return len(self.captions)

    def _add(self, shard, members):
        picture = next((ending for ending in members if ending in _FORMATS), None)
        if picture is None or '.txt' not in members:
            return
        caption = members['.txt'].decode('utf-8').strip()
        about = json.loads(members.get('.json', b'{}'))
        self.captions.append(caption)
        self._groups.append(str(about.get('caption_group', caption)))
        self._places.append((shard, *members[picture], _FORMATS[picture]))

    def picture(self, i):
        """
        Read a picture.

        Parameters
        ----------
        i : int
            Number of the pair.

        Returns
        -------
        image : `PIL.Image.Image`
            RGB.

        Raises
        ------
        ValueError
            If a side exceeds 4096 pixels.
        """
        shard, start, size, kind = self._places[i]
        with open(shard, 'rb') as stream:
            stream.seek(start)
            content = io.BytesIO(stream.read(size))
        with Image.open(content, formats=(kind,)) as image:
            if max(image.size) > MAX_SIDE:
                raise ValueError(f'{shard.name}, byte {start}: {image.size} pixels are too many')
            return image.convert('RGB')


def _samples(shard):
    """Yield what members of one name hold: words, or for pictures where they are."""
    name, members = None, {}
    with tarfile.open(shard) as tar:
        for member in tar:
            path = PurePosixPath(member.name)
            if not member.isfile():
                continue
            if str(path.with_suffix('')) != name:
                if members:
                    yield members
                name, members = str(path.with_suffix('')), {}
            ending = path.suffix.lower()
            if ending in ('.txt', '.json'):
                members[ending] = tar.extractfile(member).read()
            else:
                members[ending] = (member.offset_data, member.size)
    if members:
        yield members


class Views(torch.utils.data.Dataset):
    """
    An endless stream of training views, in which epoch follows epoch.

    Parameters
    ----------
    pairs : `Pairs`
        Pairs.
    preprocessing : dict
        ``size`` and ``interpolation`` of the model.
    settings : dict
        Section ``data`` of the configuration.
    batch_size : int
        Pairs of a step, in all processes together.
    seed : int
        Of everything random.
    """

    def __init__(self, pairs, preprocessing, settings, *, batch_size, seed):
        self.pairs = pairs
        self.preprocessing = preprocessing
        self.settings = settings
        self.batch_size = batch_size
        self.seed = seed
        self._order = (None, None)

    def __getitem__(self, position):
        rng = self._random(0, position)
        image = view(self.pairs.picture(self._pair(position)), self.preprocessing, rng,
                     crop=self.settings['crop'])
        if self.settings['shuffled']:
            # Within a batch, as in PAPERCLIP, and other than in the epoch before.
            batch, place = divmod(position, self.batch_size)
            order = self._random(1, batch).permutation(self.batch_size)
            position = batch * self.batch_size + order[place]
        pair = self._pair(position)
        caption = self.pairs.captions[pair]
        if self.settings['captions'] == 'passages':
            caption = passage(caption, rng)
        return image, caption, int(self.pairs.groups[pair])

    def _pair(self, position):
        epoch, place = divmod(int(position), len(self.pairs))
        if self._order[0] != epoch:
            self._order = (epoch, self._random(2, epoch).permutation(len(self.pairs)))
        return int(self._order[1][place])

    def _random(self, purpose, number):
        return np.random.default_rng((self.seed, purpose, int(number)))


def view(image, preprocessing, rng, *, crop):
    """
    Make a training view: a part of the picture, and of nothing beyond it, turned and mirrored.

    Parameters
    ----------
    image : `PIL.Image.Image`
        RGB.
    preprocessing : dict
        ``size`` and ``interpolation`` of the model.
    rng : `numpy.random.Generator`
        Source of randomness.
    crop : (float, float)
        Bounds of the share of the area that is seen.

    Returns
    -------
    pixels : `torch.Tensor` of uint8, shape (3, s, s)
        RGB.
    """
    area = rng.uniform(*crop)
    width = min(1, np.sqrt(area) * np.exp(rng.uniform(-0.5, 0.5) * np.log(4 / 3)))
    height = min(1, area / width)
    width = area / height  # what would be higher than the picture is as much wider
    left, upper = rng.uniform(0, 1 - width), rng.uniform(0, 1 - height)
    scale = np.array([*image.size, *image.size])
    box = np.clip([left, upper, left + width, upper + height], 0, 1) * scale
    image = _resized(image, preprocessing, tuple(box))
    turn = _TURNS[rng.integers(4)]
    image = image if turn is None else image.transpose(turn)
    return _pixels(image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if rng.random() < 0.5
                   else image)


def whole(image, preprocessing):
    """
    Squash a whole picture to the square of the model.

    Parameters
    ----------
    image : `PIL.Image.Image`
        RGB.
    preprocessing : dict
        ``size`` and ``interpolation`` of the model.

    Returns
    -------
    pixels : `torch.Tensor` of uint8, shape (3, s, s)
        RGB.
    """
    return _pixels(_resized(image, preprocessing))


def _resized(image, preprocessing, box=None):
    size = preprocessing['size']
    size = (size, size) if isinstance(size, int) else tuple(size)[::-1]
    kind = _INTERPOLATIONS.get(preprocessing['interpolation'], Image.Resampling.BICUBIC)
    return image.resize(size, kind, box=box)


def _pixels(image):
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


def passage(text, rng, *, words=77):
    """
    Take a random run of whole sentences, as PAPERCLIP does from an abstract.

    Parameters
    ----------
    text : str
        Abstract.
    rng : `numpy.random.Generator`
        Source of randomness.
    words : int, optional
        Most words of it, unless a single sentence has more.

    Returns
    -------
    passage : str
        Of the abstract.
    """
    sentences = re.split(r'(?<=[.!?])\s+', text)
    start = int(rng.integers(len(sentences)))
    end, length = start + 1, len(sentences[start].split())
    while end < len(sentences) and (length := length + len(sentences[end].split())) <= words:
        end += 1
    return ' '.join(sentences[start:end])
