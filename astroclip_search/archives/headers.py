# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Headers of the user's own files and objects -> columns: of what, where on the sky, by what and when.

Of a file only headers are read, and of these only the cards that are asked for. What is damaged or
missing leaves a value masked, and never raises or warns.
"""

import bz2
import contextlib
import datetime
import functools
import gzip
import io
import math
import os
import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from astropy import units as u
from astropy.table import MaskedColumn
from PIL import Image

from ..exceptions import one_line
from ..images import avm, roman
from ..images.refs import is_path
from ..untrusted.files import open_regular
from .centres import (
    Centre,
    Get,
    Value,
    by_keywords,
    by_wcs,
    is_elsewhere,
    middle,
    number,
    of_image,
    to_icrs,
)
from .columns import text_array

__all__ = ['Facts', 'as_columns', 'of_files', 'of_objects']

_BLOCK, _CARD = 2880, 80

_BUFFER = 10 * _BLOCK  # most headers

# Bytes of headers, and of what is unpacked to reach one.
_MOST = 1024**2

_MOST_HDUS = 100

_LONGEST = 2000  # letters of a text that goes on in further cards

_VALUE = re.compile(r"= *(?:'(?P<text>(?:[^']|'')*)'|(?P<number>[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)"
                    r"(?:[EDed][-+]?[0-9]+)?) *(?:/|$)|(?P<truth>[TF]) *(?:/|$))")
_CONTINUED = re.compile(r"CONTINUE  *'((?:[^']|'')*)'")
_HIERARCH = re.compile('HIERARCH +([^=]*?) *=')

_TARGETS = ('OBJECT', 'TARGNAME', 'TARGPROP', 'TARGET', 'ESO OBS TARG NAME', 'FIELD')
_TITLES = ('TITLE', 'OBSTITLE', 'PROPTTL1')
_FILTERS = (('FILTER', 'PUPIL'), ('FILTER1', 'FILTER2', 'FILTER3'), ('FILTNAM1', 'FILTNAM2'),
            ('BAND',), ('ESO INS FILT1 NAME',))
_STARTS = ('MJD-OBS', 'MJD-BEG', 'EXPSTART')
# Not EXPOSURE, which is in seconds, in minutes (DSS) or in days (TESS).
_EXPOSURES = ('EXPTIME', 'XPOSURE', 'TEXPTIME')

# A frame, not what is on it.
_NO_TARGET = frozenset(
    'acq any arc bias calib calibration cal comp dark data default dome domeflat field flat '
    'flatfield focus frame image lamp light na nan no none noname null obj object science skyflat '
    'sky snapshot std target tbd test unavailable undefined unknown unnamed wave xxx zero'.split())

_FILE_NAME = re.compile(r'\S*\.[a-z]{3,4}', re.IGNORECASE)

_NO_FILTER = re.compile('CLEAR|OPEN|EMPTY|NONE|UNKNOWN|UNDEFINED|NO[ _]?FILTER|N/?A$|AIR$|BLANK',
                        re.IGNORECASE)

_PUPIL_FILTER = re.compile(r'F\d')  # others are grisms, masks and lenses

_MJD_0 = datetime.datetime(1858, 11, 17)

_TOGETHER = 64  # files that a thread reads in one go

_N_THREADS = 8


@dataclass(frozen=True, slots=True)
class Facts:
    """
    What is known of one image; empty, NaN or None where it is not.
    """

    target: str = ''
    title: str = ''
    facility: str = ''
    instrument: str = ''
    filters: str = ''
    start: float = math.nan  # MJD
    exposure: float = math.nan  # s
    centre: Centre | None = None


_NOTHING = Facts()


def of_files(paths: Sequence[str | None]) -> list[Facts]:
    """
    What the headers of files say; nothing is fetched for those of object stores.
    """
    parts = [paths[i:i + _TOGETHER] for i in range(0, len(paths), _TOGETHER)]
    workers = ThreadPoolExecutor(min(_N_THREADS, len(parts) or 1),
                                 thread_name_prefix='astroclip-headers')
    try:
        return [facts for part in workers.map(lambda part: list(map(_of_file, part)), parts)
                for facts in part]
    finally:  # an interruption does not wait for slow disks
        workers.shutdown(wait=False, cancel_futures=True)


def of_objects(items: Sequence[Any]) -> list[Facts]:
    """
    What the headers of HDUs, HDULists, NDData and the like say, of paths among them and of files
    that were read into memory.
    """
    return [_of_object(item) for item in items]


def as_columns(facts: Sequence[Facts]) -> dict[str, MaskedColumn]:
    """
    Columns of those facts that are known of some image, under the names of ObsCore.
    """
    ra, dec = to_icrs([fact.centre for fact in facts])
    columns = {
        'target_name': _words([fact.target for fact in facts]),
        'obs_title': _words([fact.title for fact in facts]),
        's_ra': _numbers(ra, u.deg, '.5f'),
        's_dec': _numbers(dec, u.deg, '.5f'),
        'facility_name': _words([fact.facility for fact in facts]),
        'instrument_name': _words([fact.instrument for fact in facts]),
        'filters': _words([fact.filters for fact in facts]),
        't_min': _numbers([fact.start for fact in facts], u.day, '.5f'),
        't_exptime': _numbers([fact.exposure for fact in facts], u.s)}
    return {name: column for name, column in columns.items() if not np.all(column.mask)}


def _words(values: list[str]) -> MaskedColumn:
    return MaskedColumn(text_array(values), mask=[not value for value in values])


def _numbers(values: Any, unit: u.UnitBase, form: str | None = None) -> MaskedColumn:
    values = np.asarray(values, float)
    return MaskedColumn(values, mask=np.isnan(values), unit=unit, format=form)


def _of_file(path: str | None) -> Facts:
    """
    What a file says, if it is one of this machine; what waits for a writer is none.
    """
    if path is None or not is_path(path):
        return _NOTHING
    # Why it cannot be read is told where its picture is drawn.
    try:
        state = os.stat(path)
        return _read(path, state.st_mtime_ns, state.st_size)
    except Exception:
        return _NOTHING


@functools.lru_cache(maxsize=20_000)
def _read(path: str, _changed: int, _size: int) -> Facts:
    """
    What a file in this state says: a folder is mostly asked for more than once.
    """
    with open_regular(path, buffering=_BUFFER) as stream:
        return _of_stream(stream)


def _of_stream(stream: IO[bytes]) -> Facts:
    tags = avm.keywords(stream)
    if tags is not None:
        return _facts([tags.get], of_image(tags.get))
    stream.seek(0)
    start = stream.read(5)
    stream.seek(0)
    if start == b'#ASDF':
        return _of_hdus([_Header(roman.header(stream))])
    packed = start.startswith(b'\x1f\x8b'), start[:3] == b'BZh'
    content: Any = (gzip.GzipFile(fileobj=stream) if packed[0] else
                    bz2.BZ2File(stream) if packed[1] else stream)
    return _of_hdus(list(_headers(content, seekable=not any(packed))))


def _headers(stream: IO[bytes], *, seekable: bool) -> Iterator['_Cards']:
    """
    The headers of a FITS file, as far as they may be read.
    """
    left, place = _MOST, 0
    for _ in range(_MOST_HDUS):
        raw, ends = b'', False
        while not ends:
            block = stream.read(_BLOCK)
            raw += block
            left -= len(block)
            if len(block) < _BLOCK or left < 0 or not raw.startswith((b'SIMPLE  =', b'XTENSION')):
                return
            ends = b'END     ' in block and any(block.startswith(b'END     ', i)
                                                for i in range(0, _BLOCK, _CARD))
        cards = _Cards(raw)
        yield cards
        n_bytes = cards.n_data
        if n_bytes < 0:
            return
        place += len(raw) + n_bytes
        if seekable:
            stream.seek(place)
        elif n_bytes > left:
            return
        else:
            left -= len(stream.read(n_bytes))


class _Cards:
    """
    The cards of a header, which are taken apart when they are asked for.
    """

    def __init__(self, raw: bytes):
        self._raw = text = raw.decode('latin-1')
        # The first card of a name counts.
        self._places = {text[i:i + 8].rstrip(): i for i in range(len(text) - _CARD, -1, -_CARD)}

    def get(self, key: str) -> Value:
        """
        The value of a keyword, of a compressed image that of the image.
        """
        if key.startswith('NAXIS') and self.is_compressed:
            key = f'Z{key}'
        return self._get(key)

    def _get(self, key: str) -> Value:
        place = (self._places if len(key) <= 8 else self._long_names).get(key)
        if place is None:
            return None
        start = place + 8 if len(key) <= 8 else self._raw.find('=', place)
        match = _VALUE.match(self._raw, start, place + _CARD)
        if match is None:
            return None
        if (plain := match['number']) is not None:
            return float(plain.upper().replace('D', 'E'))
        return match['truth'] == 'T' if match['truth'] else self._text(match['text'], place)

    @functools.cached_property
    def _long_names(self) -> dict[str, int]:
        if 'HIERARCH' not in self._places:
            return {}
        return {match[1]: i for i in range(len(self._raw) - _CARD, -1, -_CARD)
                if (match := _HIERARCH.match(self._raw, i, i + _CARD))}

    def _text(self, found: str, place: int) -> str:
        # It goes on in the next card, of which there may be thousands.
        while len(found) < _LONGEST and found.rstrip().endswith('&'):
            place += _CARD
            match = _CONTINUED.match(self._raw, place, place + _CARD)
            if match is None:
                break
            found = found.rstrip()[:-1] + match[1]
        # By the standard it is ASCII.
        if not found.isascii():
            with contextlib.suppress(UnicodeDecodeError):
                found = found.encode('latin-1').decode('utf-8')
        return found.replace("''", "'").strip()

    @functools.cached_property
    def is_compressed(self) -> bool:
        """
        Whether it is a table that holds an image.
        """
        return self._get('ZIMAGE') is True

    @property
    def is_image(self) -> bool:
        """
        Whether it has an image of at least two axes.
        """
        return ((self._get('XTENSION') in (None, 'IMAGE') or self.is_compressed)
                and min(self.shape, default=0) >= 1)

    @property
    def shape(self) -> tuple[float, ...]:
        """
        Pixels along the first two axes, empty if there is only one.
        """
        return tuple(number(self.get(f'NAXIS{i}')) for i in (1, 2)
                     ) if number(self.get('NAXIS')) >= 2 else ()

    @property
    def n_data(self) -> int:
        """
        Bytes up to the next header, negative if the header does not tell.
        """
        n_axes, bits, groups, more = (
            default if math.isnan(value := number(self._get(key))) else value
            for key, default in (('NAXIS', 0), ('BITPIX', 8), ('GCOUNT', 1), ('PCOUNT', 0)))
        if not 0 <= n_axes <= 999:
            return -1
        sides = [number(self._get(f'NAXIS{i}')) for i in range(1, int(n_axes) + 1)]
        if sides[:1] == [0] and self._get('GROUPS') is True:
            del sides[0]
        n_bytes = abs(bits) / 8 * groups * (more + math.prod(sides)) if sides else 0
        if not 0 <= n_bytes < 2**60:  # nor NaN
            return -1
        return -(-int(n_bytes) // _BLOCK) * _BLOCK


def _of_object(item: Any) -> Facts:
    """
    What an object, a file in memory or a path says.
    """
    # What is wrong with it is told when it is drawn.
    try:
        if isinstance(item, str | Path):
            return _of_file(os.path.abspath(os.path.expanduser(item)))
        if isinstance(item, bytes | bytearray):
            return _of_stream(io.BytesIO(item))
        if isinstance(item, Image.Image):
            return _NOTHING
        if isinstance(item, list):
            return _of_hdus([_Header(hdu.header) for hdu in item])
        header = _Header(getattr(item, 'header', None) or getattr(item, 'meta', None) or {})
        wcs = getattr(item, 'wcs', None)
        return _facts([header.get], by_wcs(wcs, item.data.shape) if wcs is not None
                      else of_image(header.get))
    except Exception:
        return _NOTHING


class _Header:
    """
    A header of astropy's, or a dictionary in place of one.
    """

    def __init__(self, header: Any):
        self._header = header

    def get(self, key: str) -> Value:
        """
        The value of a keyword.
        """
        try:
            value = self._header.get(key)
        except Exception:  # a damaged card
            return None
        return value if isinstance(value, str | bool | int | float) else None

    @property
    def is_image(self) -> bool:
        """
        Whether it has an image of at least two axes.
        """
        return (self.get('XTENSION') in (None, 'IMAGE') or self.get('ZIMAGE') is True) and (
            min(self.shape, default=0) >= 1)

    @property
    def shape(self) -> tuple[float, ...]:
        """
        Pixels along the first two axes, empty if there is only one.
        """
        return tuple(number(self.get(f'NAXIS{i}')) for i in (1, 2)
                     ) if number(self.get('NAXIS')) >= 2 else ()


def _of_hdus(headers: Sequence[Any]) -> Facts:
    """
    What the headers of one FITS file say: where the image is, and else what the primary one has.
    """
    # The aperture of a target pixel file is no image, nor always where it says that it is.
    images = {header: name for header in headers if header.is_image
              and (name := str(header.get('EXTNAME')).strip().upper()) != 'APERTURE'}
    chips = [header for header, name in images.items() if name == 'SCI'] or list(images)
    centres = [centre for header in chips if header.shape == chips[0].shape
               and (centre := of_image(header.get)) is not None]
    described = chips[:1] or headers[1:2]
    return _facts([header.get for header in dict.fromkeys([*described, *headers[:1]])],
                  middle(centres))


def _facts(gets: Sequence[Get], centre: Centre | None) -> Facts:
    """
    What some headers say, that of the image first.
    """
    if centre is None and not any(map(is_elsewhere, gets)):
        centre = next((found for get in gets if (found := by_keywords(get)) is not None), None)

    def word(key: str, longest: int = 100) -> str:
        return next((text for get in gets if isinstance(value := get(key), str)
                     and (text := _clean(value, longest))), '')

    facility, instrument = word('TELESCOP'), word('INSTRUME')
    if detector := word('DETECTOR'):
        # ACS/WFC, as MAST writes it; detectors of others are numbers.
        instrument = (f'{instrument}/{detector}' if instrument and facility.startswith('HST')
                      else instrument or detector)
    return Facts(
        target=next((text for key in _TARGETS if _is_target(text := word(key))), ''),
        title=next((text for key in _TITLES if (text := word(key, 300))), ''),
        facility=facility, instrument=instrument, filters=_filters(word), centre=centre,
        start=_start(gets), exposure=_exposure(gets))


def _clean(value: str, longest: int) -> str:
    """
    One line of text without what commands a terminal; empty if there is no letter in it.
    """
    text = one_line(value, longest).strip() if value.strip() else ''
    return text if any(map(str.isalnum, text)) else ''


def _is_target(text: str) -> bool:
    """
    Whether a name is one of something on the sky: numbers and single letters do not tell.
    """
    words = [word for word in re.findall(r'[^\W\d_]+', text.lower().replace('n/a', 'na'))
             if len(word) > 1]
    return not (not text or _FILE_NAME.fullmatch(text)
                or (words and _NO_TARGET.issuperset(words)))


def _filters(word: Any) -> str:
    for keys in _FILTERS:
        found = [text for key in keys if (text := word(key)) and not _NO_FILTER.match(text)
                 and (key != 'PUPIL' or _PUPIL_FILTER.match(text))]
        if found:
            return ';'.join(dict.fromkeys(found))
    return ''


def _start(gets: Sequence[Get]) -> float:
    """
    When the observation began, as MJD.
    """
    for get in gets:
        for key in _STARTS:
            if 0 < (value := number(get(key))) < 1e5:
                return value
    for get in gets:
        for key in ('DATE-OBS', 'DATE-BEG'):
            date = str(get(key) or '').strip()
            if re.fullmatch(r'\d\d/\d\d/\d\d', date):  # before 1999
                date = f'19{date[6:]}-{date[3:5]}-{date[:2]}'
            if 'T' not in date:
                date += 'T' + (str(get('TIME-OBS') or '').strip() or '00:00:00')
            try:
                began = datetime.datetime.fromisoformat(date).replace(tzinfo=None)
            except ValueError:
                continue
            if began > _MJD_0:
                return (began - _MJD_0) / datetime.timedelta(days=1)
    return math.nan


def _exposure(gets: Sequence[Get]) -> float:
    return next((value for key in _EXPOSURES for get in gets
                 if 0 < (value := number(get(key))) < 1e9), math.nan)
