"""Proposals: the forms in which STScI publishes them, and what is broken in real files."""

import io
import json
import zipfile
from base64 import b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip('astroquery', reason='this step needs the run-time dependencies')

from export.__main__ import main
from export.data.proposals import Proposal, read_catalogue, read_programme, read_proposals
from tests.loopback.mast import Mast
from tests.loopback.proposals import catalogue, entry

RULE = '-' * 77


def read(folder, content):
    path = folder / 'abstracts.cat'
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_proposals(path)


# ---- the catalogue -----------------------------------------------------------------------


def test_an_entry(tmp_path):
    text = f'''{RULE}
Prop. Type: GO/PAR
Category:   STELLAR POPULATIONS
ID:         09999
Cycle:      12
Title:      A long title that goes on
            in the next line: Part 2
PI:         Nobody

We look at stars.  Title: is a word here,
Category: GALAXIES is one as well,
ID: 5 too.

A second paragraph.
{RULE}
'''
    proposals, problems = read(tmp_path, text)
    assert proposals == [Proposal(
        '9999', 'We look at stars. Title: is a word here, Category: GALAXIES is one as well, '
        'ID: 5 too. A second paragraph.', 'A long title that goes on in the next line: Part 2',
        'STELLAR POPULATIONS', 'GO/PAR', 12)]
    assert problems == []


def test_forms_of_the_file_that_do_not_matter(tmp_path):
    entries = [entry(11, 'One', 'First abstract.'), entry(2, 'Two', 'Second abstract.')]
    expected = read(tmp_path, catalogue(entries))
    assert [proposal.number for proposal in expected[0]] == ['2', '11']
    text = catalogue(entries)
    for other in (text.replace('\n', '\r\n'), '\ufeff' + text, '\n\n' + text,
                  text.removesuffix(RULE + '\n'), text.replace('\n', '  \n'),
                  text.replace(RULE, '-----'), text.replace('\n', '\n\t').expandtabs()):
        assert read(tmp_path, other) == expected


def test_latin_1_and_utf_8(tmp_path):
    text = catalogue([entry(7, 'Étoiles', 'Bow shocks à la Ångström.')])
    for encoding in ('utf-8', 'latin-1'):
        (proposal,), problems = read(tmp_path, text.encode(encoding))
        assert (proposal.title, proposal.abstract) == ('Étoiles', 'Bow shocks à la Ångström.')
        assert not problems


def test_what_is_missing_but_not_needed(tmp_path):
    text = catalogue(['ID: 1\nTitle: No PI\n\nAbstract of 1.\n',
                      'ID: 2\nPI: Nobody\nAbstract right below.\n',
                      'Prop. Type:\nCategory:\nID: 3\nCycle:\nTitle:\nPI:\n\nAbstract of 3.\n',
                      'ID: 5\nPI: N\n\nCycle: no matter.\nCategory: none.\n',
                      'ID: 4\nCycle: unknown\n\nTitle: Gaps\n\nPI: N\n\nAbstract of 4.\n'])
    proposals, problems = read(tmp_path, text)
    assert proposals == [
        Proposal('1', 'Abstract of 1.', 'No PI'), Proposal('2', 'Abstract right below.'),
        Proposal('3', 'Abstract of 3.'), Proposal('4', 'Abstract of 4.', 'Gaps'),
        Proposal('5', 'Cycle: no matter. Category: none.')]
    assert not problems


@pytest.mark.parametrize(('broken', 'problem'), [
    ('Title: A\nPI: B\n\nWithout a number.\n', 'line 11: the line "ID:" is missing'),
    ('ID: 12A4\nTitle: A\nPI: B\n\nWith a strange one.\n', "line 11: '12A4' is no proposal number"),
    ('ID: 0\nTitle: A\nPI: B\n\nWith none.\n', "line 11: '0' is no proposal number"),
    ('ID: 77\nTitle: Empty\nPI: B\n\n\n', 'line 11: proposal 77 has no abstract'),
    ('ID: 77\nTitle: Cut off', 'line 11: proposal 77 has no abstract'),
    (entry(1, 'Other', 'Another text.'),
     'line 11: proposal 1 again, with another text: the first one is kept'),
    ('Some words of nobody.\n', 'line 11: the line "ID:" is missing'),
])
def test_a_broken_entry_costs_no_other_one(tmp_path, broken, problem):
    good = entry(1, 'One', 'First abstract.', category='AGN')
    text = catalogue([good, broken, entry(2, 'Two', 'Second abstract.')])
    assert text.splitlines()[9] == RULE  # the broken one begins in line 11
    proposals, problems = read(tmp_path, text)
    assert [(one.number, one.abstract) for one in proposals] == [
        ('1', 'First abstract.'), ('2', 'Second abstract.')]
    assert problems == [problem]


def test_a_missing_rule_and_a_repeated_entry(tmp_path):
    one, two = entry(1, 'One', 'First abstract.'), entry(2, 'Two', 'Second abstract.')
    proposals, problems = read(tmp_path, f'{RULE}\n{one}{two}{RULE}\n{RULE}\n{one}')
    assert [(one.number, one.abstract) for one in proposals] == [
        ('1', 'First abstract.'), ('2', 'Second abstract.')]
    assert not problems


@pytest.mark.parametrize('content', [b'', b'<html><body>Moved</body></html>', bytes(range(256))])
def test_something_else_is_no_catalogue(tmp_path, content):
    with pytest.raises(ValueError, match=r'no proposals found\. It should be abstracts'):
        read(tmp_path, content)


def test_no_such_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_proposals(tmp_path / 'none.cat')
    with pytest.raises(ValueError, match='no proposals found'):
        read_proposals(tmp_path)


_words = st.lists(st.text(st.characters(exclude_categories=('Z', 'C')), min_size=1, max_size=9),
                  min_size=1, max_size=40).map(' '.join)


@given(number=st.integers(1, 99999), title=_words, abstract=_words, others=st.booleans())
def test_what_is_written_is_read(tmp_path_factory, number, title, abstract, others):
    # What looks like the form itself cannot be told from it.
    if '-----' in abstract or ':' in title + abstract:
        return
    neighbours = [entry(100000, 'T', 'A.'), entry(100001, 'T', 'A.')] if others else ['', '']
    path = tmp_path_factory.getbasetemp() / 'round.cat'
    path.write_text(catalogue([neighbours[0], entry(number, title, abstract), neighbours[1]]),
                    encoding='utf-8')
    proposals, problems = read_proposals(path)
    assert proposals[0] == Proposal(str(number), abstract, title, '', 'GO', 12)
    assert len(proposals) == (3 if others else 1)
    assert not problems


@given(st.binary(max_size=400) | st.text(
    st.sampled_from('Prop. Type: ID Title PI-\n\t0123456789'), max_size=400).map(str.encode))
def test_no_content_is_an_accident(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / 'any.cat'
    path.write_bytes(content)
    for place, proposal in read_catalogue(path)[0]:
        assert place.startswith('line ')
        assert int(proposal.number) > 0
        assert proposal.abstract.strip()


# ---- files of programmes -----------------------------------------------------------------

HST_XML = '''<?xml version="1.0"?>
<HSTProposal Phase2ID="12345">
  <ProposalInformation Category="GO" Cycle="18" ScientificCategory="AGN/Quasars">
    <Title>
      Jets of
      quasars</Title>
    <Abstract>We ask for
      images of <b>jets</b>.</Abstract>
    <PrincipalInvestigator FirstName="No" LastName="Body"/>
  </ProposalInformation>
</HSTProposal>'''
JWST_XML = '''<?xml version="1.0"?>
<JwstProposal xmlns="http://www.stsci.edu/JWST/APT" schemaVersion="51">
  <ProposalInformation>
    <Title>Cold dust</Title><Abstract>We map dust.</Abstract>
    <ProposalID>02107</ProposalID><ProposalCategory>{}</ProposalCategory>
    <ScientificCategory>Galaxies</ScientificCategory><Cycle>1</Cycle>
  </ProposalInformation>
</JwstProposal>'''
COLD_DUST = Proposal('2107', 'We map dust.', 'Cold dust', 'Galaxies', 'GO', 1)


def archive(*members):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, 'w') as file:
        for name, content in members:
            # Without the time, which would be in the names of tests.
            file.writestr(zipfile.ZipInfo(name), content)
    return stream.getvalue()


def test_a_programme_of_hst(tmp_path):
    path = tmp_path / '12345.apt'
    path.write_text(HST_XML)
    assert read_programme(path) == Proposal('12345', 'We ask for images of jets.',
                                            'Jets of quasars', 'AGN/Quasars', 'GO', 18)


@pytest.mark.parametrize('kind', ['GO', '<GO/>'])
def test_a_programme_of_jwst(tmp_path, kind):
    path = tmp_path / '2107.aptx'
    path.write_bytes(archive(('manifest', 'x'), ('a.xml', '<other/>'),
                             ('2107.xml', JWST_XML.format(kind))))
    assert read_programme(path) == COLD_DUST


@pytest.mark.parametrize(('name', 'content', 'problem'), [
    ('1.xml', b'<html>', r'no XML \('), ('1.aptx', b'PK\x03\x04damaged', r'no XML \('),
    ('1.aptx', archive(('manifest', 'x')), 'no XML file in the archive'),
    ('1.aptx', archive(('1.xml', JWST_XML))[:-30] + bytes(30), r'no XML \('),
    ('1.xml', b'<a/>', 'no ProposalInformation'),
    ('1.xml', b'<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>', 'entities'),
    ('x.xml', b'<ProposalInformation><Abstract>A</Abstract></ProposalInformation>',
     'neither the file nor its name'),
    ('1.xml', b'<ProposalInformation><Abstract> </Abstract></ProposalInformation>',
     'proposal 1 has no abstract')])
def test_a_broken_programme(tmp_path, name, content, problem):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=problem):
        read_programme(tmp_path / name)
    (tmp_path / '2107.aptx').write_bytes(archive(('2107.xml', JWST_XML.format('GO'))))
    proposals, problems = read_proposals(tmp_path)
    assert proposals == [COLD_DUST]
    assert len(problems) == 1
    assert problems[0].startswith(f'{name}: ')


def test_xml_larger_than_any_programme(tmp_path, monkeypatch):
    monkeypatch.setattr('export.data.proposals._MAX_XML', 1000)
    path = tmp_path / '1.aptx'
    path.write_bytes(archive(('1.xml', b' ' * 1001)))
    with pytest.raises(ValueError, match='larger than 1000 bytes'):
        read_programme(path)


@pytest.fixture
def programmes():
    """A server with programmes 2105 and 2107; it says of 2106 in a page that there is none."""
    from tests.loopback.archive import Archive

    content = archive(('2107.xml', JWST_XML.format('GO')))
    with Mast(Archive([], {'/apt/2105.aptx': content, '/apt/2107.aptx': content,
                           '/apt/2106.aptx': b'<html>no such programme</html>'})) as server:
        yield server


def test_programmes_are_downloaded_once(programmes, tmp_path, capsys):
    command = ['proposals', '2104-2107', '--out', str(tmp_path / 'apt'),
               '--address', programmes.url + '/apt/{number}.aptx']
    assert main(command) == 0
    assert sorted(path.name for path in (tmp_path / 'apt').iterdir()) == [
        '2105.aptx', '2107.aptx', 'missing.txt']
    assert (tmp_path / 'apt' / 'missing.txt').read_text().split() == ['2104', '2106']
    assert read_proposals(tmp_path / 'apt')[0] == [COLD_DUST]
    assert main(command) == 0
    assert len(programmes.log) == 4
    assert {method for method, _ in programmes.log} == {'GET'}


def test_a_server_that_is_down_stops_the_download(programmes, tmp_path, capsys):
    programmes.faults['2107'] = 'status:400'
    command = ['proposals', '2105', '2106-2107', '--out', str(tmp_path / 'apt'),
               '--address', programmes.url + '/apt/{number}.aptx']
    assert main(command) == 1
    assert 'HTTP 400' in capsys.readouterr().err
    programmes.faults.clear()
    assert main(command) == 0
    assert (tmp_path / 'apt' / '2107.aptx').exists()
    assert [what for _, what in programmes.log].count('/apt/2105.aptx') == 1


def test_summaries_are_made_of_what_is_written_here(tmp_path):
    """The list of proposals is the one that ``export summarise`` reads."""
    summarise = pytest.importorskip('export.data.summarise')
    pytest.importorskip('scipy', reason='pictures are compared with scipy: see [export]')
    from export.data.hst import Settings, collect
    from export.data.split import finish

    (tmp_path / 'units').mkdir()
    (tmp_path / 'units' / '5.json').write_text(json.dumps(
        {'number': '5', 'images': [{
            'id': 'a', 'file': 'a.jpg', 'title': '', 'labels': [], 'instrument': '', 'filters': '',
            'ra': None, 'dec': None, 'size': [1, 1], 'address': '',
            'thumbnail': b64encode(bytes(1024)).decode()}],
         'never': {}, 'later': {}}))
    proposals = [Proposal('5', 'Words.', 'Title', 'AGN')]
    collect([], tmp_path, Settings('HST'))
    finish(proposals, tmp_path)
    row, = summarise.read_proposals(tmp_path)
    assert {name: row[name] for name in ('proposal_id', 'abstract', 'title', 'category')} == {
        'proposal_id': '5', 'abstract': 'Words.', 'title': 'Title', 'category': 'AGN'}
