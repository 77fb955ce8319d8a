# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Tags of press images: what they are of, and where.
"""

import io
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from astroclip_search.archives.centres import by_keywords, of_image, to_icrs
from astroclip_search.images import avm

TAGS = '''<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF><rdf:Description rdf:about=""
 avm:Spatial.CoordinateFrame="{frame}" avm:Spatial.Rotation="30.0"
 photoshop:Headline="Bubbles &amp; pillars">
 <avm:Spatial.Equinox>2000.0</avm:Spatial.Equinox>
 <avm:Spatial.CoordsystemProjection>TAN</avm:Spatial.CoordsystemProjection>
 <avm:Spatial.ReferenceValue><rdf:Seq><rdf:li>274.7</rdf:li><rdf:li>-13.8</rdf:li></rdf:Seq>
 </avm:Spatial.ReferenceValue>
 <avm:Spatial.ReferencePixel><rdf:Seq><rdf:li>100.0</rdf:li><rdf:li>100.0</rdf:li></rdf:Seq>
 </avm:Spatial.ReferencePixel>
 <avm:Spatial.ReferenceDimension><rdf:Seq><rdf:li>399.0</rdf:li><rdf:li>199.0</rdf:li></rdf:Seq>
 </avm:Spatial.ReferenceDimension>
 <avm:Spatial.Scale><rdf:Seq><rdf:li>-0.001</rdf:li><rdf:li>0.001</rdf:li></rdf:Seq>
 </avm:Spatial.Scale>
 <avm:Subject.Name><rdf:Bag><rdf:li>M 16</rdf:li><rdf:li>Eagle Nebula</rdf:li></rdf:Bag>
 </avm:Subject.Name>
 <avm:Facility><rdf:Seq><rdf:li>Hubble</rdf:li><rdf:li>Hubble</rdf:li></rdf:Seq></avm:Facility>
 <dc:title><rdf:Alt><rdf:li xml:lang="x-default">Another title</rdf:li></rdf:Alt></dc:title>
</rdf:Description></rdf:RDF></x:xmpmeta>'''


def jpeg(packet):
    stream = io.BytesIO()
    Image.linear_gradient('L').resize((8, 8)).save(stream, 'JPEG')
    data = stream.getvalue()
    body = b'http://ns.adobe.com/xap/1.0/\x00' + packet
    return data[:20] + b'\xff\xe1' + struct.pack('>H', len(body) + 2) + body + data[20:]


def png(packet):
    stream = io.BytesIO()
    Image.new('L', (8, 8)).save(stream, 'PNG')
    data = stream.getvalue()
    body = b'XML:com.adobe.xmp\x00\x00\x00\x00\x00' + packet
    return data[:33] + struct.pack('>I', len(body)) + b'iTXt' + body + b'0000' + data[33:]


def tiff(packet, order='<'):
    start = (b'II*\x00' if order == '<' else b'MM\x00*') + struct.pack(order + 'I', 8)
    return (start + struct.pack(order + 'HHHIIHHIII', 2, 256, 3, 1, 8, 700, 1, len(packet), 38, 0)
            + packet)


def big_endian_tiff(packet):
    return tiff(packet, '>')


def webp(packet):
    stream = io.BytesIO()
    Image.new('RGB', (8, 8)).save(stream, 'WEBP', xmp=packet)
    return stream.getvalue()


@pytest.mark.parametrize('made', [jpeg, png, tiff, big_endian_tiff, webp])
def test_tags(made):
    tags = avm.keywords(io.BytesIO(made(TAGS.format(frame='ICRS').encode())))
    assert tags['OBJECT'] == 'M 16; Eagle Nebula'
    assert tags['TITLE'] == 'Bubbles & pillars'
    assert tags['TELESCOP'] == 'Hubble'
    # The middle is 100 pixels to the right of the reference, and the image turned by 30 degrees.
    (ra,), (dec,) = to_icrs([of_image(tags.get)])
    east = (ra - 274.7) * np.cos(np.radians(dec))
    assert np.hypot(east, dec + 13.8) == pytest.approx(0.1, rel=1e-3)
    assert east < 0
    assert np.degrees(np.arctan2(dec + 13.8, -east)) == pytest.approx(-30, abs=0.1)


def test_other_frames():
    tags = avm.keywords(io.BytesIO(jpeg(TAGS.format(frame='GAL').encode())))
    assert of_image(tags.get).frame == 'galactic'
    assert by_keywords(tags.get) is None
    tags = avm.keywords(io.BytesIO(jpeg(TAGS.format(frame='FK5').encode())))
    assert of_image(tags.get).frame == 'fk5'


def test_reference_position_alone():
    text = TAGS.format(frame='ICRS').partition('<avm:Spatial.ReferencePixel>')[0]
    tags = avm.keywords(io.BytesIO(png(text.encode())))
    assert of_image(tags.get) is None
    assert (by_keywords(tags.get).lon, by_keywords(tags.get).lat) == (274.7, -13.8)


def test_titles_of_others():
    text = TAGS.format(frame='').replace('photoshop:', 'other:')
    assert avm.keywords(io.BytesIO(jpeg(text.encode())))['TITLE'] == 'Another title'


@pytest.mark.parametrize('made', [jpeg, png, tiff, webp])
def test_no_tags(made):
    for packet in (b'', b'<x:xmpmeta>', b'<avm:Subject.Name', b'<dc:title><b>x</b></dc:title>'):
        tags = avm.keywords(io.BytesIO(made(packet))) or {}
        assert not tags.get('OBJECT')
        assert not tags.get('TITLE')
        assert of_image(tags.get) is None
    stream = io.BytesIO()
    Image.new('L', (8, 8)).save(stream, 'PNG')
    stream.seek(0)
    assert avm.keywords(stream) == {}


@pytest.mark.parametrize('data', [b'', b'SIMPLE  =', b'GIF89a', bytes(100)])
def test_other_files(data):
    assert avm.keywords(io.BytesIO(data)) is None


def test_what_is_marked_is_looked_at_and_no_more():
    many = b'\xff\xd8' + b'\xff\xe2\x00\x02' * 100_000 + jpeg(b'')[2:]
    stream = io.BytesIO(many)
    assert avm.keywords(stream) == {}
    assert stream.tell() < 10_000
    # Nothing but a bracket, again and again.
    assert avm.keywords(io.BytesIO(png(b'<dc:title' + b'<rdf:li' * 30_000)))['TITLE'] == ''


@given(data=st.data(), made=st.sampled_from([jpeg, png, tiff, webp]))
def test_damaged_tags(data, made):
    whole = bytearray(made(TAGS.format(frame='ICRS').encode()))
    for _ in range(data.draw(st.integers(1, 8))):
        whole[data.draw(st.integers(12, len(whole) - 1))] = data.draw(st.integers(0, 255))
    stop = data.draw(st.integers(12, len(whole)))
    if tags := avm.keywords(io.BytesIO(bytes(whole[:stop]))):
        of_image(tags.get)


@pytest.mark.parametrize('content', [
    b'\xff\xd8' + struct.pack('>HH', 0xffe1, 5) + b'http://ns.adobe.com/xap/1.0/\x00',
    b'\x89PNG\r\n\x1a\n' + struct.pack('>I4s', 5, b'iTXt')
    + b'XML:com.adobe.xmp\x00\x00\x00\x00\x00'])
def test_a_packet_that_is_shorter_than_its_name(content):
    """To read less than nothing would be to read all that follows."""
    asked = []

    class Stream(io.BytesIO):
        def read(self, size=-1):
            asked.append(size)
            return super().read(size)

    assert avm.keywords(Stream(content + TAGS.encode())) == {}
    assert min(asked) >= 0
