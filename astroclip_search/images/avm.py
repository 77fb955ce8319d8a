# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Tags of Astronomy Visualization Metadata (AVM 1.2) in JPEG, PNG, TIFF and WebP -> FITS keywords.

The tags are XMP, which is XML. Nothing of it is parsed but the few values that are looked for, and
no more of a file is read than its marked parts up to that one.
"""

import html
import re
import struct
from collections.abc import Callable
from typing import IO, Any

__all__ = ['keywords', 'wcs']

Value = str | bool | int | float | None

_MOST = 256 * 1024  # bytes of a packet
_PARTS = 200  # of a file, before the one that is looked for

_JPEG_XMP = b'http://ns.adobe.com/xap/1.0/\x00'
_PNG_XMP = b'XML:com.adobe.xmp\x00\x00\x00\x00\x00'  # not compressed, of no language
_TIFF_XMP = 700

_ITEM = re.compile(r'<rdf:li[^<>]*>([^<>]*)<')

_FRAMES = {'GAL': 'G', 'SGAL': 'S', 'ECL': 'E'}


def keywords(stream: IO[bytes]) -> dict[str, Value] | None:
    """
    What the tags of an image file say, in the words of a FITS header; `None` if it is no such file.
    """
    start = stream.read(12)
    find = next((find for magic, find in _FORMATS if start.startswith(magic)), None)
    if find is None:
        return None
    try:
        packet = find(stream)
    except (struct.error, ValueError):  # the file ends, or a part of it has no end
        packet = b''
    return _as_keywords(packet.decode('utf-8', 'replace')) if packet else {}


def wcs(stream: IO[bytes], size: tuple[int, int]) -> Any:
    """
    The WCS of an image of this width and height by its tags, `None` if they do not have it. Its
    pixels are those of FITS: row 0 is at the bottom.
    """
    from astropy.wcs import WCS

    found = keywords(stream) or {}
    try:
        numbers = {key: float(str(found[key])) for key in (
            'CRVAL1', 'CRVAL2', 'CRPIX1', 'CRPIX2', 'CDELT1', 'CDELT2', 'NAXIS1', 'NAXIS2')}
        turned = float(str(found['CROTA2'])) if found.get('CROTA2') else 0.0
        equinox = str(found.get('EQUINOX') or '').strip().lstrip('JB')
        made = WCS(naxis=2)
        made.wcs.ctype = [found['CTYPE1'], found['CTYPE2']]
        made.wcs.radesys = str(found.get('RADESYS') or 'ICRS').strip()
        if made.wcs.radesys not in ('ICRS', 'FK5', 'FK4'):
            made.wcs.radesys = ''
        elif equinox and made.wcs.radesys != 'ICRS':
            made.wcs.equinox = float(equinox)
        # They are of the image as it was made, which others may have made smaller.
        scales = [size[i] / numbers[f'NAXIS{i + 1}'] for i in (0, 1)]
        if not 0.98 < scales[0] / scales[1] < 1.02:
            return None
        made.wcs.crval = [numbers['CRVAL1'], numbers['CRVAL2']]
        made.wcs.crpix = [(numbers[f'CRPIX{i + 1}'] - 0.5) * scales[i] + 0.5 for i in (0, 1)]
        made.wcs.cdelt = [numbers[f'CDELT{i + 1}'] / scales[i] for i in (0, 1)]
        made.wcs.crota = [0.0, turned]
        made.wcs.set()
    # Text of anyone: wcslib has errors of its own.
    except Exception:
        return None
    return made


def _of_jpeg(stream: IO[bytes]) -> bytes:
    place = 2
    for _ in range(_PARTS):
        stream.seek(place)
        marker, length = struct.unpack('>HH', stream.read(4))
        if not 0xffe0 <= marker <= 0xffef and marker != 0xfffe:
            break
        if marker == 0xffe1 and stream.read(len(_JPEG_XMP)) == _JPEG_XMP:
            return _packet(stream, length - 2 - len(_JPEG_XMP))
        place += 2 + length
    return b''


def _of_png(stream: IO[bytes]) -> bytes:
    place = 8
    for _ in range(_PARTS):
        stream.seek(place)
        length, name = struct.unpack('>I4s', stream.read(8))
        if name == b'IDAT':
            break
        if name == b'iTXt' and stream.read(len(_PNG_XMP)) == _PNG_XMP:
            return _packet(stream, length - len(_PNG_XMP))
        place += 12 + length
    return b''


def _of_webp(stream: IO[bytes]) -> bytes:
    place = 12
    for _ in range(_PARTS):
        stream.seek(place)
        name, length = struct.unpack('<4sI', stream.read(8))
        if name == b'XMP ':
            return _packet(stream, length)
        place += 8 + length + length % 2
    return b''


def _of_tiff(stream: IO[bytes]) -> bytes:
    stream.seek(0)
    order = '<' if stream.read(4) == b'II*\x00' else '>'
    stream.seek(struct.unpack(order + 'I', stream.read(4))[0])
    for _ in range(min(struct.unpack(order + 'H', stream.read(2))[0], _PARTS)):
        tag, _, length, place = struct.unpack(order + 'HHII', stream.read(12))
        if tag == _TIFF_XMP:
            stream.seek(place)
            return _packet(stream, length)
    return b''


def _packet(stream: IO[bytes], length: int) -> bytes:
    # Less than nothing would be all that follows.
    return stream.read(min(max(length, 0), _MOST))


_FORMATS: tuple[tuple[bytes, Callable[[IO[bytes]], bytes]], ...] = (
    (b'\xff\xd8\xff', _of_jpeg), (b'\x89PNG\r\n\x1a\n', _of_png), (b'RIFF', _of_webp),
    (b'II*\x00', _of_tiff), (b'MM\x00*', _of_tiff))


def _as_keywords(packet: str) -> dict[str, Value]:
    def one(name: str) -> str:
        return next(iter(_values(packet, name)), '')

    frame = one('avm:Spatial.CoordinateFrame').upper()
    projection = one('avm:Spatial.CoordsystemProjection').upper() or 'TAN'
    letter = _FRAMES.get(frame)
    names = ('RA--', 'DEC-') if letter is None else (f'{letter}LON', f'{letter}LAT')
    found: dict[str, Value] = {
        'OBJECT': '; '.join(dict.fromkeys(_values(packet, 'avm:Subject.Name'))),
        'TITLE': one('photoshop:Headline') or one('dc:title'),
        'TELESCOP': ', '.join(dict.fromkeys(_values(packet, 'avm:Facility'))),
        'INSTRUME': ', '.join(dict.fromkeys(_values(packet, 'avm:Instrument'))),
        'NAXIS': 2, 'RADESYS': frame, 'EQUINOX': one('avm:Spatial.Equinox'),
        'CROTA2': one('avm:Spatial.Rotation')}
    for i, name in enumerate(names):
        found[f'CTYPE{i + 1}'] = f'{name}-{projection}'
    for key, name in (('CRVAL', 'ReferenceValue'), ('CRPIX', 'ReferencePixel'),
                      ('CDELT', 'Scale'), ('NAXIS', 'ReferenceDimension')):
        found.update((f'{key}{i}', value) for i, value in
                     enumerate(_values(packet, f'avm:Spatial.{name}')[:2], 1))
    if letter is None:  # for where there is no more
        found['RA'], found['DEC'] = found.get('CRVAL1'), found.get('CRVAL2')
    return found


def _values(packet: str, name: str) -> list[str]:
    """
    What an element or an attribute of this name says: one value, or the items of a list.
    """
    start = packet.find(f'<{name}')
    if start >= 0:
        body = packet[start:packet.find(f'</{name}>', start)]
        found = _ITEM.findall(body) or [body.partition('>')[2]]
    else:
        found = [packet.partition(f' {name}="')[2].partition('"')[0]]
    return [text for value in found if (text := html.unescape(value).strip()) and '<' not in value]
