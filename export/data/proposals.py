"""
Observing proposals of HST and JWST: what STScI publishes of them in words.

Two kinds of source are read: the catalogue of HST abstracts [1]_, one text file in which an entry
is a few lines ``Name: value``, an empty line and the abstract, set apart by lines of dashes; and
the files of the Astronomer's Proposal Tool, one for each programme, which are XML (``.apt``, of
HST) or an archive with XML inside (``.aptx``, of JWST) [2]_.

References
----------
.. [1] ``abstracts.cat`` of https://archive.stsci.edu/hst/proposal_abstracts.html
.. [2] ``https://www.stsci.edu/jwst/phase2-public/<number>.aptx``, and likewise ``hst`` and ``.apt``
"""

import argparse
import io
import re
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from astroclip_search import __version__
from astroclip_search.exceptions import ImageError
from astroclip_search.status import reason

__all__ = ['Proposal', 'download', 'main', 'read_catalogue', 'read_programme', 'read_proposals',
           'write_whole']

#: Where the files of programmes are; ``--address`` replaces it.
ADDRESSES = {'HST': 'https://www.stsci.edu/hst/phase2-public/{number}.apt',
             'JWST': 'https://www.stsci.edu/jwst/phase2-public/{number}.aptx'}

_SUFFIXES = ('.apt', '.aptx', '.xml')
_MAX_XML = 64 * 1024**2
_NONE = reason('http', code=404), reason('http', code=410)
_FIELD = re.compile(r'(Prop\. Type|Category|ID|Cycle|Title|PI):\s*(.*)')


@dataclass(frozen=True)
class Proposal:
    """
    One proposal; its people are left out.

    Parameters
    ----------
    number : str
        Its number, without leading zeros.
    abstract : str
        On one line.
    title, category, kind : str
        Title, scientific category and type, such as ``GO``; empty if unknown.
    cycle : int or None
        Cycle of observation.
    """

    number: str
    abstract: str
    title: str = ''
    category: str = ''
    kind: str = ''
    cycle: int | None = None


def read_proposals(path):
    """
    Read a catalogue, a file of a programme, or a folder of such files.

    Parameters
    ----------
    path : path-like
        ``abstracts.cat``, an ``.apt``, ``.aptx`` or ``.xml`` file, or a folder of these three.

    Returns
    -------
    proposals : list of `Proposal`
        Each number once, in order of numbers.
    problems : list of str
        What is wrong with the entries or files that were left out.

    Raises
    ------
    ValueError
        If there is no proposal in it.
    OSError
        If it cannot be read.
    """
    path = Path(path)
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.suffix in _SUFFIXES)
    else:
        files = [path] if path.suffix in _SUFFIXES else []
    if files:
        found, problems = [], []
        for file in files:
            try:
                found.append((file.name, read_programme(file)))
            except ValueError as error:
                problems.append(f'{file.name}: {error}')
    else:
        found, problems = read_catalogue(path) if path.is_file() else ([], [])
    proposals = {}
    for place, proposal in found:
        first = proposals.setdefault(proposal.number, proposal)
        if first != proposal:
            problems.append(f'{place}: proposal {proposal.number} again, with another text: '
                            'the first one is kept')
    if not proposals:
        path.stat()
        raise ValueError(f'{path}: no proposals found. It should be abstracts.cat of STScI, or a '
                         f'folder of .apt or .aptx files. {"; ".join(problems[:1])}'.rstrip())
    return sorted(proposals.values(), key=lambda proposal: int(proposal.number)), problems


def read_catalogue(path):
    """
    Read a catalogue of abstracts.

    Parameters
    ----------
    path : path-like
        Text, in UTF-8 or Latin-1.

    Returns
    -------
    found : list of (str, `Proposal`)
        Place in the file and proposal, in the order of the file.
    problems : list of str
        Place of each broken entry, and what is wrong with it.
    """
    content = Path(path).read_bytes()
    try:
        text = content.decode('utf-8-sig')
    except UnicodeDecodeError:
        text = content.decode('latin-1')
    found, problems = [], []
    for place, lines in _entries(text.splitlines()):
        try:
            found.append((place, _entry(lines)))
        except ValueError as error:
            problems.append(f'{place}: {error}')
    return found, problems


def _entries(lines):
    """
    Cut at lines of dashes, and where an entry begins although such a line is missing.
    """
    start, entry = 1, []
    for number, line in enumerate([*lines, '-----'], start=1):
        line = ' '.join(line.split())
        rule = line.startswith('-----')
        if rule or line.startswith('Prop. Type:'):
            if any(entry):
                yield f'line {start}', entry
            start, entry = number + rule, []
        if not rule:
            entry.append(line)


def _entry(lines):
    fields, name, gap, abstract = {}, None, False, []
    for line in lines:
        # Words such as "Title:" may well begin a line of the abstract.
        field = None if abstract or (gap and name == 'PI') else _FIELD.match(line)
        if field and field[1] not in fields:
            name, gap = field[1], False
            fields[name] = field[2]
        elif not line:
            gap = True
        elif abstract or name == 'PI' or (gap and 'Title' in fields):
            abstract.append(line)
        elif name:
            fields[name] += f' {line}'
    if not re.fullmatch('0*[1-9][0-9]{0,5}', fields.get('ID', '')):
        raise ValueError(f'{fields["ID"][:40]!r} is no proposal number' if 'ID' in fields
                         else 'the line "ID:" is missing')
    number = str(int(fields['ID']))
    if not abstract:
        raise ValueError(f'proposal {number} has no abstract')
    cycle = fields.get('Cycle', '')
    return Proposal(
        number, ' '.join(abstract), fields.get('Title', '').strip(),
        fields.get('Category', '').strip(), fields.get('Prop. Type', '').strip(),
        int(cycle) if re.fullmatch('[0-9]{1,3}', cycle) else None)


def read_programme(path):
    """
    Read a file of the Astronomer's Proposal Tool.

    Parameters
    ----------
    path : path-like
        XML, or a zip archive that holds some. If it does not say which proposal it is, its name
        does.

    Returns
    -------
    proposal : `Proposal`
        What it says about the proposal as a whole.

    Raises
    ------
    ValueError
        If that is not to be had.
    """
    path = Path(path)
    content = path.read_bytes()
    if zipfile.is_zipfile(io.BytesIO(content)):
        content = _member(content, path.stem)
    if b'<!DOCTYPE' in content or b'<!ENTITY' in content:
        raise ValueError('XML that defines its own entities is not read')
    try:
        root = ElementTree.fromstring(content)
    except (ElementTree.ParseError, ValueError) as error:
        raise ValueError(f'no XML ({error})') from error
    for element in root.iter():  # HST's names have no namespace, JWST's have one
        element.tag = str(element.tag).rpartition('}')[2]
    info = root if root.tag == 'ProposalInformation' else root.find('ProposalInformation')
    if info is None:
        raise ValueError('no ProposalInformation in it')
    number = _words(info, 'ProposalID') or ''.join(re.findall('[0-9]+', path.stem)[:1])
    if not re.fullmatch('0*[1-9][0-9]{0,5}', number):
        raise ValueError('neither the file nor its name says which proposal it is')
    abstract = _words(info, 'Abstract')
    if not abstract:
        raise ValueError(f'proposal {int(number)} has no abstract')
    cycle = _words(info, 'Cycle')
    return Proposal(
        str(int(number)), abstract, _words(info, 'Title'),
        _words(info, 'ScientificCategory'), _words(info, 'ProposalCategory', 'Category'),
        int(cycle) if re.fullmatch('[0-9]{1,3}', cycle) else None)


def _member(content, stem):
    """
    The XML document of an archive.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            names = [name for name in archive.namelist() if name.endswith('.xml')]
            if not names:
                raise ValueError('no XML file in the archive')
            name = f'{stem}.xml' if f'{stem}.xml' in names else names[0]
            with archive.open(name) as stream:
                xml = stream.read(_MAX_XML + 1)
    # zipfile raises RuntimeError where a password is needed.
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, OSError, EOFError) as error:
        raise ValueError(f'damaged archive ({error})') from error
    if len(xml) > _MAX_XML:
        raise ValueError(f'the XML is larger than {_MAX_XML} bytes')
    return xml


def _words(info, *names):
    """
    What the first of some elements says, or attributes of these names do.
    """
    for name in names:
        element = info.find(name)
        if element is not None:
            text = ' '.join(''.join(element.itertext()).split())
            # In some versions the kind of a proposal is the name of an element.
            return text or (element[0].tag if len(element) else '')
        if info.get(name):
            return ' '.join(info.get(name).split())
    return ''


def download(numbers, folder, address, fetcher):
    """
    Download files of programmes that are not there yet.

    Parameters
    ----------
    numbers : iterable of int
        Programmes.
    folder : path-like
        Where files go; ``missing.txt`` names the programmes of which there is none.
    address : str
        With ``{number}`` in it.
    fetcher : `astroclip_search.images.http.Fetcher`
        One that asks politely.

    Returns
    -------
    n_new : int
        Files that were downloaded.

    Raises
    ------
    ImageError
        If the server does not answer; a later call goes on from there.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    absent = folder / 'missing.txt'
    known = set(absent.read_text().split()) if absent.exists() else set()
    n_new = 0
    for number in numbers:
        file = folder / f'{number}{Path(address).suffix}'
        if file.exists() or str(number) in known:
            continue
        try:
            with fetcher.open(address.format(number=number)) as content:
                if not content.startswith((b'PK', b'<?xml')):
                    raise ImageError(_NONE[0])  # a web page that says so
                write_whole(file, content)
        except ImageError as error:
            if error.because not in _NONE:
                raise
            with open(absent, 'a', encoding='ascii') as lines:
                lines.write(f'{number}\n')
        else:
            n_new += 1
            print(file.name, flush=True)
    return n_new


def write_whole(path, content):
    """
    Write a file that is there as a whole or not at all.

    Parameters
    ----------
    path : `pathlib.Path`
        File.
    content : bytes or str
        Text is written in UTF-8.
    """
    part = path.with_name(path.name + '.part')
    part.write_bytes(content.encode() if isinstance(content, str) else content)
    part.replace(path)


def _numbers(text):
    first, _, last = text.partition('-')
    return range(int(first), int(last or first) + 1)


def main(arguments):
    """
    Run ``python -m export proposals``.

    Parameters
    ----------
    arguments : list of str
        Command line.

    Returns
    -------
    status : int
        1 if the server did not answer.
    """
    from urllib.parse import urlsplit

    from astroclip_search import conf
    from astroclip_search.images.http import Fetcher, Limits

    parser = argparse.ArgumentParser(
        prog='python -m export proposals',
        description='Download the public files of programmes, one after the other.')
    parser.add_argument('numbers', nargs='+', type=_numbers, metavar='FIRST[-LAST]')
    parser.add_argument('--mission', choices=ADDRESSES, default='JWST')
    parser.add_argument('--out', type=Path, required=True, help='folder for the files')
    parser.add_argument('--address', help='address of a file, with {number} in it')
    options = parser.parse_args(arguments)
    address = options.address or ADDRESSES[options.mission]
    # An address that the user gives is one that the user trusts.
    trusted = (urlsplit(address).netloc,) if options.address else ()
    limits = Limits(n_connections=1, query_timeout=0, retries=conf.retries)
    with Fetcher(limits, f'astroclip_search/{__version__}', trusted=trusted) as fetcher:
        try:
            for numbers in options.numbers:
                download(numbers, options.out, address, fetcher)
        except ImageError as error:
            print(f'{error}: run it again to go on', file=sys.stderr)
            return 1
    return 0
