# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Settings: readable, documented, and effective at once.
"""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from astropy.config import ConfigItem, configuration, set_temp_config
from astroquery.exceptions import InvalidQueryError

from astroclip_search import ClipSearch, Conf, conf
from astroclip_search.cli import main
from tests.colours import ColourEncoder, content

ITEMS = [name for name, item in vars(Conf).items() if isinstance(item, ConfigItem)]


@pytest.mark.parametrize('name', ITEMS)
def test_every_item_has_a_value_and_a_description(name):
    item = getattr(Conf, name)
    assert type(getattr(conf, name)) in (str, int, float, bool, list)
    assert item.description.endswith('.')
    assert item.module == 'astroclip_search'
    with conf.set_temp(name, getattr(conf, name)):
        pass


def test_defaults():
    assert (conf.model, conf.device, conf.max_images) == ('default', 'auto', 500)
    with pytest.raises(TypeError), conf.set_temp('device', 'toaster'):
        pass


@pytest.mark.parametrize(('name', 'value'), [
    ('thumbnail_size', 0), ('thumbnail_size', -5), ('timeout', 0), ('n_connections', 0),
    ('max_images', -1), ('retries', 1.5), ('mast_max_rows', 0), ('batch_size', -1)])
def test_numbers_that_make_no_sense_are_refused(name, value):
    before = getattr(conf, name)
    with pytest.raises(TypeError, match=name), conf.set_temp(name, value):
        pass
    assert getattr(conf, name) == before


@pytest.fixture
def search(tmp_path):
    (tmp_path / 'red.png').write_bytes(content('red'))
    return ClipSearch(encoder=ColourEncoder(), cache_dir=tmp_path / 'cache')


@pytest.mark.parametrize(('name', 'value', 'message'), [
    ('max_pixels', 10, 'conf.max_pixels'), ('max_bytes', 10, 'conf.max_bytes')])
def test_limits_take_effect_at_once(search, tmp_path, name, value, message):
    from astroclip_search.exceptions import NothingRankedWarning

    with conf.set_temp(name, value), pytest.warns(NothingRankedWarning, match=message):
        search.rank(tmp_path / 'red.png', 'red')
    assert search.rank(tmp_path / 'red.png', 'red')['clip_status'][0] == 'OK'


def test_thumbnail_size(search, tmp_path):
    import io

    from PIL import Image

    image = Image.new('RGB', (300, 200), 'red')
    image.paste('black', (0, 0, 100, 100))
    image.save(tmp_path / 'big.png')
    for size in (50, 100):
        with conf.set_temp('thumbnail_size', size):
            only, = search.gallery(tmp_path / 'big.png').cards
        assert max(Image.open(io.BytesIO(only.jpeg)).size) == size


def test_a_thumbnail_is_no_reason_to_decode_more(search, tmp_path):
    import io

    from PIL import Image

    for side, expected in {380: 256, 400: 200}.items():  # half of it is nearly enough
        image = Image.new('RGB', (side, side), 'red')
        image.paste('black', (0, 0, 100, 100))
        image.save(tmp_path / f'{side}.jpg')
        only, = search.gallery(search.rank(tmp_path / f'{side}.jpg', 'red')).cards
        assert Image.open(io.BytesIO(only.jpeg)).width == expected


@pytest.mark.parametrize(('value', 'plane'), [
    ('middle', 'middle'), ('peak', 'peak'), ('sum', 'sum'), (0, 0), (12, 12), ('3', 3),
    (np.int64(5), 5)])
def test_planes(value, plane):
    with conf.set_temp('plane', value):
        assert conf.plane == plane
        assert type(conf.plane) is type(plane)
    assert conf.plane == 'middle'


@pytest.mark.parametrize('value', ['', 'Peak', 'mean', -1, '-1', 1.5, '1.5', None, True, [1],
                                   '１', '1_0', ' 1', '9' * 5000])
def test_what_is_no_plane(value):
    with (pytest.raises(TypeError, match="'middle', 'peak', 'sum' or the number of a plane"),
          conf.set_temp('plane', value)):
        pass
    assert conf.plane == 'middle'


def test_model_is_read_at_the_time_of_the_call():
    from astroclip_search.exceptions import BundleError

    fresh = ClipSearch()
    with conf.set_temp('model', 'no such model'):
        assert repr(fresh) == "<ClipSearchClass model='no such model'>"
        with pytest.raises(BundleError, match='no such model'):
            fresh.encode_text('red')
    assert repr(fresh) == "<ClipSearchClass model='default'>"


def test_the_variant_is_that_of_the_setting():
    from astroclip_search.exceptions import BundleError

    revision = ClipSearch.session.encoder().bundle.revision
    with conf.set_temp('model_variant', 'int8'):
        assert ClipSearch.session.encoder().bundle.revision == f'{revision}-int8'
    with conf.set_temp('model_variant', 'fp16'), pytest.raises(BundleError, match='variant fp16'):
        ClipSearch.encode_text('red')


@pytest.mark.parametrize('lines', [
    {'max_images = 7': 7, 'device = cpu': 'cpu', 'timeout = 2.5': 2.5,
     'show_progress = False': False, 'mast_collections = HLA': ['HLA'], 'model = a/b': 'a/b',
     'mast_calib_levels = 2': ['2'], 'private_hosts = localhost:8080': ['localhost:8080'],
     'model_variant = int8': 'int8', 'plane = 4': 4},
    {'plane = peak': 'peak',
     'timeout = 2': 2.0, 'query_timeout = 0': 0.0, 'show_progress = live': 'live',
     'mast_collections = HST, JWST, HLA': ['HST', 'JWST', 'HLA'],
     'private_hosts = a.local, b.local:81': ['a.local', 'b.local:81']}])
def test_configuration_file(tmp_path, lines):
    folder = tmp_path / 'astropy'  # where those of all affiliated packages are
    folder.mkdir()
    (folder / 'astroclip_search.cfg').write_text('\n'.join(lines))
    names = [line.split(' = ')[0] for line in lines]
    program = f'from astroclip_search import conf; print([getattr(conf, n) for n in {names}])'
    done = subprocess.run([sys.executable, '-W', 'error', '-c', program], capture_output=True,
                          text=True, check=False, timeout=300, cwd=Path(__file__).parents[2],
                          env=os.environ | {'XDG_CONFIG_HOME': str(tmp_path)})
    assert (done.stdout, done.stderr) == (f'{[*lines.values()]}\n', '')


@pytest.mark.parametrize('line', ['max_images = many', 'plane = upside', 'device = toaster'])
def test_a_bad_value_in_the_file_is_named(tmp_path, monkeypatch, line):
    name = line.partition(' ')[0]
    with set_temp_config(tmp_path):
        file = Path(configuration.get_config_filename('astroclip_search'))
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(line)
        monkeypatch.setattr(configuration, '_cfgobjs', {})  # it is read once
        with pytest.raises(InvalidQueryError, match=f'{name} in .*astroclip_search.cfg is not'):
            getattr(conf, name)
        code = main(['rank', str(tmp_path), 'red'])
    assert code == 2


def test_the_guide_has_every_item_and_its_default():
    guide = Path(__file__).parents[2] / 'docs' / 'user_guide' / 'configuration.rst'
    rows = guide.read_text(encoding='utf-8').split('\n    * - ')[2:]
    told = {}
    for row in rows:
        name, default, _ = [cell.strip().strip('`') for cell in row.split('\n      -')]
        told[name] = default
    assert set(told) == set(ITEMS)
    for name, default in told.items():
        value = getattr(Conf, name).defaultvalue
        value = ', '.join(value) if isinstance(value, list) else value
        if isinstance(value, bool):
            default = default == 'True'
        elif isinstance(value, int | float):
            number, _, unit = default.replace(',', '').partition(' ')
            default = float(number) * {
                '': 1, 'MiB': 1024**2, 'GiB': 1024**3, 'million': 10**6}[unit]
        assert value == default, name
