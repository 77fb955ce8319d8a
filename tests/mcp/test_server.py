# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
The server for assistants: what a language model gets, and what it cannot do.
"""

import base64
import inspect
import io
import json
import os
import subprocess
import sys
import warnings
from pathlib import Path

import anyio
import numpy as np
import pytest
from astropy.table import MaskedColumn, Table
from astropy.utils.exceptions import AstropyWarning
from PIL import Image

pytest.importorskip('mcp')

from mcp import StdioServerParameters
from mcp.client.client import Client
from mcp.client.stdio import stdio_client

from astroclip_search import ClipSearchClass, conf, sample
from astroclip_search.cli import main
from astroclip_search.exceptions import NothingRankedWarning, NothingStandsOutWarning, warn
from astroclip_search.mcp import answers, server
from astroclip_search.search.session import Session
from tests.colours import ColourEncoder, best_colour, content, serve_colours
from tests.loopback import until

needs_sample = pytest.mark.skipif(
    not (sample.IMAGE_DIR / 'archive.ecsv').exists(), reason='the checkout has no sample archive')

COLOURS = ('red', 'green', 'blue')


@pytest.fixture(autouse=True)
def encoder(monkeypatch, tmp_path):
    """A model whose answers are known, and a cache of its own."""
    encoder = ColourEncoder()
    monkeypatch.setattr(Session, 'encoder', lambda self: encoder)
    monkeypatch.setattr(Session, 'cache_path',
                        lambda self: tmp_path / 'cache' / 'embeddings.sqlite')
    return encoder


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / 'pictures'
    folder.mkdir()
    for colour in COLOURS:
        (folder / f'{colour}.png').write_bytes(content(colour))
    return folder


@pytest.fixture
def table(folder):
    """A table with a row whose image cannot be read."""
    table = Table({'preview': ['green.png', 'red.png', 'lost.png'], 'target_name': ['G', 'R', 'L'],
                   'obs_id': ['g1', 'r1', 'l1'], 'obs_title': ['Green', 'Red', 'Lost'],
                   's_ra': [10.0, 83.82208, np.nan], 's_dec': [0.0, -5.39111, np.nan]})
    table.write(folder / 'table.ecsv')
    return folder / 'table.ecsv'


def asker(server):
    """Call a tool by the SDK's client; its answer, or the text of an error, and the pictures."""
    def ask(tool, **arguments):
        async def call():
            async with Client(server) as client:
                return await client.call_tool(tool, arguments)

        return anyio.run(call)

    return ask


@pytest.fixture
def ask():
    return asker(server.serve())


def answer(result):
    assert not result.is_error, result.content[0].text
    # Clients that know no structured content read the text.
    assert json.loads(result.content[0].text) == result.structured_content
    return result.structured_content


def error(result):
    assert result.is_error
    assert result.structured_content is None
    said, = (part.text for part in result.content)
    assert '\n' not in said
    return said


def pictures(result):
    return [(label.text, Image.open(io.BytesIO(base64.b64decode(image.data))))
            for label, image in zip(result.content[1::2], result.content[2::2], strict=True)]


# ---- what there is -------------------------------------------------------------------------

@pytest.fixture(scope='module')
def tools():
    async def listed():
        async with Client(server.serve()) as client:
            return (await client.list_tools()).tools, client.instructions

    tools, instructions = anyio.run(listed)
    return {tool.name: tool for tool in tools}, instructions


def test_tools(tools):
    tools, instructions = tools
    assert set(tools) == {'query_text', 'rank', 'refine', 'describe', 'gallery'}
    assert 'false_alarm' in instructions
    for name, tool in tools.items():
        assert tool.title
        assert tool.description == inspect.getdoc(getattr(server.Tools, name))
        assert tool.output_schema['type'] == 'object'
        assert all('description' in field for field in tool.input_schema['properties'].values())
        assert tool.annotations.read_only_hint == (name != 'gallery')
        assert tool.annotations.destructive_hint is False


def test_nothing_to_give_a_secret_to(tools):
    names = {name for tool in tools[0].values() for name in tool.input_schema['properties']}
    assert not {name for name in names if 'token' in name or 'password' in name}


# ---- answers -------------------------------------------------------------------------------

def test_rank_a_folder(ask, folder):
    result = ask('rank', results=str(folder), text='blue', limit=2, pictures=1)
    ranking = answer(result)
    assert (ranking['ranking'], ranking['query']) == ('ranking-1', 'blue')
    assert (ranking['n_rows'], ranking['n_ranked'], ranking['status']) == (3, 3, {'OK': 3})
    assert ranking['model'] == 'colours colours'
    assert 'warnings' not in ranking
    assert len(ranking['rows']) == 2
    assert ranking['rows'][0] == {'rank': 1, 'name': 'blue.png', 'score': 1.0,
                                  'id': str(folder / 'blue.png')}
    (label, image), = pictures(result)
    assert label == 'Rank 1: blue.png'
    assert image.format == 'JPEG'
    assert image.resize((1, 1)).getpixel((0, 0))[2] > 200


def test_rank_a_table(ask, table, folder):
    ranking = answer(ask('rank', results=str(table), text='red', pictures=3))
    first, _, last = ranking['rows']
    assert (first['name'], first['id'], first['title'], first['ra'], first['dec']) == (
        'R', 'r1', 'Red', 83.82208, -5.39111)
    assert first['position'] == '05h35m17.3s -05d23m28.0s'
    assert not {'status', 'message', 'link'} & first.keys()  # nothing to say
    assert (last['name'], last['status']) == ('L', 'ERROR')
    assert last['message'].startswith('cannot read the file')
    assert not {'rank', 'score', 'ra', 'position'} & last.keys()
    warning, = ranking['warnings']
    assert warning.startswith('1 of 3 images could not be read')


def test_rank_by_example_and_against_a_phrase(ask, folder):
    for asked, best in (({'like': [str(folder / 'green.png')]}, 'green.png'),
                        ({'negative': ['green', 'red']}, 'blue.png')):
        ranking = answer(ask('rank', results=str(folder), text='anything', pictures=0, **asked))
        assert ranking['rows'][0]['name'] == best


def test_rank_a_list_of_images_and_one_image(ask, folder):
    some = [str(folder / 'red.png'), str(folder / 'blue.png')]
    assert answer(ask('rank', results=some, text='blue'))['rows'][0]['name'] == 'blue.png'
    assert answer(ask('rank', results=some[0], text='blue'))['n_rows'] == 1


def test_rank_addresses(ask, loopback_images):
    addresses = loopback_images
    ranking = answer(ask('rank', results=addresses, text='green', limit=1, pictures=0))
    assert ranking['rows'][0]['link'].endswith('green.png')


@pytest.fixture
def loopback_images(folder):
    """Addresses of pictures, and a setting that trusts their server."""
    import functools
    import threading
    from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *arguments):
            pass

    handler = functools.partial(Quiet, directory=folder)
    with ThreadingHTTPServer(('127.0.0.1', 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        place = f'127.0.0.1:{server.server_port}'
        with conf.set_temp('private_hosts', [place]):
            yield [f'http://{place}/{colour}.png' for colour in COLOURS]
        server.shutdown()


@pytest.mark.parametrize('results', ['http://127.0.0.1:9/a.png', ['http://127.0.0.1:9/a.png']])
def test_address_in_the_house_is_not_asked(ask, results):
    ranking = answer(ask('rank', results=results, text='red'))
    assert ranking['verdict'] == 'No row could be ranked.'
    assert 'private address' in ranking['rows'][0]['message']


def test_ranking_is_ranked_described_and_shown_by_its_name(ask, folder, tmp_path):
    first = answer(ask('rank', results=str(folder), text='red', pictures=0))
    again = answer(ask('rank', results=first['ranking'], text='green', pictures=0))
    assert (again['ranking'], again['rows'][0]['name']) == ('ranking-2', 'green.png')
    result = ask('describe', results='ranking-2', ranks=[2, 1], phrases=['blue', 'green', 'red'],
                 limit=2, pictures=2)
    images = answer(result)['images']
    assert [image['name'] for image in images][1] == 'green.png'
    assert [len(image['phrases']) for image in images] == [2, 2]
    assert images[1]['phrases'][0] == {'phrase': 'green', 'score': 1.0}
    assert len(pictures(result)) == 2
    page = tmp_path / 'page.html'
    written = answer(ask('gallery', results='ranking-1', path=str(page), n=2))
    assert (written['path'], written['n_pictures'], written['title']) == (str(page), 2, 'red')
    assert written['n_bytes'] == len(page.read_bytes())
    assert ask('gallery', results='ranking-2', path=str(page)).is_error is False  # over its own


def test_what_the_user_says_of_a_ranking(ask, folder):
    ask('rank', results=str(folder), text='red green', pictures=0)
    refined = answer(ask('refine', results='ranking-1', liked=[3], disliked=[1], pictures=0))
    assert refined['ranking'] == 'ranking-2'
    assert refined['rows'][0]['name'] == 'blue.png'
    again = answer(ask('refine', results='ranking-2', text='green', pictures=0))
    assert (again['query'], again['rows'][0]['name']) == ('green', 'blue.png')  # still liked
    assert 'no ranking that is known' in error(ask('refine', results=str(folder), liked=[1]))
    assert 'rank 9' in error(ask('refine', results='ranking-1', liked=[9]))


def test_describe_the_first_of_a_folder(ask, folder, encoder):
    images = answer(ask('describe', results=str(folder), phrases=['blue', 'red']))['images']
    assert [image['name'] for image in images] == ['blue.png']
    assert encoder.n_images == 1  # not the whole folder


def test_describe_what_cannot_be_read(ask, table, folder):
    image, = answer(ask('describe', results=str(folder / 'blue.png'),
                        phrases=['blue', 'red']))['images']
    assert image['phrases'][0]['phrase'] == 'blue'
    images = answer(ask('describe', results=str(table), n_images=3,
                        phrases=['blue', 'red']))['images']
    assert (images[2]['name'], images[2]['status']) == ('L', 'ERROR')
    assert 'phrases' not in images[2]


def test_old_rankings_are_forgotten(monkeypatch, folder):
    monkeypatch.setattr('astroclip_search.mcp.server._MOST_RANKINGS', 1)
    ask = asker(server.serve())
    for _ in range(2):
        answer(ask('rank', results=str(folder), text='red', pictures=0))
    assert error(ask('rank', results='ranking-1', text='red')).startswith(
        "'ranking-1' is not known any more")


def test_pictures_stay_within_a_limit(monkeypatch, ask, folder):
    monkeypatch.setattr('astroclip_search.mcp.server._MOST_BYTES', 800)
    assert len(pictures(ask('rank', results=str(folder), text='red', pictures=3))) < 3


def test_progress(monkeypatch, encoder, folder):
    """An assistant that asks for it is told how far the work is, and not for ever."""
    encode, told = encoder.encode_images, []

    def slowly(pixels):
        until(lambda: len(told) > 1 and 'of 3 images' in told[-1][1])
        return encode(pixels)

    monkeypatch.setattr(encoder, 'encode_images', slowly)
    monkeypatch.setattr('astroclip_search.mcp.server._EVERY', 0.02)

    async def said(done, total, message):
        told.append((done, message))

    async def call():
        async with Client(server.serve()) as client:
            await client.call_tool('rank', {'results': str(folder), 'text': 'red'},
                                   progress_callback=said)
            await client.call_tool('rank', {'results': '/none', 'text': 'red'})
            n = len(told)
            await anyio.sleep(0.1)
            return n

    assert anyio.run(call) == len(told) > 1
    assert told == sorted(told)
    assert any(message.startswith('0 of 3 images embedded, 0 failed, ') for _, message in told)


def test_query_text(serve):
    serve_colours(serve, ['blue', 'red', 'green'])
    ranking = answer(asker(server.serve())('query_text', text='red', limit=1,
                                               criteria={'obs_collection': 'HST'}))
    assert best_colour(Table({'jpegURL': [ranking['rows'][0]['link']]})) == 'red'
    assert ranking['n_rows'] == 3
    assert ranking['selection'].startswith('MAST')


@pytest.mark.parametrize(('chance', 'said'), [
    (0.9, 'Nothing stands out'), (0.9, 'Look at the pictures'), (0.1, '2 of 300 pictures score'),
    (0.1, 'by chance it would be about 3.')])
def test_verdict(chance, said):
    """Whether there is anything is said, and how many would be there by chance."""
    alarms = MaskedColumn(np.full(301, 0.5), mask=np.arange(301) == 300)
    alarms[:2] = 0.001
    best = Table({'clip_rank': np.arange(1, 302), 'clip_false_alarm': alarms,
                  'clip_status': ['OK'] * 301, 'clip_message': [''] * 301},
                 meta={'clip': {'query': ['a'], 'chance': chance, 'n_rows': 301, 'n_ranked': 301,
                                'status': {}, 'model': 'm', 'revision': '1'}})
    told = answers.ranking('ranking-1', best, ['http://a.example/1.jpg'])
    assert said in told.verdict
    row, = told.rows
    assert row.false_alarm == 0.001
    assert row.in_words == '1 in 1,000 unrelated images scores this high'
    assert row.link == 'http://a.example/1.jpg'


def test_verdict_is_not_repeated_as_a_warning(monkeypatch, ask, folder):
    rank = ClipSearchClass.rank

    def doubtful(self, *arguments, **options):
        warn('Nothing stands out: of 3 rows', NothingStandsOutWarning)
        warn('Something else', NothingRankedWarning)
        warnings.warn('Of a library', AstropyWarning, stacklevel=2)
        return rank(self, *arguments, **options)

    monkeypatch.setattr(ClipSearchClass, 'rank', doubtful)
    ranking = answer(ask('rank', results=str(folder), text='red', pictures=0))
    assert ranking['warnings'] == ['Something else']


# ---- what it cannot do -----------------------------------------------------------------------

@pytest.mark.parametrize(('results', 'said'), [
    ('relative.ecsv', 'is not the whole path'), ('', 'is not the whole path'),
    ('~nobody-has-this-name/x.png', 'is not the whole path'), ('/a\0b.png', 'whole path'),
    ('{folder}/secret.txt', 'its name does not end in'), ('{folder}/none.png', 'There is no file'),
    ('{folder}/none/none.png', 'There is no folder'), ('file://{folder}/red.png', 'whole path'),
    ('s3://bucket/red.png', 'whole path'), ('ranking-7', 'is not known any more'),
    ([], '1 to 1,000'), (['x'] * 1001, '1 to 1,000'),
    (['http://a.example/a.png', '/etc/passwd'], 'whole path'),
    (['/etc/passwd'], 'its name does not end in')])
def test_what_is_not_read(ask, folder, results, said):
    (folder / 'secret.txt').write_text('secret')
    if isinstance(results, str):
        results = results.replace('{folder}', str(folder))
    assert said in error(ask('rank', results=results, text='red'))


def test_link_to_something_else_is_not_read(ask, folder):
    (folder / 'secret.txt').write_text('secret')
    (folder / 'link.png').symlink_to(folder / 'secret.txt')
    assert 'its name does not end in' in error(ask('rank', results=str(folder / 'link.png'),
                                                   text='red'))


def test_votable_with_its_rows_elsewhere_is_not_read(ask, folder):
    (folder / 'secret.txt').write_text('secret')
    (folder / 'a.vot').write_text(
        '<VOTABLE version="1.4"><RESOURCE><TABLE><FIELD name="a" datatype="int"/><DATA><BINARY>'
        f'<STREAM href="{(folder / "secret.txt").as_uri()}"/></BINARY></DATA></TABLE></RESOURCE>'
        '</VOTABLE>')
    assert 'it has its rows elsewhere' in error(ask('rank', results=str(folder / 'a.vot'),
                                                    text='red'))


def test_huge_folder_is_not_walked(monkeypatch, ask, folder):
    monkeypatch.setattr('astroclip_search.mcp.server._MOST_FILES', 2)
    assert 'more than 2 files' in error(ask('rank', results=str(folder), text='red'))


def test_folders_are_a_limit(folder, tmp_path):
    (tmp_path / 'other').mkdir()
    (tmp_path / 'other' / 'red.png').write_bytes(content('red'))
    (folder / 'out').symlink_to(tmp_path / 'other')
    ask = asker(server.serve([folder]))
    assert answer(ask('rank', results=str(folder / 'red.png'), text='red'))
    for path in (tmp_path / 'other' / 'red.png', folder / '..' / 'other' / 'red.png',
                 folder / 'out' / 'red.png', tmp_path):
        assert 'outside of what this server may use' in error(
            ask('rank', results=str(path), text='red'))
    for arguments in ({'path': str(tmp_path / 'g.html')},
                      {'path': str(folder / 'g.html'), 'image_dir': str(tmp_path)}):
        assert 'outside' in error(ask('gallery', results=str(folder / 'red.png'), **arguments))
    assert not list(tmp_path.glob('*.html'))


def test_links_and_tables_lead_to_no_picture_outside(folder, tmp_path):
    """Nor does what the cache knows from another day."""
    other = tmp_path / 'other'
    other.mkdir()
    for colour in ('red', 'blue'):
        (other / f'{colour}.png').write_bytes(content(colour) + b'other')
    ClipSearchClass(cache_dir=tmp_path / 'mine').rank(other, 'red')
    ask = asker(server.serve([folder]))
    (folder / 'link.png').symlink_to(other / 'red.png')
    (folder / 'name\x1b.png').write_bytes(content('green') + b'1')
    found = answer(ask('rank', results=str(folder), text='red', pictures=12))
    assert found['n_rows'] == 4
    assert not any('link' in row['name'] for row in found['rows'])
    for path in folder.glob('*.png'):
        if path.name != 'link.png':
            path.unlink()
    assert 'are elsewhere, where this server may not look' in error(
        ask('rank', results=str(folder), text='red'))
    for source in (other / 'red.png', folder / 'link.png', folder / '..' / 'other' / 'red.png',
                   f'file://{other}/red.png', '../other/red.png'):
        for column in ('clip_source', 'preview'):
            table = Table({column: [str(source)]})
            if column == 'clip_source':
                table['clip_status'] = 'OK'
            table.write(folder / 'mailed.ecsv', overwrite=True)
            result = ask('rank', results=str(folder / 'mailed.ecsv'), text='red', pictures=12)
            assert answer(result)['n_ranked'] == 0
            assert not pictures(result)
            page = folder / 'page.html'
            ask('gallery', results=str(folder / 'mailed.ecsv'), path=str(page))
            assert 'data:image' not in page.read_text('utf-8')


@pytest.mark.parametrize(('name', 'said'), [
    ('page.txt', 'does not end in .html'), ('theirs.html', 'is no gallery'),
    ('none/page.html', 'There is no folder'), ('folder.html', 'is no gallery')])
def test_what_is_not_written(ask, folder, name, said):
    (folder / 'theirs.html').write_text('<p>mine</p>')
    (folder / 'folder.html').mkdir()
    assert said in error(ask('gallery', results=str(folder / 'red.png'), path=str(folder / name)))
    assert (folder / 'theirs.html').read_text() == '<p>mine</p>'


@pytest.mark.parametrize(('name', 'value'), [('like', '/etc/a.png'), ('cache', 0)])
def test_criterion_that_is_an_option_is_refused(mast, ask, name, value):
    """It could name a file."""
    assert f"'{name}'" in error(ask('query_text', text='red', criteria={name: value}))


@pytest.mark.parametrize(('arguments', 'said'), [
    ({'text': ''}, 'text has no word'), ({'group_by': 'none'}, 'none'),
    ({'like': ['/etc/passwd']}, 'does not end in')])
def test_wrong_arguments_are_told_in_a_sentence(ask, folder, arguments, said):
    assert said in error(ask('rank', **{'results': str(folder), 'text': 'red', **arguments}))


@pytest.mark.parametrize('ranks', [[], [0], [4], [1, 99]])
def test_ranks_that_are_not_there(ask, folder, ranks):
    answer(ask('rank', results=str(folder), text='red', pictures=0))
    assert error(ask('describe', results='ranking-1', ranks=ranks)) == (
        'The ranks of this ranking are 1 to 3.')
    assert 'have ranks' in error(ask('describe', results=str(folder), ranks=[1]))


@pytest.mark.parametrize('arguments', [{'limit': 51}, {'limit': 0}, {'pictures': 13},
                                       {'text': 'x' * 501}, {'negative': ['x'] * 11}])
def test_limits(ask, folder, arguments):
    assert ask('rank', **{'results': str(folder), 'text': 'red', **arguments}).is_error


def test_defect_is_not_told_to_the_model(ask, folder, monkeypatch, capsys):
    def broken(*arguments, **options):
        raise ValueError('secret')

    monkeypatch.setattr(ClipSearchClass, 'rank', broken)
    result = ask('rank', results=str(folder), text='red')
    assert result.is_error
    assert 'secret' not in result.content[0].text


# ---- a real process ----------------------------------------------------------------------------

@needs_sample
def test_task_of_an_assistant(tmp_path):
    """Find the disks of the sample archive, describe the first, make a gallery; over stdio."""
    names = ('XDG_CACHE_HOME', 'XDG_CONFIG_HOME', 'HF_HOME', 'HF_HUB_OFFLINE')
    environment = {name: os.environ[name] for name in names if name in os.environ}
    page, progress = tmp_path / 'disks.html', []

    async def said(done, total, message):
        progress.append((done, message))

    async def task():
        command = StdioServerParameters(
            command=sys.executable, args=['-m', 'astroclip_search', 'mcp', str(tmp_path)],
            env=environment, cwd=Path(__file__).parents[2])
        async with Client(stdio_client(command)) as client:
            disks = await client.call_tool('rank', {
                'results': 'sample', 'text': 'protoplanetary disk', 'limit': 3, 'pictures': 2},
                progress_callback=said)
            first = await client.call_tool('describe', {'results': 'ranking-1', 'ranks': [1]})
            nothing = await client.call_tool('gallery', {
                'results': 'ranking-1', 'path': str(tmp_path.parent / 'x.html')})
            written = await client.call_tool('gallery', {'results': 'ranking-1',
                                                         'path': str(page)})
            return disks, first, nothing, written

    disks, first, nothing, written = anyio.run(task)
    assert 'disk' in [phrase['phrase'].rstrip('s').split()[-1]
                      for phrase in answer(first)['images'][0]['phrases']][:2]
    ranking = answer(disks)
    assert ranking['n_ranked'] == 69
    assert ranking['rows'][0]['false_alarm'] < 0.01
    assert 'by chance' in ranking['verdict']
    assert ranking['rows'][0]['in_words'].startswith('1 in ')
    assert len(pictures(disks)) == 2
    assert 'outside' in error(nothing)
    assert answer(written)['n_pictures'] == 24
    assert page.read_text('utf-8').count('data:image/jpeg') == 24


def test_as_a_module_it_serves_until_the_client_goes():
    done = subprocess.run([sys.executable, '-m', 'astroclip_search.mcp'], input='', check=True,
                          capture_output=True, text=True, timeout=300,
                          cwd=Path(__file__).parents[2])
    assert done.stdout == ''


def test_without_the_sdk_the_command_says_what_to_install(monkeypatch, capsys):
    monkeypatch.delitem(sys.modules, 'astroclip_search.mcp.server')
    monkeypatch.setitem(sys.modules, 'mcp.server.mcpserver', None)
    assert main(['mcp']) == 2
    assert capsys.readouterr().err == (
        'astroclip-search: The server needs the MCP SDK: pip install "astroclip-search[mcp]".\n')
