# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
JSON of strangers is measured before it is read.
"""

import contextlib
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from astroclip_search.untrusted.documents import MAX_DEPTH, read_json

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=12)


@settings(max_examples=30)
@given(st.dictionaries(st.text(), values, max_size=3), st.booleans())
def test_what_is_written_is_read(content, ascii_only):
    assert read_json(json.dumps(content, ensure_ascii=ascii_only).encode()) == content


@given(st.binary())
def test_any_bytes(content):
    with contextlib.suppress(ValueError):
        assert isinstance(read_json(content), dict)


@pytest.mark.parametrize('text', ['[[[', '}}}', '"', '\\', '\\"[', 'é\n'])
def test_brackets_in_texts_do_not_count(text):
    content = {text * 100: [text * 100]}
    assert read_json(json.dumps(content).encode()) == content


def nested(depth):
    return b'{"a":' * depth + b'1' + b'}' * depth


def test_the_depth_is_bounded():
    read_json(nested(MAX_DEPTH))
    with pytest.raises(ValueError, match='nested deeper than 64 levels'):
        read_json(nested(MAX_DEPTH + 1))
    with pytest.raises(ValueError, match='nested deeper'):
        read_json(b'{"a": ["\\"", [' + b'[' * 200_000)


@pytest.mark.parametrize(('content', 'said'), [
    (b'[1]', 'not a JSON object'), (b'null', 'not a JSON object'), (b'', 'Expecting value'),
    (b'{"a": "\xff"}', "can't decode")])
def test_what_is_no_object(content, said):
    with pytest.raises(ValueError, match=said):
        read_json(content)
