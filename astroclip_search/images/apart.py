# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Images are drawn here, in processes of their own or in this one.

What comes from strangers, and the user's own files, which mostly do, are decoded in a worker: the
content, a path or a part of a stream goes there, and pixels come back. Images that are in memory
as objects are drawn in this process.
"""

import io
import json
import logging
import os
import pickle
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property, lru_cache, partial
from pathlib import Path
from typing import IO, Any

import numpy as np
from PIL import Image

from ..exceptions import ImageError, one_line
from ..status import REASONS, STATUSES, Reason
from ..untrusted.serving import Ask, serve
from ..untrusted.workers import Job, Unavailable, Workers, n_cores
from . import preprocess
from .drawing import Drawing
from .geometry import Geometry, geometry_of, note_geometry
from .plane import Plane, ask_for_room
from .preprocess import Preprocessing
from .rgb import compose

__all__ = ['Decoder', 'Drawn', 'Order', 'main']

log = logging.getLogger('astroclip_search')

# A worker takes some 60 megabytes.
_MOST_WORKERS = 16

# Pixels of large images that all workers together decode at once.
_ROOM = 100_000_000

# Memory of a worker: four bytes of four colours for each pixel and a copy of that, what is read,
# and the libraries.
_PER_PIXEL, _PER_BYTE, _LEAST = 32, 4, 512 * 1024**2

# Bytes that are asked for at once of a file that the program has open.
_BLOCK = 1024**2

# Bytes of a local file that a slow disk gives in a second.
_READ = 20 * 1024**2

# A picture of more would not be asked for.
_MAX_SIDE = 100_000

_workers: Workers | None = None
_lock = threading.Lock()
_said: set[str] = set()


def _all_workers() -> Workers:
    global _workers  # noqa: PLW0603 - one for the whole process
    with _lock:
        if _workers is None:
            _workers = Workers(__name__, min(n_cores(), _MOST_WORKERS), _ROOM)
        return _workers


def _after_fork() -> None:
    global _workers, _lock  # noqa: PLW0603 - nobody releases the lock, and the workers are others'
    _lock = threading.Lock()
    if _workers is not None:
        _workers.forget()
        _workers = None


if hasattr(os, 'register_at_fork'):
    os.register_at_fork(after_in_child=_after_fork)


@dataclass(frozen=True)
class Order:
    """
    What is to be made of an image: the pictures of some drawings, or of the first of them the
    input of a model, and of the last a thumbnail, whose side of 0 means none.
    """

    drawings: tuple[Drawing, ...]
    preprocessing: Preprocessing | None = None
    thumbnail: int = 0

    def of(self, pictures: Sequence[Image.Image]) -> 'Drawn':
        """
        Make it of the pictures.
        """
        if self.preprocessing is None:
            return Drawn(pictures=tuple(pictures))
        return Drawn(preprocess.resize(pictures[0], self.preprocessing),
                     preprocess.thumbnail(pictures[-1], self.thumbnail) if self.thumbnail else b'')

    @cached_property
    def text(self) -> str:
        """
        The order in JSON.
        """
        return json.dumps(asdict(self))

    @classmethod
    @lru_cache(maxsize=16)
    def read(cls, text: str) -> 'Order':
        """
        The order that a text stands for.
        """
        data = json.loads(text)
        how = data['preprocessing']
        if how is not None:
            how = Preprocessing(tuple(how['size']), how['shortest_edge'], how['resample'],
                                tuple(how['mean']), tuple(how['std']))
        return cls(tuple(Drawing(**drawing) for drawing in data['drawings']), how,
                   data['thumbnail'])


@dataclass(frozen=True)
class Drawn:
    """
    What was made of an image: pictures, or the input of a model and a thumbnail.
    """

    pixels: np.ndarray | None = None  # (height, width, 3) uint8
    thumbnail: bytes = b''
    pictures: tuple[Image.Image, ...] = ()


class Decoder:
    """
    Draws the images of one call; closing it ends what is under way. With ``isolate`` an image may
    take so many seconds in a worker, and a local file one more for each 20 MB; the time of reading
    a stream does not count; at most ``n_workers``
    work, 0 means one for each core.
    """

    def __init__(self, *, isolate: bool = False, seconds: float = 30.0, n_workers: int = 0):
        self._seconds = seconds
        self._job: Job | None = _all_workers().job(n_workers) if isolate else None

    def close(self) -> None:
        """
        End what is under way.
        """
        if self._job is not None:
            self._job.close()

    def draw(self, image: Any, order: Order, *, is_foreign: bool = True) -> Drawn:
        """
        What is ordered, of a path, of content, or of an open stream; or of an object in memory,
        which is not foreign.
        """
        asked = self._asked('draw', image, order) if is_foreign else None
        if asked is not None:
            return self._pictured(order, *asked)
        return order.of([drawing.picture(again()) for drawing, again in _each(image, order)])

    def plane(self, image: Any, order: Order, *, is_foreign: bool = True) -> Any:
        """
        One colour of what is ordered, for `compose`.
        """
        asked = self._asked('plane', image, order) if is_foreign else None
        if asked is not None:
            return asked[1]
        return [drawing.numbers(again()) for drawing, again in _each(image, order)]

    def sky(self, image: Any, order: Order, pixels: np.ndarray, size: tuple[int, int], *,
            is_foreign: bool = True) -> np.ndarray:
        """
        Right ascension and declination in degrees, float64 (n, 2), of pixels (n, 2) of an image of
        this width and height.
        """
        asked = self._asked('sky', image, order, pixels=pixels.tolist(),
                            size=list(size)) if is_foreign else None
        if asked is None:
            (drawing, again), = _each(image, order)
            return drawing.sky(again, pixels, size)
        if len(asked[1]) != 8 * pixels.size:
            raise ImageError('decoding_ended')
        found = np.frombuffer(asked[1], '<f8').reshape(pixels.shape)
        return np.where((found[:, :1] >= 0) & (found[:, :1] < 360) & (abs(found[:, 1:]) <= 90),
                        found, np.nan)

    def wcs(self, image: Any, order: Order, *, is_foreign: bool = True) -> str:
        """
        The WCS of an image as the text of a FITS header, without distortions that are tables.
        """
        asked = self._asked('wcs', image, order) if is_foreign else None
        if asked is None:
            (drawing, again), = _each(image, order)
            return drawing.wcs(again())
        return asked[1].decode('ascii', 'replace')

    def cut(self, image: Any, order: Order, box: Sequence[float], *,
            is_foreign: bool = True) -> bytes | None:
        """
        A part of an image, x0, y0, x1, y1 in its pixels, as a FITS file; `None` of a bitmap.
        """
        asked = self._asked('cut', image, order, box=list(map(float, box))) if is_foreign else None
        if asked is None:
            (drawing, again), = _each(image, order)
            return drawing.part(again, box)
        return asked[1] or None

    def compose(self, planes: Sequence[Any], order: Order) -> Drawn:
        """
        What is ordered, of the three colours that `plane` has given.
        """
        if not any(isinstance(plane, bytes) for plane in planes):
            return order.of([compose(of_one) for of_one in zip(*planes, strict=True)])
        # Some of the images were in memory.
        packed = [plane if isinstance(plane, bytes) else _packed(plane) for plane in planes]
        message = {'do': 'compose', 'lengths': list(map(len, packed)), 'order': order.text}
        try:
            # Where there were workers a moment ago, they are asked again.
            return self._pictured(order, *self._send(
                self._job or _all_workers().job(), message, b''.join(packed), order,
                self._seconds))
        except Unavailable as error:
            raise ImageError('decoding_ended') from error

    def _asked(self, what: str, image: Any, order: Order,
               **further: Any) -> tuple[dict[str, Any], bytes] | None:
        """
        What a worker has made; `None` if images are drawn in this process.
        """
        job = self._job
        if job is None:
            return None
        message: dict[str, Any] = {'do': what, 'order': order.text, **further}
        content = b''
        stream: Any = None
        seconds = self._seconds
        if isinstance(image, str | Path):
            message['path'] = str(image)
            seconds += _size(image) // _READ
        elif isinstance(image, io.IOBase):
            message['stream'] = _length(image)
            stream = image
        else:
            content = image
        try:
            return self._send(job, message, content, order, seconds, stream)
        except Unavailable as error:
            self._give_up(error)
            return None

    @staticmethod
    def _send(job: Job, message: dict[str, Any], content: bytes, order: Order, seconds: float,
              stream: IO[bytes] | None = None) -> tuple[dict[str, Any], bytes]:
        widest = order.drawings[0]
        memory = _LEAST + _PER_PIXEL * widest.max_pixels + _PER_BYTE * widest.max_bytes
        answer, given = job.ask(message, content, seconds=seconds, memory=memory, stream=stream)
        if 'failed' in answer:
            raise ImageError(_reason(answer['failed'], memory))
        return answer, given

    @staticmethod
    def _pictured(order: Order, answer: dict[str, Any], given: bytes) -> Drawn:
        """
        What a worker has made, if it is of the shape that was ordered.
        """
        sizes = answer.get('sizes')
        if not (isinstance(sizes, list) and all(
                isinstance(size, list) and len(size) == 2 and all(
                    isinstance(n, int) and 0 < n <= _MAX_SIDE for n in size) for size in sizes)):
            raise ImageError('decoding_ended')
        ends = np.cumsum([0] + [3 * width * height for width, height in sizes]).tolist()
        if order.preprocessing is not None:
            height, width = order.preprocessing.size
            if sizes != [[width, height]] or len(given) < ends[-1]:
                raise ImageError('decoding_ended')
            pixels = np.frombuffer(given, np.uint8, ends[-1]).reshape(height, width, 3)
            return Drawn(pixels, given[ends[-1]:])
        try:
            geometries = list(map(Geometry.read, answer.get('geometries', ())))
        except (TypeError, ValueError) as error:
            raise ImageError('decoding_ended') from error
        if not len(sizes) == len(geometries) == len(order.drawings) or len(given) != ends[-1]:
            raise ImageError('decoding_ended')
        return Drawn(pictures=tuple(
            note_geometry(Image.frombytes('RGB', tuple(size), given[start:end]), geometry)
            for size, start, end, geometry in zip(sizes, ends, ends[1:], geometries,
                                                  strict=False)))

    def _give_up(self, error: Unavailable) -> None:
        """
        Go on in this process where no other can be started, and say so once.
        """
        self._job = None
        with _lock:
            if 'unavailable' in _said:
                return
            _said.add('unavailable')
        log.warning('Images are decoded in this process, without limits of time and memory, since '
                    'no other can be started (%s). conf.isolate = False says that this is meant.',
                    one_line(error))


def _each(image: Any, order: Order) -> Iterator[tuple[Drawing, Callable[[], Any]]]:
    """
    Each drawing, and what gives it the image anew: who reads a stream closes it.
    """
    again: Callable[[], Any] = lambda: image  # noqa: E731 - it may become another one
    if isinstance(image, io.IOBase):
        length = _length(image)

        def read(_what: str, place: int, n: int) -> bytes:
            image.seek(place)
            return image.read(n)

        again = partial(_opened, length, read)
    return ((drawing, again) for drawing in order.drawings)


def _size(path: str | Path) -> int:
    try:
        return os.stat(path).st_size
    except (OSError, ValueError):  # what is wrong with it is told where it is read
        return 0


def _length(stream: Any) -> int:
    return int(stream.seek(0, io.SEEK_END))


def _reason(said: Any, memory: int) -> Reason:
    """
    The reason that a worker gives, which may be damaged.
    """
    if said == 'memory':
        return ImageError('decoding_memory', limit=memory).because
    if not (isinstance(said, list) and len(said) == 3 and all(isinstance(part, str)
                                                              for part in said)
            and said[0] in REASONS and said[1] in STATUSES):
        return ImageError('decoding_ended').because
    return Reason(said[0], said[1], one_line(said[2], 1000))


# ---- in a worker -------------------------------------------------------------------------


def main(shared: int | None, way: int | None) -> None:
    """
    What a worker does.
    """
    # Libraries warn of what is said in the reason as well.
    warnings.simplefilter('ignore')
    serve(_perform, shared, way)


def _perform(task: dict[str, Any], content: bytes, ask: Ask) -> tuple[dict[str, Any], bytes]:
    ask_for_room(lambda n_pixels: ask('room', n_pixels, 0))
    try:
        order = Order.read(task['order'])
        if task['do'] == 'compose':
            return _answer(order.of(_composed(content, task['lengths'])))
        image: Any = content
        if 'path' in task:
            image = task['path']
        elif 'stream' in task:
            image = _opened(task['stream'], ask)
        if task['do'] == 'plane':
            return {}, _packed([drawing.numbers(again()) for drawing, again in _each(image, order)])
        if task['do'] == 'wcs':
            (drawing, again), = _each(image, order)
            return {}, drawing.wcs(again()).encode('ascii', 'replace')
        if task['do'] == 'cut':
            (drawing, again), = _each(image, order)
            return {}, drawing.part(again, task['box']) or b''
        if task['do'] == 'sky':
            (drawing, again), = _each(image, order)
            found = drawing.sky(again, np.array(task['pixels'], float).reshape(-1, 2),
                                tuple(task['size']))
            return {}, found.astype('<f8').tobytes()
        return _answer(order.of([drawing.picture(again())
                                 for drawing, again in _each(image, order)]))
    except Exception as error:
        if _is_of_memory(error):
            return {'failed': 'memory', 'tired': True}, b''
        if isinstance(error, ImageError):
            return {'failed': list(error.because)}, b''
        return {'failed': list(ImageError('unexpected', error=one_line(
            f'{type(error).__name__}: {error}')).because)}, b''


def _is_of_memory(error: BaseException | None) -> bool:
    while error is not None and not isinstance(error, MemoryError):
        error = error.__cause__ or error.__context__
    return error is not None


def _answer(drawn: Drawn) -> tuple[dict[str, Any], bytes]:
    if drawn.pixels is not None:
        height, width = drawn.pixels.shape[:2]
        return {'sizes': [[width, height]]}, drawn.pixels.tobytes() + drawn.thumbnail
    return ({'sizes': [list(picture.size) for picture in drawn.pictures],
             'geometries': [geometry_of(picture).numbers for picture in drawn.pictures]},
            b''.join(picture.tobytes() for picture in drawn.pictures))


def _packed(planes: Sequence[Plane]) -> bytes:
    """
    Planes for another worker: the program itself never takes them out.
    """
    found = []
    for plane in planes:
        wcs = plane.wcs()
        try:
            pickle.dumps(wcs)
        # A coordinate system that cannot be written is none.
        except Exception:
            wcs = None
        found.append((plane.data, plane.step, wcs, plane.shape))
    return pickle.dumps(found)


def _composed(content: bytes, lengths: Sequence[int]) -> list[Image.Image]:
    bands, start = [], 0
    for length in lengths:
        found = pickle.loads(content[start:start + length])  # noqa: S301 - of another worker
        bands.append([Plane(data, step, partial(lambda wcs: wcs, wcs), shape)
                      for data, step, wcs, shape in found])
        start += length
    return [compose(of_one) for of_one in zip(*bands, strict=True)]


def _opened(length: int, ask: Ask) -> io.BufferedReader:
    return io.BufferedReader(_Stream(length, ask), _BLOCK)


class _Stream(io.RawIOBase):
    """
    A file that somebody else has open.
    """

    mode = 'rb'  # astropy asks

    def __init__(self, length: int, ask: Ask):
        self._length, self._ask, self._place = length, ask, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: self._length}[whence]
        self._place = max(0, start + offset)
        return self._place

    def tell(self) -> int:
        return self._place

    def readinto(self, buffer: Any) -> int:
        n = min(len(buffer), max(0, self._length - self._place))
        found = self._ask('read', self._place, n) if n else b''
        buffer[:len(found)] = found
        self._place += len(found)
        return len(found)
