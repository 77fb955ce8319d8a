# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
What is known of each row before anything is fetched: where its image is, and its metadata.

A reference is one string, so that a table can hold it (``clip_source``) and a cache can be asked
for it. This is the grammar, which `parse` reads and nothing else does::

    reference = address | "mast:" URI | path | bucket | memory | link | colour
    address   = ("http://" | "https://") ...
    path      = absolute path of a file
    bucket    = protocol "://" ...                  where conf.fsspec_protocols has the protocol
    memory    = "sha256:" 32 hexadecimal digits     an array, by its content
    link      = "datalink:" address ["#circle=" ra "," dec "," radius] ["#else=" address]
    colour    = "rgb:" JSON list of three references, red first
"""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ..exceptions import visible
from ..status import OK, Reason

__all__ = ['ADDRESSES', 'ImageRefs', 'Ref', 'colour', 'image_key', 'is_path', 'is_same_file',
           'key_source', 'key_start',
           'link', 'memory', 'messages', 'parse', 'status_of', 'statuses']

ADDRESSES = ('https://', 'http://', 'mast:')
_LINK, _COLOUR, _MEMORY = 'datalink:', 'rgb:', 'sha256:'

_LINK_PARTS = re.compile(r'(?s)(?P<address>.*?)(?:#circle=(?P<circle>[-+.,\de]*))?'
                         r'(?:#else=(?P<fallback>.*))?')


@dataclass(frozen=True, slots=True)
class Ref:
    """
    A reference, taken apart.

    Attributes
    ----------
    kind : {'web', 'mast', 'path', 'memory', 'link', 'colour', 'other'}
        Rule of the grammar; ``'other'`` may be a bucket.
    address : str
        Of a link, the address of its DataLink document; of all others the reference itself.
    circle : tuple of str
        Right ascension, declination and radius in degrees of the cutout that a link asks for.
    fallback : str
        Address of an image for when a link leads to none.
    parts : tuple of str
        The three references of a colour composite; else the reference itself.
    """

    kind: str
    address: str
    circle: tuple[str, ...] = ()
    fallback: str = ''
    parts: tuple[str, ...] = ()


def parse(source: str) -> Ref:
    """
    Take a reference apart; text that breaks the grammar is of the kind ``'other'``.
    """
    if source.startswith(_LINK):
        found = _LINK_PARTS.fullmatch(source.removeprefix(_LINK)).groupdict(default='')
        circle = tuple(found['circle'].split(',')) if found['circle'].count(',') == 2 else ()
        return Ref('link', found['address'], circle, found['fallback'], (source,))
    if source.startswith(_COLOUR):
        parts = _colour_parts(source)
        return Ref('colour' if parts else 'other', source, parts=parts or (source,))
    kind = ('web' if source.startswith(('https://', 'http://')) else
            'mast' if source.startswith('mast:') else
            'memory' if source.startswith(_MEMORY) else
            'path' if is_path(source) else 'other')
    return Ref(kind, source, parts=(source,))


def _colour_parts(source: str) -> tuple[str, ...]:
    try:
        found = json.loads(source.removeprefix(_COLOUR))
    except (ValueError, RecursionError):
        return ()
    good = (isinstance(found, list) and len(found) == 3
            and all(isinstance(part, str) and not part.startswith(_COLOUR) for part in found))
    return tuple(found) if good else ()


def is_path(source: str) -> bool:
    """
    Whether a reference is a local file: those are absolute, and all others have a scheme.
    """
    return source.startswith(('/', '\\\\')) or source[1:3] in (':\\', ':/')


def link(address: str, *, circle: Sequence[float | str] = (), fallback: str = '') -> str:
    """
    Reference to the image that a DataLink document leads to; a circle is in degrees.

    >>> from astroclip_search.images.refs import link
    >>> link('https://archive.example/links?ID=7', circle=(10.5, -5.25, 0.01))
    'datalink:https://archive.example/links?ID=7#circle=10.5,-5.25,0.01'
    """
    source = _LINK + address.partition('#')[0]  # a fragment could pass for the parts below
    if len(circle):
        source += '#circle=' + ','.join(str(round(float(value), 6)) for value in circle)
    return source + (f'#else={fallback}' if fallback else '')


def colour(red: str, green: str, blue: str) -> str:
    """
    Reference to a colour composite of three FITS images.

    >>> from astroclip_search.images.refs import colour, parse
    >>> parse(colour('mast:HST/i.fits', 'mast:HST/r.fits', 'mast:HST/g.fits')).parts
    ('mast:HST/i.fits', 'mast:HST/r.fits', 'mast:HST/g.fits')
    """
    return _COLOUR + json.dumps([red, green, blue], ensure_ascii=False)


def memory(content: bytes, description: str) -> str:
    """
    Reference to an image in memory; the description tells equal bytes of different shape apart.
    """
    value = hashlib.sha256(description.encode())
    value.update(content)
    return f'{_MEMORY}{value.hexdigest()[:32]}'


def image_key(source: str) -> str:
    """
    Cache key of an image: the reference, and of a file also its times and size, so that an edited
    file is read anew.
    """
    if source.startswith(_COLOUR):
        parts = _colour_parts(source)
        return colour(*map(image_key, parts)) if parts else source
    if is_path(source):
        try:
            state = Path(source).stat()
        except (OSError, ValueError):  # the latter for a name that cannot be one
            return source
        # The first time can be set, and some programs that replace a file keep it; the second
        # cannot. No inode: on some network file systems it is another one after each mount.
        return f'{source}|{state.st_mtime_ns}|{state.st_ctime_ns}|{state.st_size}'
    return source


def key_start(source: str) -> str | None:
    """
    What every cache key of a file begins with, whatever becomes of the file; `None` if a reference
    needs none.
    """
    parts = _colour_parts(source) if source.startswith(_COLOUR) else ()
    if not parts:
        return f'{source}|' if is_path(source) else None
    first = next((i for i, part in enumerate(parts) if is_path(part)), None)
    return None if first is None else (
        _COLOUR + json.dumps(parts[:first + 1], ensure_ascii=False)[:-2] + '|')


def key_source(key: str) -> str:
    """
    The reference that a cache key is of.
    """
    if key.startswith(_COLOUR):
        parts = _colour_parts(key)
        return colour(*map(key_source, parts)) if parts else key
    return key.rsplit('|', 3)[0] if is_path(key) else key


def is_same_file(one: str, other: str) -> bool:
    """
    Whether two cache keys of one path are of the same content, as far as size and time tell: the
    time of a change of name or permissions does not count.
    """
    states = [key.split('|')[-3:] for key in (one, other)]
    return states[0][::2] == states[1][::2]


@dataclass(frozen=True)
class ImageRefs:
    """
    One entry a row, in columns, because a table may have a hundred thousand rows.

    Nothing here is ever changed: a step that knows more makes a new one with
    `dataclasses.replace`.

    Attributes
    ----------
    sources : sequence of str or None
        Reference to the image of each row; rows with the same one share the image.
    metadata : sequence of str
        The row's own words (target, title, classification), empty if it has none.
    reasons : mapping of int to tuple of Reason
        By row: why it is not worth a try, or a note on it. Most rows have no entry.
    objects : mapping of str to object
        Arrays and the like that are in memory, by reference.
    has_files : bool
        Whether a reference may be a path.
    has_links : bool
        Whether a reference may be a link.
    trusted : frozenset of str
        Hosts, with port, that the user has named: they may be on a private network.
    keys : mapping of str to str
        Cache keys by reference, for files at which nobody may look.
    own : mapping of int to str
        By row, the reference to the row's own image where ``sources`` has a colour composite.
    """

    sources: Sequence[str | None]
    metadata: Sequence[str]
    reasons: Mapping[int, tuple[Reason, ...]] = field(default_factory=dict)
    objects: Mapping[str, Any] = field(default_factory=dict)
    has_files: bool = True
    has_links: bool = False
    trusted: frozenset[str] = frozenset()
    own: Mapping[int, str] = field(default_factory=dict)
    keys: Mapping[str, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.sources)

    def first(self, n: int) -> 'ImageRefs':
        """
        The first rows alone.
        """
        return replace(
            self, sources=self.sources[:n], metadata=self.metadata[:n],
            reasons={row: several for row, several in self.reasons.items() if row < n},
            own={row: source for row, source in self.own.items() if row < n})

    def is_open(self, row: int) -> bool:
        """
        Whether the image of a row is worth a try.
        """
        return self.sources[row] is not None and not any(
            because.status != OK for because in self.reasons.get(row, ()))


def statuses(n: int, reasons: Mapping[int, Iterable[Reason]]) -> list[str]:
    """
    ``clip_status`` of ``n`` rows: of several reasons the first that is not ``OK`` counts.
    """
    found = [OK] * n
    for row, several in reasons.items():
        found[row] = status_of(several)
    return found


def status_of(reasons: Iterable[Reason]) -> str:
    """
    ``clip_status`` of a row with these reasons.
    """
    return next((because.status for because in reasons if because.status != OK), OK)


def messages(n: int, reasons: Mapping[int, Iterable[Reason]]) -> list[str]:
    """
    ``clip_message`` of ``n`` rows: the sentences of each, joined by semicolons.
    """
    found = [''] * n
    for row, several in reasons.items():
        found[row] = visible('; '.join(because.sentence for because in several)).replace('\n', ' ')
    return found
