"""
From nothing to a search with a model of one's own, on an archive of made-up proposals.

``python -m export.example --out DIR`` makes, one after the other and each by the command that a
user would type: pictures of fifty proposals, from a stand-in of MAST on the loopback interface;
guided summaries, from a stand-in of a language model; pairs; a tiny CLIP; a bundle; its metrics;
and a ranking. It shows that the steps fit together, not what they can do: the towers are tiny, see
a few hundred pictures and are at chance. As the stand-in says much the same of every proposal, it
is the abstracts that they are trained on.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

from tests.loopback.chat import Chat

__all__ = ['main', 'run', 'steps']


def steps(folder, server):
    """
    List the commands in order.

    Parameters
    ----------
    folder : `pathlib.Path`
        Where everything goes.
    server : str
        Address of the language model.

    Returns
    -------
    commands : list of list of str
        Arguments of ``python -m``.
    """
    archive, hst, summaries = folder / 'archive', folder / 'hst', folder / 'summaries'
    pairs, trained, bundle = folder / 'pairs', folder / 'run', folder / 'bundle'
    commands = [
        ['tests.loopback.proposals', '--out', archive, '--', sys.executable, '-m', 'export', 'hst',
         '--abstracts', archive / 'abstracts.cat', '--out', hst],
        ['export', 'summarise', hst, '--out', summaries, '--server', server, '--model', 'tiny'],
        # Without the summaries: alike, they would leave no picture to tell another from.
        ['export', 'shards', hst, '--out', pairs],
        ['export', 'finetune', '--config', 'paperclip_abstracts', '--tiny', '--data',
         pairs, '--out', trained],
        ['export', 'to-onnx', '--from', trained, '--out', bundle],
        ['export', 'retrieval', '--bundle', bundle, '--manifest', hst, '--split', 'test',
         '--out', folder / 'metrics.json'],
    ]
    return [[str(part) for part in command] for command in commands]


def run(folder, phrase):
    """
    Run all steps and rank the pictures of the test side with the model that they made.

    Parameters
    ----------
    folder : path-like
        Where everything goes.
    phrase : str
        What to search for.

    Returns
    -------
    ranked : `astropy.table.Table`
        The ranking.

    Raises
    ------
    subprocess.CalledProcessError
        If a step fails.
    """
    from astroclip_search import ClipSearch

    folder = Path(folder).resolve()
    with Chat() as server:
        for command in steps(folder, server.url):
            print('python -m', *command, flush=True)
            subprocess.run([sys.executable, '-m', *command], check=True,
                           env={**os.environ, 'OMP_NUM_THREADS': '1'})
    with open(folder / 'hst' / 'manifest.jsonl', encoding='utf-8') as lines:
        files = [folder / 'hst' / row['file'] for row in map(json.loads, lines)
                 if row['split'] == 'test']
    return ClipSearch(model=str(folder / 'bundle'), cache_dir=folder / 'cache').rank(files, phrase)


def main(arguments=None):
    """
    Run ``python -m export.example``.

    Parameters
    ----------
    arguments : list of str, optional
        Command line.
    """
    parser = argparse.ArgumentParser(prog='python -m export.example', description=__doc__)
    parser.add_argument('--out', required=True, help='folder for everything that is made')
    parser.add_argument('--text', default='spiral galaxies', help='what to search for')
    options = parser.parse_args(arguments)
    ranked = run(options.out, options.text)
    ranked['clip_rank', 'clip_image', 'clip_status', 'filename'][:8].pprint(max_width=-1)


if __name__ == '__main__':
    main()
