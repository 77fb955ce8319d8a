# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Links -> image addresses: what is chosen, how few requests it takes, and what each failure costs.
"""

import gzip
import re
from importlib import resources
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from astroclip_search.exceptions import ImageError
from astroclip_search.images import datalink
from astroclip_search.images.http import Fetcher, Limits
from astroclip_search.images.refs import link, parse
from astroclip_search.images.resolve import follow
from tests.loopback.vo import DATALINK, Dataset, Vo, votable

LIMIT = 1_000_000
JPEG = {'content_type': 'image/jpeg'}
FITS = {'content_type': 'application/fits'}


@pytest.fixture
def centre():
    """Start a data centre, ``centre(datasets, ...)``."""
    started = []

    def start(datasets, **options):
        vo = Vo(datasets, **options)
        started.append(vo)
        return vo

    yield start
    for vo in started:
        vo.close()


@pytest.fixture
def ask(centre):
    """Follow sources, ``ask(vo, sources)``, with a fetcher that may ask this machine."""
    def run(vo, sources, **limits):
        limits = Limits(**{'retries': 0, **limits})
        with Fetcher(limits, trusted=[urlsplit(vo.url).netloc]) as fetcher:
            return follow(sources, fetcher, max_bytes=LIMIT)

    return run


def sources_of(vo, **options):
    return [link(f'{vo.url}/links?ID={item.did.replace("?", "%3F")}', **options)
            for item in vo.datasets]


def images(count, **options):
    return [Dataset(f'n{i}', files={'jpg': b'', 'fits': b''}, **options) for i in range(count)]


def outcome(found):
    """Status and reason of a failure, or the address."""
    return (found.status, found.reason) if isinstance(found, ImageError) else found


# ---- choosing ----------------------------------------------------------------------------


def choose(rows, *, circle=(), address='https://archive.example/dl/links', services=None):
    document = datalink.Document(address, [{'id': 'x', **row} for row in rows], services or {})
    return outcome(datalink.choose(document, circle, LIMIT))


CORE = 'http://www.ivoa.net/rdf/datalink/core'


@pytest.mark.parametrize('form', ['#', f'{CORE}#'])
@pytest.mark.parametrize(('better', 'worse'), [
    ('preview-image', 'preview'), ('preview', 'thumbnail'), ('thumbnail', 'this')])
def test_best_kind_of_link_first(form, better, worse):
    rows = [{'semantics': form + name, 'access_url': f'http://a/{name}', **JPEG}
            for name in (worse, better)]
    assert choose(rows) == choose(rows[::-1]) == f'http://a/{better}'


def test_of_equals_the_first():
    rows = [{'semantics': '#preview', 'access_url': f'http://a/{i}', **JPEG} for i in range(3)]
    assert choose(rows) == 'http://a/0'


@pytest.mark.parametrize(('row', 'accepted'), [
    ({'semantics': '#preview', **JPEG}, True),
    ({'semantics': '#preview', 'content_type': 'IMAGE/PNG; charset=binary'}, True),
    ({'semantics': '#preview'}, True),
    ({'semantics': '#preview', 'content_type': 'application/octet-stream'}, True),
    ({'semantics': '#preview', 'content_type': 'text/html'}, False),
    ({'semantics': '#preview', 'content_type': 'application/pdf'}, False),
    ({'semantics': '#preview-plot', **JPEG}, False),
    ({'semantics': 'http://example.org/other#this-is-not', **JPEG}, False),
    ({'semantics': '#this', **FITS}, True),
    ({'semantics': '#this', **JPEG}, True),
    ({'semantics': '#this', 'content_type': 'application/x-tar'}, False),
    ({'semantics': '#this'}, False),  # may be anything
    ({'semantics': '#this', 'access_url': 'http://a/b.fits.gz?x'}, True),
    ({'semantics': '#this', 'access_url': 'http://a/b.fits', 'content_type': 'text/html'}, False),
    # As servers say of what they do not know.
    ({'semantics': '#this', 'access_url': 'http://a/b.fits', 'content_type': 'text/plain'}, True),
    ({'semantics': '#this', 'access_url': 'http://a/b.txt', 'content_type': 'text/plain'}, False),
    ({'semantics': '#this', 'content_length': str(LIMIT), **FITS}, True),
    ({'semantics': '#auxiliary', **FITS}, False),
    ({'semantics': '', **JPEG}, False),
    ({'semantics': '#preview', 'access_url': '', **JPEG}, False),
    ({'semantics': '#preview', 'access_url': 'ftp://a/b.jpg', **JPEG}, False),
    ({'semantics': '#preview', 'access_url': 'file:///etc/passwd', **JPEG}, False),
    ({'semantics': '#preview', 'access_url': 'http://[broken', **JPEG}, False),
])
def test_which_links_are_images(row, accepted):
    row = {'access_url': 'https://archive.example/b', **row}
    found = choose([row])
    assert found == (row['access_url'] if accepted else
                     ('NO_IMAGE', 'no link of the row leads to an image'))


def test_relative_address_is_joined():
    assert choose([{'semantics': '#preview', 'access_url': '../p/b.jpg', **JPEG}]) == (
        'https://archive.example/p/b.jpg')


@pytest.mark.parametrize(('rows', 'expected'), [
    ([{'error_message': 'NotFoundFault: gone'}], ('NO_IMAGE', 'NotFoundFault: gone')),
    ([{'error_message': 'AuthenticationFault: who?'}], ('DENIED', 'AuthenticationFault: who?')),
    ([{'error_message': 'AuthorizationFault:\n no'}], ('DENIED', 'AuthorizationFault: no')),
    ([{'error_message': 'TransientFault: later\x1b[2J' + 400 * 'x'}],
     ('ERROR', ('TransientFault: later[2J' + 400 * 'x')[:199])),
    ([{'semantics': '#preview', 'access_url': 'http://a/b', 'link_authorized': 'False', **JPEG}],
     ('DENIED', 'the link is not open to the public')),
    ([{'semantics': '#this', 'access_url': 'http://a/b', 'readable': 'F', **FITS}],
     ('DENIED', 'the link is not open to the public')),
    ([{'semantics': '#this', 'access_url': 'http://a/b', 'content_length': str(LIMIT + 1), **FITS}],
     ('SKIPPED', f'a file of {LIMIT + 1} bytes, the limit is {LIMIT} (conf.max_bytes)')),
    # What is wrong with a link that would not have been taken says nothing of the row.
    ([{'semantics': '#progenitor', 'access_url': 'http://a/b', 'readable': 'False', **FITS}],
     ('NO_IMAGE', 'no link of the row leads to an image')),
    ([{'error_message': 'FatalFault: x'},
      {'semantics': '#preview', 'access_url': 'http://a/b', **JPEG}], 'http://a/b'),
    ([{'semantics': '#preview', 'access_url': 'http://a/b', 'link_authorized': '', **JPEG}],
     'http://a/b'),
])
def test_why_there_is_no_image(rows, expected):
    found = choose(rows)
    assert found == expected or (found[0], found[1][:199]) == expected


# ---- cutouts -----------------------------------------------------------------------------


def recorded(name):
    return resources.files('pyvo.dal.tests').joinpath('data', 'datalink', name).read_bytes()


def test_cutout_of_a_recorded_answer():
    # CADC: the ID of the service is not that of the row, and RUNID is fixed.
    document = datalink.read_document(recorded('cutout2.xml'), 'https://cadc.example/links')
    assert datalink.choose(document, (), 10**9).endswith(
        '/cal054151r.fits.fz?RUNID=of051krube49ud2e')
    found = urlsplit(datalink.choose(document, ('79.9', '-70.3', '0.01'), LIMIT))
    assert found.path == '/caom2ops/sync'
    assert parse_qs(found.query) == {'ID': ['ad:MACHO/cal054151r.fits.fz'],
                                     'RUNID': ['of051krube49ud2e'], 'CIRCLE': ['79.9 -70.3 0.01']}
    # Without a cutout, the data are too large; a cutout has another size than them.
    assert outcome(datalink.choose(document, (), LIMIT))[0] == 'SKIPPED'


@pytest.mark.parametrize(('name', 'expected'), [
    ('proc.xml', 'comb_avg.0001.fits.fz?preview=True'), ('datalink.xml', 'f0011.mt?preview=True'),
    ('proc_units.xml', 'comb_avg.0001.fits.fz?preview=True')])
def test_previews_of_recorded_answers(name, expected):
    found = datalink.choose(datalink.read_document(recorded(name), ''), ('1', '2', '0.1'), LIMIT)
    assert found.endswith(expected)  # better than the cutout that is there as well


@pytest.mark.parametrize(('standard', 'inputs', 'parameter'), [
    ('SODA#sync-1.0', 'CIRCLE', {'CIRCLE': ['1 2 0.1']}),
    ('SODA#sync-1.0', 'POS', {'POS': ['CIRCLE 1 2 0.1']}),
    ('SODA#sync-1.0', '', {'CIRCLE': ['1 2 0.1']}),
    ('SODA#sync-1.0', 'BAND', None), ('SODA#async-1.0', 'CIRCLE', None), ('other', 'CIRCLE', None)])
def test_cutout_services(standard, inputs, parameter):
    soda = ('<RESOURCE type="meta" utype="adhoc:service" ID="s"><PARAM name="accessURL" '
            'datatype="char" arraysize="*" value="soda?v=1"/><PARAM name="standardID" '
            f'datatype="char" arraysize="*" value="ivo://ivoa.net/std/{standard}"/>'
            '<GROUP name="inputParams">' + (
                f'<PARAM name="{inputs}" datatype="double" arraysize="3" value=""/>'
                '<PARAM name="ID" datatype="char" arraysize="*" ref="ID" value=""/>'
                '<PARAM name="N" datatype="int" value="3"/>' if inputs else '')
            + '</GROUP></RESOURCE>')
    content = votable([{'ID': 'a b', 'semantics': '#cutout', 'service_def': 's'}],
                      ['ID', 'semantics', 'service_def'], extra=soda)
    document = datalink.read_document(content, 'http://a/dl/links')
    found = datalink.choose(document, ('1', '2', '0.1'), LIMIT)
    if parameter is None:
        assert outcome(found)[0] == 'NO_IMAGE'
    else:
        assert found.startswith('http://a/dl/soda?v=1&')
        fixed = {'ID': ['a b'], 'N': ['3']} if inputs else {}
        assert parse_qs(urlsplit(found).query) == {'v': ['1'], **fixed, **parameter}


# ---- asking ------------------------------------------------------------------------------


def test_many_links_take_few_requests(centre, ask):
    vo = centre(images(250))
    found = ask(vo, sources_of(vo))
    assert list(found.values()) == [vo.file(item, 'jpg') for item in vo.datasets]
    assert vo.requests() == {'POST /links': 3}


def test_one_link_is_a_get(centre, ask):
    vo = centre(images(1))
    assert list(ask(vo, sources_of(vo)).values()) == [vo.file(vo.datasets[0], 'jpg')]
    assert vo.requests() == {'GET /links': 1}


def test_other_parameters_stay_in_the_address(centre, ask):
    vo = centre(images(2))
    sources = [link(f'{vo.url}/links?run=7&id={item.did.replace("?", "%3f")}&x=a%20b')
               for item in vo.datasets]
    assert list(ask(vo, sources).values()) == [vo.file(item, 'jpg') for item in vo.datasets]
    (method, _, parameters), = vo.log
    assert method == 'POST'
    assert (parameters['run'], parameters['x'], len(parameters['ID'])) == (['7'], ['a b'], 2)


@pytest.mark.parametrize(('max_ids', 'requests'), [
    (40, {'POST /links': 5}), (1, {'POST /links': 1, 'GET /links': 179})])
def test_lost_ids_are_asked_for_again(centre, ask, max_ids, requests):
    vo = centre(images(180), max_ids=max_ids)
    found = ask(vo, sources_of(vo))
    assert list(found.values()) == [vo.file(item, 'jpg') for item in vo.datasets]
    assert vo.requests() == requests


@pytest.mark.parametrize('fault', [
    (405, {}, b''), (500, {}, b'oops'), (200, {}, b'<html>no POST here</html>'),
    (200, {}, votable([], [], status='ERROR', message='UsageFault: one ID only')),
    (307, {'Location': 'http://127.0.0.1:9/elsewhere'}, b'')])
def test_a_service_that_takes_no_post(centre, ask, fault):
    vo = centre(images(3), faults={'POST /links': fault})
    assert list(ask(vo, sources_of(vo)).values()) == [vo.file(item, 'jpg') for item in vo.datasets]
    assert vo.requests() == {'POST /links': 1, 'GET /links': 3}


def test_same_document_with_two_circles_is_read_once(centre, ask):
    vo = centre([Dataset('a', files={'fits': b''})])
    address, = sources_of(vo)
    plain = parse(address).address
    sources = [link(plain, circle=(10, -5, 0.01)), link(plain, circle=(10, -5, 0.02)), address]
    found = ask(vo, sources)
    assert [parse_qs(urlsplit(found[source]).query).get('CIRCLE') for source in sources] == [
        ['10.0 -5.0 0.01'], ['10.0 -5.0 0.02'], None]
    assert parse_qs(urlsplit(found[sources[0]]).query)['RUN'] == ['7']
    assert 'BAND' not in parse_qs(urlsplit(found[sources[0]]).query)
    assert vo.requests() == {'GET /links': 1}


def test_unknown_ids_cost_their_own_rows(centre, ask):
    vo = centre(images(3))
    sources = [*sources_of(vo), link(f'{vo.url}/links?ID=ivo://vo.example/~%3Fnone')]
    found = list(ask(vo, sources).values())
    assert found[:3] == [vo.file(item, 'jpg') for item in vo.datasets]
    assert outcome(found[3]) == ('NO_IMAGE',
                                 'NotFoundFault: ivo://vo.example/~?none is not known')


BOMB = (b'<?xml version="1.0"?><!DOCTYPE V [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "' + 10 * b'&a;'
        + b'"><!ENTITY c "' + 10 * b'&b;' + b'">]>'
        b'<VOTABLE><DESCRIPTION>&c;</DESCRIPTION></VOTABLE>')
ROWS = votable([{'ID': 'x', 'semantics': '#preview', 'access_url': 'http://a/b.jpg'}],
               ['ID', 'semantics', 'access_url'])

ELSEWHERE = re.sub(b'<TABLEDATA>.*</TABLEDATA>',
                   b'<BINARY><STREAM href="file:///etc/passwd"/></BINARY>', ROWS, flags=re.DOTALL)


@pytest.mark.parametrize(('fault', 'expected'), [
    ((200, {}, votable([], [], status='ERROR', message='down until\nMonday')),
     ('ERROR', 'the DataLink service says: down until Monday')),
    ((200, {}, votable([], [], status='ERROR', message='AuthenticationFault: x')),
     ('DENIED', 'the DataLink service says: AuthenticationFault: x')),
    ((200, {}, votable([], [], status='ERROR')),
     ('ERROR', 'the DataLink service reports an error')),
    ((200, {}, votable([], ['ID'])), ('NO_IMAGE', 'no link of the row leads to an image')),
    ((200, {}, votable([], [])), ('NO_IMAGE', 'no link of the row leads to an image')),
    ((200, {}, b'<html>Down for maintenance</html>'),
     ('ERROR', 'the DataLink document is no VOTable')),
    ((200, {}, b''), ('ERROR', 'the DataLink document is no VOTable')),
    ((200, {}, BOMB), ('ERROR', 'the DataLink document is no VOTable')),
    ((200, {'Content-Encoding': 'gzip'}, gzip.compress(bytes(10**8))), ('ERROR', None)),
    ((200, {}, ROWS[:-30]), ('ERROR', None)),
    ((200, {}, ROWS.replace(b'UTF-8', b'UTF-99')), ('ERROR', None)),
    ((200, {}, ROWS.replace(b'arraysize="*"', b'arraysize="900000000"')),
     ('ERROR', 'the DataLink document has columns of excessive size')),
    ((200, {}, ROWS.replace(b'arraysize="*"', b'arraysize="&#57;00000000"')),
     ('ERROR', 'the DataLink document has columns of excessive size')),
    ((200, {}, ROWS.replace(b'<TABLEDATA>', b'<FITS><STREAM a=">" href="file:///etc/passwd"/>')),
     ('ERROR', 'the DataLink document has its rows elsewhere')),
    ((200, {}, gzip.compress(ELSEWHERE)),
     ('ERROR', 'the DataLink document has its rows elsewhere')),
    ((200, {}, ELSEWHERE.decode().replace('UTF-8', 'UTF-16').encode('utf-16')),
     ('ERROR', 'the DataLink document has its rows elsewhere')),
    ((404, {}, b'nothing'), ('ERROR', 'HTTP 404')),
    ((401, {}, b''), ('DENIED', 'HTTP 401: access denied')),
    ((200, {}, ROWS + b' ' * 17 * 1024**2),
     ('ERROR', 'the DataLink document is larger than 16777216 bytes')),
], ids=range(19))
def test_bad_documents(centre, ask, fault, expected):
    vo = centre(images(2), faults={'GET /links': fault, 'POST /links': fault})
    for found in ask(vo, sources_of(vo)).values():
        status, reason = outcome(found)
        assert (status, reason if expected[1] else None) == expected


@pytest.mark.parametrize(('known_as', 'expected'), [('n 1', 'own'), ('n%201', 'other')])
def test_answer_with_further_datasets(centre, ask, known_as, expected):
    rows = [{'ID': name, 'semantics': '#preview', 'access_url': f'http://a/{address}'}
            for name, address in (('n0', 'other'), (known_as, 'own'))]
    vo = centre([], faults={'/links': (200, {}, votable(rows, list(rows[0])))})
    source = link(f'{vo.url}/links?ID=n%201')
    # If none is the one that was asked for, the service writes IDs in its own way.
    assert ask(vo, [source]) == {source: f'http://a/{expected}'}


def test_announced_rows_take_no_memory(centre, ask):
    body = ROWS.replace(b'<TABLE>', b'<TABLE nrows="2000000000">')
    vo = centre(images(1), faults={'/links': (200, {}, body)})
    assert list(ask(vo, sources_of(vo)).values()) == ['http://a/b.jpg']


def test_a_dead_service_costs_its_rows_only(centre, ask):
    vo = centre(images(2))
    dead = [link(f'http://127.0.0.1:9/links?ID={i}') for i in range(30)]
    found = ask(vo, [*sources_of(vo), *dead])
    assert [outcome(found[source]) for source in sources_of(vo)] == [
        vo.file(item, 'jpg') for item in vo.datasets]
    assert {outcome(found[source])[0] for source in dead} == {'ERROR'}


def test_image_that_is_left_when_a_link_fails(centre, ask):
    vo = centre(images(1), faults={'/links': (500, {}, b'')})
    source, = sources_of(vo, circle=(1, 2, 3), fallback='http://a/b.fits?x=1#y')
    assert ask(vo, [source]) == {source: 'http://a/b.fits?x=1#y'}
    vo.faults.clear()
    assert ask(vo, [source]) == {source: vo.file(vo.datasets[0], 'jpg')}


# ---- documents that lead to documents ----------------------------------------------------


def nested(name, target, url):
    return Dataset(name, links=[{'semantics': '#this', 'content_type': DATALINK,
                                 'access_url': f'{url}/links?ID=ivo://vo.example/~%3F{target}'}])


def test_a_document_may_lead_to_another_but_no_further(centre, ask):
    vo = centre(images(1))
    vo.datasets += [nested('outer', 'n0', vo.url), nested('outmost', 'outer', vo.url),
                    nested('self', 'self', vo.url)]
    sources = [f'datalink:{vo.url}/links?ID=ivo://vo.example/~%3F{name}'
               for name in ('outer', 'outmost', 'self')]
    found = ask(vo, sources)
    assert [outcome(found[source]) for source in sources] == [
        vo.file(vo.datasets[0], 'jpg'),
        ('NO_IMAGE', 'the DataLink documents lead in circles'),
        ('NO_IMAGE', 'the DataLink documents lead in circles')]
    assert vo.requests() == {'POST /links': 2}


def test_nested_document_by_a_service(centre, ask):
    # As ALMA has it: the link is a service without parameters.
    vo = centre(images(1))
    extra = ('<RESOURCE type="meta" utype="adhoc:service" ID="more"><PARAM name="standardID" '
             'datatype="char" arraysize="*" value="ivo://ivoa.net/std/DataLink#links-1.0"/>'
             '<PARAM name="accessURL" datatype="char" arraysize="*" '
             'value="links?ID=ivo://vo.example/~%3Fn0"/><GROUP name="inputParams"/></RESOURCE>')
    body = votable([{'ID': 'x', 'semantics': '#this', 'service_def': 'more',
                     'content_type': 'application/x-votable+xml; content="datalink"'}],
                   ['ID', 'semantics', 'service_def', 'content_type'], extra=extra)
    vo.faults['/first'] = (200, {}, body)
    source = f'datalink:{vo.url}/first?ID=x'
    assert ask(vo, [source]) == {source: vo.file(vo.datasets[0], 'jpg')}


# ---- sources -----------------------------------------------------------------------------


@pytest.mark.parametrize(('mime', 'expected'), [
    (DATALINK, True), ('application/x-votable+xml; content=datalink', True),
    ('Application/X-VOTable+XML;Content="DataLink"', True),
    ('application/x-votable+xml;charset=utf-8 ;content=datalink', True),
    ('application/x-votable+xml', False), ('image/fits;content=datalink', False), ('', False)])
def test_mime_type_of_datalink(mime, expected):
    assert datalink.is_datalink(mime) is expected


@given(st.text('abc#=,?&;:/%', max_size=20) | st.just('http://a/l#else=/etc/passwd'),
       st.one_of(st.none(), st.tuples(st.floats(0, 360), st.floats(-90, 90), st.floats(0, 5))),
       st.sampled_from(['', 'http://a/b.fits', 'http://a/b?x=#circle=1,2,3']))
def test_sources_can_be_taken_apart(address, circle, fallback):
    found = parse(link(address, circle=circle or (), fallback=fallback))
    assert (found.address, found.fallback) == (address.partition('#')[0], fallback)
    assert [float(value) for value in found.circle] == [round(value, 6) for value in circle or ()]


@given(st.binary(max_size=300), st.integers(0, 400))
def test_no_document_breaks_the_parser(noise, place):
    for content in (noise, b'<VOTABLE>' + noise, ROWS[:place] + noise + ROWS[place:]):
        try:
            document = datalink.read_document(content, 'http://a/links')
        except ImageError:
            continue
        datalink.choose(document, ('1', '2', '3'), LIMIT)
