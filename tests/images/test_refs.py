# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Equal images share a key, different ones never do.
"""

import os
import pickle

import numpy as np
import pytest

from astroclip_search.exceptions import ImageError
from astroclip_search.images.refs import (
    ImageRefs,
    colour,
    image_key,
    is_path,
    link,
    memory,
    messages,
    parse,
    statuses,
)
from astroclip_search.status import reason


def test_an_edited_file_has_another_key(tmp_path):
    file = tmp_path / 'a.png'
    file.write_bytes(b'one')
    first = image_key(str(file))
    assert image_key(str(file)) == first
    os.utime(file, ns=(1, 1))
    touched = image_key(str(file))
    file.write_bytes(b'three')
    os.utime(file, ns=(1, 1))
    assert len({first, touched, image_key(str(file))}) == 3


def test_a_file_that_is_gone_keeps_its_name(tmp_path):
    assert image_key(str(tmp_path / 'gone')) == str(tmp_path / 'gone')


@pytest.mark.parametrize(('source', 'local'), [
    ('/data/a.fits', True), (r'C:\data\a.fits', True), ('D:/a.fits', True),
    (r'\\server\share\a.fits', True), ('https://example.org/a.jpg', False),
    ('mast:JWST/product/a.jpg', False), ('sha256:0123', False), ('a.jpg', False), ('', False)])
def test_what_is_a_local_file(source, local):
    assert is_path(source) == local
    if not local:
        assert image_key(source) == source


def test_arrays_are_told_apart_by_content_and_form():
    array = np.zeros((4, 6), np.uint8)
    keys = {memory(data.tobytes(), f'{data.shape} {data.dtype}') for data in (
        array, array.reshape(6, 4), array.view(np.int8), array + np.uint8(1))}
    assert len(keys) == 4
    assert all(key.startswith('sha256:') for key in keys)


def test_an_edited_part_changes_the_key_of_a_colour(tmp_path):
    files = [tmp_path / f'{name}.fits' for name in 'abc']
    for file in files:
        file.write_bytes(b'one')
    source = colour(*map(str, files))
    first = image_key(source)
    files[2].write_bytes(b'three')
    assert image_key(source) != first
    remote = colour('mast:a', 'mast:b', 'mast:c')
    assert image_key(remote) == remote


@pytest.mark.parametrize(('source', 'kind'), [
    ('https://a.example/b.jpg', 'web'), ('http://a.example/b.jpg', 'web'), ('mast:HST/a', 'mast'),
    ('/data/a.fits', 'path'), ('sha256:0123', 'memory'), ('s3://a/b.fits', 'other'),
    (link('https://a.example/links'), 'link'), (colour('/a', 'mast:b', 'http://c/d'), 'colour'),
    ('rgb:', 'other'), ('rgb:nonsense', 'other'), ('rgb:{}', 'other'), ('rgb:[1e999]', 'other'),
    ('rgb:["/a", "/b"]', 'other'), ('rgb:["/a", "/b", 3]', 'other'),
    ('rgb:' + '[' * 100_000, 'other'), (colour('rgb:["a", "b", "c"]', 'b', 'c'), 'other')])
def test_kinds_of_references(source, kind):
    found = parse(source)
    assert found.kind == kind
    if kind != 'colour':
        assert found.parts == (source,)
        assert found.address == source.removeprefix('datalink:')
        assert image_key(source) == source


def test_the_parts_of_a_composite():
    parts = '/data/ü 1.fits', 'mast:b', 'https://a.example/c?x="1"'
    source = colour(*parts)
    assert source.startswith('rgb:["/data/ü 1.fits", "mast:b"')
    assert parse(source).parts == parts


def test_an_entry_per_row():
    note, failure = reason('no_colour', why='x'), reason('http_denied', code=403)
    refs = ImageRefs(['a', None, 'b', 'c'], [''] * 4,
                     {0: (note,), 2: (failure,), 3: (note, failure)})
    assert [refs.is_open(i) for i in range(len(refs))] == [True, False, False, False]
    assert statuses(4, refs.reasons) == ['OK', 'OK', 'DENIED', 'DENIED']
    assert messages(4, refs.reasons) == [
        'no colour: x', '', 'HTTP 403: access denied', 'no colour: x; HTTP 403: access denied']


def test_an_error_names_reason_and_address():
    error = ImageError('http', 'https://example.org/a.jpg', code=404)
    assert str(error) == 'HTTP 404: https://example.org/a.jpg'
    assert (error.reason, error.status, error.because.code) == ('HTTP 404', 'ERROR', 'http')
    assert str(ImageError('empty_file')) == 'empty file'
    again = pickle.loads(pickle.dumps(error))
    assert (again.because, again.url) == (error.because, error.url)
