# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
What archives say of their observations, whatever they call it.
"""

import json
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest
from astropy import units as u
from astropy.table import Column, MaskedColumn, QTable, Table
from astropy.time import Time
from hypothesis import given
from hypothesis import strategies as st

from astroclip_search import sample
from astroclip_search.archives.observations import Observation, observations


def only(**columns):
    found, = observations(Table({name: [value] for name, value in columns.items()}))
    return found


def of_service(*columns):
    """The row of a service whose names say nothing: UCDs and utypes do."""
    found, = observations(Table([Column([value], name=f'c{i}', meta=meta)
                                 for i, (value, meta) in enumerate(columns)]))
    return found


def test_row_of_mast():
    found = only(obs_id='U27XCS01T', obsid=2003585980, obs_collection='HST', proposal_id='5371',
                 instrument_name='WFPC2/WFC', proposal_pi='Griffiths', filters='F814W',
                 t_min=49756.25506, t_exptime=1500, dataURL='mast:HST/product/u27.fits')
    page = found.page
    assert found == Observation(
        identifier='U27XCS01T', proposal='5371', investigator='Griffiths', collection='HST',
        instrument='WFPC2/WFC', filters='F814W', date='1995-02-08', exposure='1,500 s', page=page,
        data='mast:HST/product/u27.fits')
    address = urlsplit(page)
    assert (address.hostname, address.path) == ('mast.stsci.edu',
                                                '/portal/Mashup/Clients/Mast/Portal.html')
    asked = json.loads(parse_qs(address.query)['searchQuery'][0])
    assert asked['inputText'][0]['paramName'] == 'obs_id'
    assert asked['inputText'][0]['freeText'] == 'U27XCS01T'


def test_row_of_eso():
    found = only(dp_id='ADP.2014-11-12T16:17:06.307', obs_id='477583', proposal_id='179.B-2002(B)',
                 filter='Ks', facility_name='ESO-VISTA')
    assert found.identifier == 'ADP.2014-11-12T16:17:06.307'
    assert found.page == 'https://archive.eso.org/dataset/ADP.2014-11-12T16:17:06.307'
    assert (found.proposal, found.filters, found.facility) == ('179.B-2002(B)', 'Ks', 'ESO-VISTA')
    assert only(obs_publisher_did='ivo://eso.org/ID?ADP.2014-11-12T16:17:06.307').page == found.page
    assert only(preview_html='https://archive.eso.org/x', dp_id='y').page.endswith('/x')


@pytest.mark.parametrize('column', ['obs_id', 'member_ous_uid', 'Member ous id'])
def test_row_of_alma(column):
    found = only(**{column: 'uid://A001/X1295/X35'})
    assert found.page == ('https://almascience.org/aq/?result_view=observation'
                          '&mous=uid:%2F%2FA001%2FX1295%2FX35')
    assert found.identifier == 'uid://A001/X1295/X35'


def test_by_ucd_and_utype():
    found = of_service(
        ('o1', {'utype': 'obscore:DataID.observationID'}),
        (59733.5, {'ucd': 'time.start;obs.exposure'}),
        (20.25, {'utype': 'obscore:Char.TimeAxis.Coverage.Support.Extent'}),
        ('p1', {'utype': 'obscore:Provenance.Proposal.identifier'}),
        ('cam', {'ucd': 'meta.id;instr'}), ('tel', {'ucd': 'meta.id;instr.tel'}),
        ('https://a.example/a.fits', {'ucd': 'VOX:Image_AccessReference'}))
    assert found == Observation(identifier='o1', date='2022-06-03', exposure='20.2 s',
                                proposal='p1', instrument='cam', facility='tel',
                                data='https://a.example/a.fits')


@pytest.mark.parametrize(('name', 'value', 'date'), [
    ('t_min', 59733.99999, '2022-06-03'), ('t_min', '59733.5', '2022-06-03'),
    ('t_min', 2459734.25, '2022-06-03'), ('DATE-OBS', '2022-06-03', '2022-06-03'),
    ('date_obs', '2022-06-03T23:59:59.999', '2022-06-03'),
    ('t_max', '2025-08-21 05:01:12.616', '2025-08-21'), ('t_min', np.nan, ''), ('t_min', 0.0, ''),
    ('t_min', -5e9, ''), ('t_min', np.inf, ''), ('t_min', 1e300, ''), ('date-obs', '03/06/22', ''),
    ('date-obs', '', ''), ('date-obs', '2022-06-0333', ''), ('mjd-obs', 59733, '2022-06-03'),
    ('t_min', u.Quantity(59733.5, u.day), '2022-06-03')])
def test_dates(name, value, date):
    assert only(**{name: value}).date == date


def test_date_of_a_time_column():
    found, = observations(Table({'t_min': Time([59733.5], format='mjd')}))
    assert found.date == '2022-06-03'
    table = Table({'t_min': MaskedColumn([59733.5, 1.0], mask=[0, 1], unit='d')})
    assert [row.date for row in observations(table)] == ['2022-06-03', '']
    # A year is no MJD.
    assert observations(Table({'t_min': Column([2022.4], unit='yr')}))[0].date == ''


@pytest.mark.parametrize(('value', 'unit', 'exposure'), [
    (26.9, None, '26.9 s'), (0.00125, None, '0.00125 s'), (12452.3, 's', '12,452 s'),
    (2.0, 'min', '120 s'), (0.0, 's', ''), (-1, 's', ''), (np.nan, 's', ''), (3.0, 'm', ''),
    (999.7, 's', '1,000 s')])
def test_exposures(value, unit, exposure):
    assert observations(Table({'t_exptime': Column([value], unit=unit)}))[0].exposure == exposure


def test_numbers_of_programmes_have_no_fraction():
    table = Table({'proposal_id': MaskedColumn([1073.0, 2.5, np.nan, 5], mask=[0, 0, 0, 1]),
                   'obsid': MaskedColumn([2**62 + 1, 1, 2, 3], mask=[0, 0, 0, 1])})
    found = observations(table)
    assert [row.proposal for row in found] == ['1073', '2.5', '', '']
    assert [row.identifier for row in found] == [str(2**62 + 1), '1', '2', '']


def test_quantities():
    plain, quantities = (observations(kind(sample.read())) for kind in (Table, QTable))
    assert plain == quantities
    assert plain[0].date == '2024-01-07'


@given(st.text(), st.text())
def test_nothing_strange_gets_into_an_address(name, collection):
    """Only what looks as the archives make it."""
    for columns in ({'obs_id': name, 'obsid': '1', 'obs_collection': 'HST'}, {'dp_id': name},
                    {'obs_publisher_did': name}, {'member_ous_uid': name},
                    {'obs_id': name, 'obs_collection': collection}):
        page = only(**columns).page
        assert page.isascii()
        assert not set(page) & set(' "\'<>\\{}|^`\n')
        assert not page or page.startswith(('https://mast.stsci.edu/', 'https://archive.eso.org/',
                                            'https://almascience.org/'))


def test_row_that_says_nothing():
    assert only(flux=1.0) == Observation()
    assert observations(Table({'obs_id': np.array([], str)})) == []
    assert only(obs_id=np.array(['a', 'b']), t_min=np.array([1.0, 2.0])) == Observation()
