# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Equal images share a key, different ones never do.
"""

import os

import numpy as np
import pytest

from astroclip_search.exceptions import PreviewError
from astroclip_search.references import References, composite, digest, image_key, is_path


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
    keys = {digest(data.tobytes(), f'{data.shape} {data.dtype}') for data in (
        array, array.reshape(6, 4), array.view(np.int8), array + np.uint8(1))}
    assert len(keys) == 4
    assert all(key.startswith('sha256:') for key in keys)


def test_an_edited_part_changes_the_key_of_a_composite(tmp_path):
    files = [tmp_path / f'{name}.fits' for name in 'abc']
    for file in files:
        file.write_bytes(b'one')
    source = composite(*map(str, files))
    first = image_key(source)
    files[2].write_bytes(b'three')
    assert image_key(source) != first
    assert image_key(composite('mast:a', 'mast:b', 'mast:c')) == composite('mast:a', 'mast:b',
                                                                            'mast:c')


def test_a_reference_per_row():
    assert len(References(['a', None], ['', ''], ['', 'NO_IMAGE'], ['', ''])) == 2


def test_a_preview_error_names_reason_and_address():
    error = PreviewError('HTTP 404', 'https://example.org/a.jpg')
    assert str(error) == 'HTTP 404: https://example.org/a.jpg'
    assert (error.reason, error.status) == ('HTTP 404', 'ERROR')
    assert str(PreviewError('empty file')) == 'empty file'
