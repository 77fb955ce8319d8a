# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
JSON of strangers is measured before it is read.
"""

import contextlib
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from astroclip_search.untrusted.documents import MAX_DEPTH, check_unit, check_yaml, read_json

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


@pytest.mark.parametrize('text', [
    'm', 'BJD - 2457000, days', '10**-17 erg/s/cm**2/Angstrom', '10^-17 erg s-1 cm-2', 'nmgy',
    '10+3J/m/s/kpc2', '10(-17) W', '[10+6m]', '10⁻¹⁷ erg', '6.371e+06 m', '1/(h-1 Mpc)**3',
    'm(1/3)', '(10**6 m)**2', '', None, 5])
def test_units_that_people_write(text):
    check_unit(text)
    check_yaml(f'unit: {json.dumps(text)}')


@pytest.mark.parametrize('text', [
    '10**1234 m', '10 ^ (-1234)', '10(1234)', '10+1234m', '10¹²³⁴', '10⁻¹²³⁴ m', '(10**200 m)**200',
    '10**200**200', '10**(200**(200)) m', '10.0**1234', 'dex(10**1234 m)'])
def test_powers_that_no_unit_has(text):
    with pytest.raises(ValueError, match='power is too large'):
        check_unit(text)
    for form in ('unit: "{}"', "datatype:\n- unit: '{}'", 'a: !astropy.units.Unit {{unit: "{}"}}',
                 'a: &a "{}"\nunit: *a', 'x: !Q {{value: "1 {}"}}', '? &u unit\n: m\n? *u\n: "{}"',
                 '"\\x75nit": "{}"'):
        with pytest.raises(ValueError, match='power is too large'):
            check_yaml(form.format(text))


def test_units_that_are_written_in_a_disguise():
    for text in ('unit: "10**\\x31234"', 'unit: "10**1\\\n  234"', 'unit: >-\n  10**\n  1234'):
        with pytest.raises(ValueError, match='power is too large'):
            check_yaml(text)
    check_yaml('description: "10**1234 is large, and \\x31 is one"')


@pytest.mark.parametrize('number', [
    '1' + ':1' * 100, '-1' + ':1' * 100 + '.5', '9' * 200, '1_' * 100 + '1', '0b' + '1' * 200,
    '!!int "1' + ':1' * 100 + '"', '!!i%6Et "1' + ':1' * 100 + '"',
    '!!int "' + '1\\x3a' * 100 + '1"'],
    ids=['sixty', 'real', 'long', 'underscores', 'binary', 'type', 'tag', 'disguise'])
def test_long_numbers(number):
    with pytest.raises(ValueError, match='number of'):
        check_yaml(f'a: {number}')


def test_long_texts_of_digits_are_no_numbers():
    check_yaml(f'a: "{"1" * 500}"\nb: \'{"1:" * 500}\'\nc: 1:30:00.5\nd: 0x1F')
