"""
Upload a bundle to the Hugging Face hub: what its ``astroclip.json`` lists, and nothing else.

``python -m export push BUNDLE owner/name --dry-run`` says what would be uploaded, without a
network.
"""

import argparse
import hashlib
import json
import sys
from pathlib import Path

from astroclip_search.exceptions import BundleError
from astroclip_search.models.bundle import open_bundle

__all__ = ['contents', 'main', 'provenance', 'push']

_HEADING = '\n## Provenance\n'

#: Parts of ``astroclip.json`` that say what a model was made from.
_ORIGIN = ('name', 'version', 'licence', 'training', 'origin')


def provenance(info):
    """
    One hash of what a bundle holds and was made from.

    Parameters
    ----------
    info : dict
        Content of ``astroclip.json``.

    Returns
    -------
    digest : str
        sha256 of all checksums but the model card's, which contains this hash, and of name,
        version, licence and training, as JSON with sorted keys.
    """
    files = {name: digest for name, digest in info['files'].items() if name != 'README.md'}
    content = {'files': files, **{key: info[key] for key in _ORIGIN if key in info}}
    return _sha256(json.dumps(content, sort_keys=True, separators=(',', ':')).encode())


def contents(folder):
    """
    What an upload consists of.

    Parameters
    ----------
    folder : path-like
        A bundle.

    Returns
    -------
    files : dict of bytes or `pathlib.Path`
        Name in the repository -> its content: all listed files as they are, the model card with
        the provenance added, and ``astroclip.json`` with the checksum of that card.

    Raises
    ------
    ValueError
        If the bundle is damaged, lists a file that is never needed, or has no model card with
        its licence and its measured numbers.
    """
    folder = Path(folder)
    if not (folder / 'astroclip.json').is_file():
        raise ValueError(f'{folder.name} is no bundle of ours: it has no astroclip.json')
    try:
        open_bundle.cache_clear()  # it may have been changed since it was last opened
        bundle = open_bundle(str(folder))
        for name in bundle.contents.sums:  # a tower would else be checked when it is first used
            bundle.contents.check(name)
        info = dict(bundle.info)
    except BundleError as error:
        raise ValueError(str(error).rstrip('.')) from error
    for name in info['files']:
        if Path(name).suffix not in ('.json', '.onnx', '.npz', '.md', '.txt'):
            raise ValueError(f'{name} is no part of a bundle')
    card = _card(folder, info)
    info['files'] = {**info['files'], 'README.md': _sha256(card)}
    description = json.dumps(info, indent=1, ensure_ascii=False) + '\n'
    return {**{name: folder / name for name in sorted(info['files'])},
            'README.md': card, 'astroclip.json': description.encode()}


def _card(folder, info):
    """
    The model card with its provenance.
    """
    if 'README.md' not in info['files']:
        raise ValueError(f'{folder.name} has no model card (README.md)')
    text = (folder / 'README.md').read_text(encoding='utf-8').partition(_HEADING)[0]
    head = text.split('---\n')[1] if text.startswith('---\n') else ''
    if 'license:' not in head or not info.get('licence'):
        raise ValueError('the model card does not say the licence')
    if not info.get('metrics') and not info.get('parity'):
        raise ValueError('the model card has no measured numbers: evaluate the bundle and make it '
                         'again')
    return (f'{text}{_HEADING}`{provenance(info)}` (sha256 over the checksums of all files but '
            'this card, and what the model was made from; see `astroclip.json`).\n').encode()


def push(folder, repo, *, revision=None, private=False, endpoint=None):
    """
    Upload a bundle in one commit.

    Files of the repository that the bundle does not have are left alone. The token is the one
    that the hub client finds, in ``HF_TOKEN`` or of ``hf auth login``.

    Parameters
    ----------
    folder : path-like
        A bundle.
    repo : str
        Hub id, made if it is not there.
    revision : str, optional
        Branch.
    private : bool, optional
        Whether a repository that is made is private.
    endpoint : str, optional
        Address of the hub.

    Returns
    -------
    commit : str
        Its hash: the revision to pin.
    """
    from huggingface_hub import CommitOperationAdd, HfApi

    files = contents(folder)
    api = HfApi(endpoint=endpoint)
    api.create_repo(repo, private=private, exist_ok=True)
    digest = provenance(json.loads(files['astroclip.json']))
    return api.create_commit(
        repo, [CommitOperationAdd(name, file) for name, file in files.items()],
        commit_message=f'Bundle {digest[:12]}', revision=revision,
    ).oid


def _sha256(content):
    if isinstance(content, bytes):
        return hashlib.sha256(content).hexdigest()
    with content.open('rb') as stream:
        return hashlib.file_digest(stream, 'sha256').hexdigest()


def main(arguments):
    """
    Run ``python -m export push``.

    Parameters
    ----------
    arguments : list of str
        Command line.

    Returns
    -------
    status : int
        Exit status: 1 if nothing was uploaded because of the bundle or the hub.
    """
    parser = argparse.ArgumentParser(prog='python -m export push',
                                     description='Upload a bundle to the Hugging Face hub.')
    parser.add_argument('bundle', help='folder')
    parser.add_argument('repo', help='hub id: owner/name')
    parser.add_argument('--revision', help='branch')
    parser.add_argument('--private', action='store_true', help='if the repository is made')
    parser.add_argument('--dry-run', action='store_true', help='say what would be uploaded')
    options = parser.parse_args(arguments)
    try:
        files = contents(options.bundle)
    except ValueError as error:
        print(f'{error}.', file=sys.stderr)
        return 1
    for name, file in sorted(files.items()):
        size = len(file) if isinstance(file, bytes) else file.stat().st_size
        print(f'{_sha256(file)}  {size:>11,}  {name}')
    print(f"{'would go' if options.dry_run else 'goes'} to {options.repo}"
          f"{f' at {options.revision}' if options.revision else ''}; provenance "
          f"{provenance(json.loads(files['astroclip.json']))}")
    if options.dry_run:
        return 0
    try:
        commit = push(options.bundle, options.repo, revision=options.revision,
                      private=options.private)
    # The hub client raises errors of several libraries for one situation.
    except Exception as error:
        print(f'Not uploaded: {type(error).__name__}: {" ".join(str(error).split())[:300]}',
              file=sys.stderr)
        return 1
    print(f'commit {commit}')
    return 0
