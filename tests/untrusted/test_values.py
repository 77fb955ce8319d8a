# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Numbers, dates, addresses and JSON of strangers: the right value, or none, and never an error.
"""

import math
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from urllib.parse import urlsplit

import numpy as np
import pytest
import requests
import urllib3
from hypothesis import given, settings
from hypothesis import strategies as st

from astroclip_search.untrusted.values import (
    address,
    from_json,
    host_of,
    real,
    retry_after,
    split,
    whole_number,
)

LONG = '9' * 5000
ANYTHING = st.one_of(st.text(), st.binary(), st.integers(), st.floats(), st.none(), st.booleans(),
                     st.decimals(), st.lists(st.text(max_size=3), max_size=3),
                     st.from_regex(r'\A\s*[-+]?[\d²٣]+(\.\d*)?(e[-+]?\d+)?\s*\Z'))


@pytest.mark.parametrize(('text', 'number'), [
    ('0', 0), ('12', 12), (' 12 ', 12), ('007', 7), (b'77', 77), (12, 12), (np.int16(12), 12),
    (str(2**53), 2**53), (str(2**53 + 1), None), ('9' * 400, None), (LONG, None), ('-1', None),
    ('+1', None), ('1_0', None), ('1.0', None), ('²', None), ('٣', None), ('', None), (None, None),
    (True, None), (12.0, None), ('0x10', None), (b'\xb2', None), ([12], None)])
def test_whole_number(text, number):
    assert whole_number(text) == number


def test_whole_number_within_bounds():
    assert whole_number('5', least=5, most=5) == 5
    assert whole_number('4', least=5) is None
    assert whole_number('6', most=5) is None
    assert whole_number(-6, least=-6) == -6


@pytest.mark.parametrize(('value', 'number'), [
    ('1.5', 1.5), (' -1e3 ', -1000), ('.5', 0.5), ('3.', 3), (b'2', 2), (7, 7), (1.5, 1.5),
    (np.float32(0.5), 0.5), ('1e999', math.nan), (10**400, math.nan), ('inf', math.nan),
    ('nan', math.nan), (math.inf, math.nan), ('1_0', math.nan), ('٣', math.nan), (LONG, math.nan),
    (True, math.nan), (None, math.nan), ('', math.nan), (np.ma.masked, math.nan)])
def test_real(value, number):
    assert real(value) == pytest.approx(number, nan_ok=True)


@settings(max_examples=50)
@given(ANYTHING)
def test_any_object_is_a_number_or_none(value):
    assert whole_number(value) is None or 0 <= whole_number(value) <= 2**53
    assert math.isnan(real(value)) or math.isfinite(real(value))
    wait = retry_after(value)
    assert wait is None or 0 <= wait <= 1e9
    assert address(value) == '' or urlsplit(address(value)).hostname


@given(st.integers(0, 2**53))
def test_whole_numbers_as_they_are_written(number):
    assert whole_number(str(number)) == whole_number(f' {number:030}') == number


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_real_numbers_as_they_are_written(number):
    assert real(repr(number)) == real(number) == number


# ---- waits -------------------------------------------------------------------------------


@pytest.mark.parametrize(('text', 'seconds'), [
    ('0', 0), ('120', 120), (' 1.5 ', 1.5), ('-5', 0), (LONG, 1e9), ('inf', 1e9), ('nan', None),
    ('', None), (None, None), ('soon', None), ('²', None), ('1e3', None),
    ('Fri, 31 Dec 9999 23:59:59 GMT', 1e9), ('Mon, 01 Jan 0001 00:00:00 GMT', 0),
    ('Fri, 31 Dec 9999 23:59:59 -0000', 1e9), ('Mon, 01 Jan 0001 00:00:00 -0000', 0),
    ('Fri, 31 Dec 99999 23:59:59 GMT', None), ('Wed, 21 Oct 2015 07:28:00 +9999999999', None),
    ('Wed, 99 Oct 2015 07:28:00 GMT', None), ('Wed, 21 Oct 2015 99:99:99 GMT', None),
    (', , , : : ,', None), ('x' * 100_000, None)])
def test_retry_after(text, seconds):
    assert retry_after(text) == seconds


@given(st.integers(10, 10**8))
def test_retry_after_in_dates(seconds):
    then = datetime.now(UTC) + timedelta(seconds=seconds)
    for text in (format_datetime(then, usegmt=True), then.strftime('%A, %d-%b-%y %H:%M:%S GMT')):
        assert retry_after(text) == pytest.approx(seconds, abs=2)


# ---- addresses ---------------------------------------------------------------------------


@pytest.mark.parametrize(('text', 'found'), [
    ('b.jpg', 'https://host.example/a/b.jpg'), ('/b c', 'https://host.example/b c'),
    ('?x=1', 'https://host.example/a/?x=1'), ('//other.example/b', 'https://other.example/b'),
    ('http://h.example:80/', 'http://h.example:80/'), (' HTTP://H.example ', 'HTTP://H.example'),
    ('http://[::1]:8080/', 'http://[::1]:8080/'), ('http://me:word@h/', 'http://me:word@h/'),
    ('http://köln.example/', 'http://köln.example/'), ('', ''), (None, ''), ('http://', ''),
    ('http://[::1', ''), ('http://[::1]x/', ''), ('http://h:99999/', ''), ('http://h:²/', ''),
    ('http://h:x/', ''), ('http://h:0/', ''), ('http://h:' + LONG + '/', ''), ('http://a\\@b/', ''),
    ('http://h\r\nX: y/', ''), ('http://.h/', ''), ('http://*/', ''), ('http://℀.example/', ''),
    ('http://' + 'a' * 64 + '/', ''), ('http://' + 'a.' * 130 + '/', ''), ('file:///etc/x', ''),
    ('ftp://h/', ''), ('data:,x', ''), ('javascript:x', ''), ('https:x', 'https://host.example/a/x'),
    ('http://h/' + 'x' * 20_000, '')])
def test_address(text, found):
    assert address(text, 'https://host.example/a/') == found


def test_an_address_without_a_base_is_whole():
    assert address('b.jpg') == address('//h/b') == address('/b') == ''
    assert address('http://h/b') == 'http://h/b'
    assert address('b', 'http://[::1') == ''


@settings(max_examples=50)
@given(st.one_of(st.text(), st.from_regex(r'\A(https?:)?//[^/]{0,20}(/.{0,9})?\Z')))
def test_what_is_an_address_can_be_asked(text):
    """
    Or requests says in its own words why not.
    """
    found = address(text, 'http://host.example/')
    if not found:
        return
    assert urlsplit(found).hostname == split(found).hostname
    assert urlsplit(found).port == split(found).port
    try:
        asked = requests.Request('GET', found).prepare().url
    except (requests.RequestException, urllib3.exceptions.HTTPError, ValueError):
        return
    assert asked.startswith(('http://', 'https://'))


def test_host_of():
    assert host_of('HTTP://me:word@Host.Example:80/a') == 'host.example:80'
    assert host_of('https://[::1]/') == '[::1]'
    assert host_of('http://[::1') == host_of('mast:x') == host_of(None) == ''


# ---- JSON --------------------------------------------------------------------------------


@pytest.mark.parametrize('text', ['[' * 100_000, '{"a":' * 100_000, LONG, f'[{LONG}]', '', '{', 'x',
                                  b'\xff\xfe\xff', '"\ud800'])
def test_no_json(text):
    with pytest.raises(ValueError):  # noqa: PT011 - each has words of its own
        from_json(text)


def test_json():
    assert from_json(b'{"a": [1, 2.5, null, "x"]}') == {'a': [1, 2.5, None, 'x']}
    assert from_json('"\\ud83d\\ude00"') == '😀'
