"""
Pictures of HST and JWST with the words of the proposals they were taken for.

For each proposal MAST [1]_ is asked for its observations, some are chosen, and their previews are
kept with the longest side at 512 pixels, whole and without a border. HST: the white-light image of
a visit, ``total`` in the Hubble Advanced Products [2]_, or the one in colour; JWST: the mosaics of
single filters. A proposal is a unit of work, written when it is complete. In the end
`export.data.split` drops repeated pictures and divides proposals, and `export.data.shards` writes
what open_clip reads.

Other than in PAPERCLIP [3]_, nothing is drawn twice, no white is added, a proposal is never on two
sides of a split, and there is a test set.

References
----------
.. [1] https://mast.stsci.edu/api/v0/_c_a_o_mfields.html
.. [2] https://drizzlepac.readthedocs.io/en/latest/svm_processing.html
.. [3] Mishra-Sharma, Song, Thaler 2024, https://arxiv.org/abs/2403.08851
"""

import argparse
import hashlib
import io
import json
import re
import sys
import warnings
from base64 import b64encode
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
from PIL import Image

from astroclip_search import __version__
from astroclip_search.exceptions import ImageError
from astroclip_search.status import ERROR, NO_IMAGE, SKIPPED, Reason, reason
from export.data.pairs import to_square
from export.data.proposals import read_proposals, write_whole

__all__ = ['SIDE', 'Settings', 'collect', 'main', 'observations', 'picture']

#: Longest side of a picture in pixels.
SIDE = 512
_QUALITY = 90

# Mosaics of a visit are larger than what a search would like to decode.
_MAX_PIXELS = 200_000_000

# A picture that varies less than this (of 255) shows nothing.
_MIN_CONTRAST = 1.0

# MAST is not there if proposals fail so often in a row.
_GIVE_UP = 3

# What a server will say again, by the code of the reason.
_FINAL = {'http', 'body_too_large', 'damaged_answer', 'invalid_request', 'many_redirects',
          'no_address', 'no_address_after_redirect', 'other_host'}
_NOT_FOUND = reason('http', code=404)

# Mosaics of several proposals ("skycells") do not belong to one of them.
_NAMES = {'HST': 'hst_0*{number}_[0-9a-z]+_[0-9a-z]+_[0-9a-z]+_total_[0-9a-z]+',
          'JWST': 'jw0*{number}-[0-9a-z_-]+'}


@dataclass(frozen=True)
class Settings:
    """
    What decides which pictures are there.

    Parameters
    ----------
    mission : {'HST', 'JWST'}
        Whose proposals they are.
    per_proposal : int, optional
        Most pictures of a proposal.
    colour : bool, optional
        Take previews in colour where there are some.
    """

    mission: str
    per_proposal: int = 20
    colour: bool = False


def observations(number, settings):
    """
    Choose observations of a proposal.

    Parameters
    ----------
    number : str
        The proposal.
    settings : `Settings`
        Of these, mission and number of pictures count.

    Returns
    -------
    rows : list of dict
        Rows of MAST with a picture: no more than wanted, none twice, and the same in every run as
        long as the archive has no new ones.

    Raises
    ------
    astroquery.exceptions.RemoteServiceError
        If MAST does not answer.
    """
    from astroquery.exceptions import NoResultsWarning

    from astroclip_search.archives import mast

    with warnings.catch_warnings():
        warnings.simplefilter('ignore', NoResultsWarning)  # many proposals have no images
        table = mast.criteria({'obs_collection': settings.mission, 'proposal_id': number,
                               'calib_level': [3], 'dataRights': 'PUBLIC'})
    name = re.compile(_NAMES[settings.mission].format(number=number))
    rows = {}
    for record in table:
        row = {key: None if np.ma.is_masked(record[key]) else record[key] for key in table.colnames}
        if name.fullmatch(str(row.get('obs_id'))):
            rows.setdefault(row['obs_id'], row)
    # The order of hashes is random, yet new observations change little of it.
    order = sorted(rows, key=lambda name: hashlib.sha256(name.encode()).digest())
    return [rows[name] for name in order[:settings.per_proposal]]


def _addresses(row, settings):
    """
    Where the picture of an observation may be, the best place first.
    """
    if settings.mission == 'JWST':
        return [row['jpegURL']] if row.get('jpegURL') else []
    stems = [re.sub(r'(_color)?\.(jpg|fits)$', '', row.get(name) or '')
             for name in ('jpegURL', 'dataURL')]
    stems = list(dict.fromkeys(stem for stem in stems if row['obs_id'] in stem))
    # Files of infrared images are called drz, others drc.
    stems = stems or [f'mast:HST/product/{row["obs_id"]}_{kind}' for kind in ('drc', 'drz')]
    endings = ('_color.jpg', '.jpg') if settings.colour else ('.jpg',)
    return [stem + ending for ending in endings for stem in stems]


def picture(addresses, fetcher):
    """
    Get a picture.

    Parameters
    ----------
    addresses : list of str
        Where it may be: ``mast:`` URIs or URLs, tried in this order.
    fetcher : `astroclip_search.images.http.Fetcher`
        One that asks politely.

    Returns
    -------
    address : str
        Where it was.
    image : `PIL.Image.Image`
        RGB, whole, its longest side no more than `SIDE`.

    Raises
    ------
    ImageError
        If there is none. The status is ``SKIPPED`` if another try later may well help.
    """
    from astroclip_search.archives.mast import download_url
    from astroclip_search.images.render import render

    missing = ImageError(Reason('no_image_named', NO_IMAGE, 'MAST names no preview'))
    for address in addresses:
        url = download_url(address) if address.startswith('mast:') else address
        try:
            with fetcher.open(url) as content:
                return address, _fit(render(content, side=SIDE, max_pixels=_MAX_PIXELS))
        except ImageError as error:
            why = error.because
            if error.url and why.status == ERROR and why.code not in _FINAL:
                why = why._replace(status=SKIPPED)
            missing = ImageError(why, url)
            if why != _NOT_FOUND:
                raise missing from error
    raise missing


def _fit(image):
    image.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    if np.asarray(image).std() < _MIN_CONTRAST:
        raise ImageError(Reason('one_value', ERROR, 'the picture is of one tone'))
    return image


def collect(proposals, folder, settings, *, retry=False):
    """
    Get the pictures of proposals that are not there yet.

    Parameters
    ----------
    proposals : list of `export.data.proposals.Proposal`
        In the order in which they are worked on.
    folder : path-like
        Where ``units/<number>.json`` and ``images/<number>/`` go.
    settings : `Settings`
        The same as in the runs before with this folder.
    retry : bool, optional
        Do those again of which something did not come.

    Returns
    -------
    n_failed : int
        Proposals that MAST did not answer for; a later call asks again.

    Raises
    ------
    ValueError
        If the folder was made with other settings.
    ConnectionError
        If MAST fails for several proposals in a row.
    """
    folder = Path(folder)
    _check(folder, settings)
    n_failed, in_a_row = 0, 0
    for i, proposal in enumerate(proposals, start=1):
        unit = folder / 'units' / f'{proposal.number}.json'
        if unit.exists() and not (retry and json.loads(unit.read_text('utf-8'))['later']):
            continue
        try:
            done = _unit(proposal.number, folder, settings)
        except ConnectionError as error:
            n_failed, in_a_row = n_failed + 1, in_a_row + 1
            print(f'{proposal.number}: {error}', file=sys.stderr, flush=True)
            if in_a_row == _GIVE_UP:
                raise ConnectionError(
                    f'MAST failed for {_GIVE_UP} proposals in a row ({error}): run the same '
                    'command later, it goes on from here') from error
            continue
        in_a_row = 0
        write_whole(unit, json.dumps(done, indent=1))
        missed = len(done['never']) + len(done['later'])
        print(f'[{i}/{len(proposals)}] {proposal.number}: {len(done["images"])} pictures'
              + (f', {missed} not to be had' if missed else ''), flush=True)
    return n_failed


def _check(folder, settings):
    for name in ('units', 'images'):
        (folder / name).mkdir(parents=True, exist_ok=True)
    file = folder / 'settings.json'
    if not file.exists():
        write_whole(file, json.dumps(asdict(settings)))
    before = json.loads(file.read_text('utf-8'))
    if before != asdict(settings):
        raise ValueError(f'{folder} was made with {before}, now asked for is {asdict(settings)}: '
                         'give the same options, or another folder')


def _unit(number, folder, settings):
    """
    Get the pictures of one proposal: rows of those, and what else happened.
    """
    from astroquery.exceptions import RemoteServiceError

    from astroclip_search import conf
    from astroclip_search.archives.mast import credentials, download_url
    from astroclip_search.images.http import Fetcher, Limits

    try:
        rows = observations(number, settings)
    except RemoteServiceError as error:
        raise ConnectionError(str(error)) from error
    images = folder / 'images' / number
    done = {'number': number, 'images': [], 'never': {}, 'later': {}}
    limits = Limits(n_connections=conf.n_connections, connect_timeout=conf.connect_timeout,
                    timeout=conf.timeout, row_timeout=conf.row_timeout, query_timeout=0,
                    retries=conf.retries, max_bytes=conf.max_bytes)

    def bring(row):
        try:
            address, image = picture(_addresses(row, settings), fetcher)
        except ImageError as error:
            return row, error
        images.mkdir(exist_ok=True)
        stream = io.BytesIO()
        image.save(stream, 'JPEG', quality=_QUALITY)
        write_whole(images / f'{row["obs_id"]}.jpg', stream.getvalue())
        return row, _described(row, address, image, f'images/{number}/{row["obs_id"]}.jpg')

    # A host is given a new chance with each proposal.
    with (ThreadPoolExecutor(limits.n_connections) as pool,
          Fetcher(limits, f'astroclip_search/{__version__}', headers=credentials(),
                  trusted={urlsplit(download_url('')).netloc}) as fetcher):
        for row, result in list(pool.map(bring, rows)):
            if isinstance(result, ImageError):
                kind = 'later' if result.status == SKIPPED else 'never'
                done[kind][row['obs_id']] = str(result)
            else:
                done['images'].append(result)
    if done['later'] and not done['images']:
        raise ConnectionError(next(iter(done['later'].values())))
    return done


def _described(row, address, image, file):
    labels = [label.strip() for label in (row.get('target_classification') or '').split(';')]
    return {
        'id': row['obs_id'], 'file': file, 'address': address,
        'title': str(row.get('target_name') or ''),
        'labels': [label for label in labels if label],
        'instrument': str(row.get('instrument_name') or ''),
        'filters': str(row.get('filters') or ''),
        'ra': _number(row.get('s_ra')), 'dec': _number(row.get('s_dec')), 'size': image.size,
        # So that looking for repeated pictures opens none of them.
        'thumbnail': b64encode(to_square(np.asarray(image.convert('L')), 32).tobytes()).decode(),
    }


def _number(value):
    return None if value is None else float(value)


def main(arguments):
    """
    Run ``python -m export hst``.

    Parameters
    ----------
    arguments : list of str
        Command line.

    Returns
    -------
    status : int
        1 if MAST did not answer, 130 if it was interrupted: a later run goes on.
    """
    from export.data.shards import write
    from export.data.split import finish

    parser = argparse.ArgumentParser(
        prog='python -m export hst',
        description='Previews of HST or JWST with the abstracts of their proposals. The same '
                    'command goes on where it was interrupted.')
    parser.add_argument('--abstracts', required=True, metavar='PATH',
                        help='abstracts.cat, or a folder of .apt or .aptx files')
    parser.add_argument('--out', type=Path, required=True, help='folder for pictures and lists')
    parser.add_argument('--mission', choices=_NAMES, default='HST')
    parser.add_argument('--per-proposal', type=int, default=20, metavar='N',
                        help='most pictures of a proposal (default: 20)')
    parser.add_argument('--colour', action='store_true',
                        help='previews in colour where HST has some')
    parser.add_argument('--cycles', type=int, nargs=2, metavar=('FIRST', 'LAST'),
                        help='proposals of these cycles only')
    parser.add_argument('--proposals', nargs='+', metavar='NUMBER', help='these proposals only')
    parser.add_argument('--retry', action='store_true',
                        help='ask again for what did not come for a passing reason')
    parser.add_argument('--validation', type=float, default=0.1, metavar='SHARE')
    parser.add_argument('--test', type=float, default=0.1, metavar='SHARE')
    parser.add_argument('--similarity', type=float, default=0.98, metavar='R',
                        help='correlation from which on two pictures are one (default: 0.98)')
    options = parser.parse_args(arguments)
    if options.per_proposal < 1:
        parser.error('--per-proposal has to be at least 1')
    if min(options.validation, options.test) < 0 or options.validation + options.test >= 1:
        parser.error('--validation and --test are shares, together less than 1')
    if options.colour and options.mission == 'JWST':
        parser.error('MAST has no colour previews of JWST: leave --colour out')
    try:
        proposals, problems = read_proposals(options.abstracts)
        chosen = _chosen(proposals, options)
        settings = Settings(options.mission, options.per_proposal, options.colour)
        n_failed = collect(chosen, options.out, settings, retry=options.retry)
    except KeyboardInterrupt:
        print('interrupted: the same command goes on from here', file=sys.stderr)
        return 130
    except ConnectionError as error:
        print(error, file=sys.stderr)
        return 1
    except (OSError, ValueError) as error:
        parser.error(str(error))
    write_whole(options.out / 'problems.txt', ''.join(f'{text}\n' for text in problems))
    if problems:
        print(f'{len(problems)} entries of {options.abstracts} are left out, see problems.txt')
    report = finish(proposals, options.out, validation=options.validation, test=options.test,
                    similarity=options.similarity)
    if report['pictures']:
        write(options.out, options.out / 'abstracts')
    print(json.dumps(report, indent=1))
    if n_failed or report['later']:
        print(f'{n_failed} proposals and {report["later"]} pictures did not come for a passing '
              'reason: the same command asks again for the proposals, and with --retry for the '
              'pictures')
    return 1 if n_failed else 0


def _chosen(proposals, options):
    if options.cycles:
        first, last = options.cycles
        proposals = [proposal for proposal in proposals
                     if proposal.cycle is not None and first <= proposal.cycle <= last]
    if options.proposals:
        wanted = {number.lstrip('0') for number in options.proposals}
        proposals = [proposal for proposal in proposals if proposal.number in wanted]
    if not proposals:
        raise ValueError('no proposal meets --cycles and --proposals')
    return proposals
