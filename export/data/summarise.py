"""
Guided summaries: abstracts of proposals -> what pictures taken for them show and are good for.

``proposals.jsonl`` has one JSON object per line with ``proposal_id``, ``abstract``, and where known
``title`` and ``category``. The output folder gets two files of the same kind, which only grow:

``summaries.jsonl``
    ``proposal_id``, ``objects_and_phenomena``, ``science_use_cases`` (lists of str), ``model``,
    ``model_sha256`` (null where unknown), ``prompt_sha256``, ``attempts``.
``summaries.failed.jsonl``
    ``proposal_id``, ``cause`` (``abstract``: there is none; ``reply``: no attempt was acceptable;
    ``server``: no reply), ``reasons`` (one for each attempt), ``reply`` (the last one), and
    ``model``, ``model_sha256``, ``prompt_sha256``, ``attempts``. A log: a proposal that has a
    summary by now may stand in it too.

A line is on the disk before the next proposal is begun: whatever ends a run, each connection loses
at most the proposal that it was at, and the same command goes on from there.
"""

import argparse
import json
import os
import sys
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from export.data.chat import BackendError, LocalModel, Server, hash_files
from export.data.journal import Journal
from export.data.summary import (
    SCHEMA,
    RejectedError,
    conversation,
    correction,
    parse,
    prompt_sha256,
)

__all__ = ['main', 'read_proposals', 'summarise']

# So many proposals in a row without an answer: the server is down.
_GIVE_UP = 5

# A model repeats itself if it is asked again without chance.
_TEMPERATURE_OF_RETRIES = 0.7

_REPORT_EVERY = 25


def read_proposals(path):
    """
    Read the proposals to summarise.

    Parameters
    ----------
    path : path-like
        File of JSON lines, or the folder of a ``proposals.jsonl``.

    Returns
    -------
    proposals : list of dict
        In the order of the file.

    Raises
    ------
    ValueError
        If a line is not a proposal, or a proposal is there twice.
    """
    path = Path(path)
    path = path / 'proposals.jsonl' if path.is_dir() else path
    proposals = {}
    with open(path, encoding='utf-8') as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                proposal = json.loads(line)
                key = proposal['proposal_id']
            except (ValueError, TypeError, KeyError) as error:
                raise ValueError(f'line {number} of {path.name} is no JSON object with a '
                                 'proposal_id') from error
            if not isinstance(key, str | int) or str(key) in proposals:
                raise ValueError(f'line {number} of {path.name}: proposal_id {key!r} is there twice'
                                 ' or not a string or whole number')
            proposals[str(key)] = proposal
    return list(proposals.values())


class _Run:
    """
    What the threads of a run share.
    """

    def __init__(self, backend, summaries, failed, attempts):
        self.backend = backend
        self.summaries, self.failed = summaries, failed
        self.attempts = attempts
        self.counts = Counter()
        self.stopped = threading.Event()
        self.provenance = {'model': backend.model, 'model_sha256': backend.model_sha256,
                           'prompt_sha256': prompt_sha256()}
        self._lock = threading.Lock()
        self._unanswered = 0

    def work(self, todo):
        """
        Summarise one proposal after the other, until there are no more.
        """
        while not self.stopped.is_set():
            with self._lock:
                proposal = next(todo, None)
            if proposal is None:
                return
            try:
                self._record(self._one(proposal))
            except BaseException:
                with self._lock:
                    if self.stopped.is_set():
                        return  # it was us who hung up
                    self.stopped.set()
                raise

    def _one(self, proposal):
        """
        The row of a proposal: a summary, or with a ``cause`` why there is none.
        """
        row = {'proposal_id': proposal['proposal_id']}
        reasons, reply = [], ''
        abstract = proposal.get('abstract')
        if not isinstance(abstract, str) or not abstract.strip():
            return {**row, 'cause': 'abstract', 'reasons': ['it has no abstract'], 'reply': reply,
                    **self.provenance, 'attempts': 0}
        messages = conversation(proposal)
        for attempt in range(1, self.attempts + 1):
            try:
                reply, complete = self.backend.ask(
                    messages, temperature=_TEMPERATURE_OF_RETRIES if reasons else 0.0)
                if not complete:
                    raise RejectedError('it was cut off because it is too long')
                return {**row, **parse(reply), **self.provenance, 'attempts': attempt}
            except RejectedError as error:
                reasons.append(str(error))
                messages = correction(proposal, reply, reasons[-1])
            except BackendError as error:
                if error.fatal:
                    raise
                return {**row, 'cause': 'server', 'reasons': [*reasons, str(error)],
                        'reply': reply[:2000], **self.provenance, 'attempts': attempt}
        return {**row, 'cause': 'reply', 'reasons': reasons, 'reply': reply[:2000],
                **self.provenance, 'attempts': self.attempts}

    def _record(self, row):
        if self.stopped.is_set() and row.get('cause') == 'server':
            return  # it was us who hung up
        (self.failed if 'cause' in row else self.summaries).append(row)
        with self._lock:
            self.counts[row.get('cause', 'summarised')] += 1
            self._unanswered = self._unanswered + 1 if row.get('cause') == 'server' else 0
            if self._unanswered >= _GIVE_UP:
                raise BackendError(f'{_GIVE_UP} proposals in a row without an answer, the last '
                                   f'time: {row["reasons"][-1]}', fatal=True)
            if self.counts.total() % _REPORT_EVERY == 0:
                print(_described(self.counts), file=sys.stderr, flush=True)


def _described(counts):
    failures = [f'{counts[cause]} {words}' for cause, words in (
        ('abstract', 'without an abstract'), ('reply', 'without an acceptable reply'),
        ('server', 'without an answer')) if counts[cause]]
    return ', '.join([f'{counts["summarised"]} summarised', *failures])


def summarise(proposals, backend, out, *, attempts=5, retry_failed=False):
    """
    Summarise the proposals that have no summary yet.

    Parameters
    ----------
    proposals : list of dict
        As of `read_proposals`.
    backend : `export.data.chat.Server` or `export.data.chat.LocalModel`
        Whom to ask. It is closed when the run fails.
    out : path-like
        Folder of ``summaries.jsonl`` and ``summaries.failed.jsonl``.
    attempts : int, optional
        Most replies to ask for, for one proposal. The model is told what was wrong with the last.
    retry_failed : bool, optional
        Whether to ask again where no attempt was acceptable. (Where there was no answer at all,
        it is always asked again.)

    Returns
    -------
    counts : `collections.Counter`
        ``summarised``, ``abstract``, ``reply`` and ``server``: what became of the proposals now,
        and ``before``: how many were not asked again.

    Raises
    ------
    ValueError
        If the folder holds summaries of another model or prompt, or a broken file.
    BackendError
        If the model cannot be asked for anything.
    """
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    with (Journal(out / 'summaries.jsonl') as summaries,
          Journal(out / 'summaries.failed.jsonl') as failed):
        run = _Run(backend, summaries, failed, attempts)
        done = set()
        for row in summaries.rows:
            if any(row.get(name) != value for name, value in run.provenance.items()):
                raise ValueError(f'{out.name} holds summaries of another model or prompt: '
                                 'give another folder for the new ones')
            done.add(str(row.get('proposal_id')))
        done.update(str(row.get('proposal_id')) for row in failed.rows
                    if row.get('cause') != 'server' and not retry_failed
                    and all(row.get(name) == value for name, value in run.provenance.items()))
        todo = [proposal for proposal in proposals if str(proposal['proposal_id']) not in done]
        remaining = iter(todo)
        with ThreadPoolExecutor(backend.concurrency) as pool:
            threads = [pool.submit(run.work, remaining) for _ in range(backend.concurrency)]
            try:
                for thread in as_completed(threads):
                    thread.result()
            except BaseException:
                run.stopped.set()
                backend.close()
                raise
    run.counts['before'] = len(proposals) - len(todo)
    return run.counts


def _backend(options):
    if options.local:
        limits = {'timeout': options.timeout} if options.timeout else {}
        return LocalModel(options.local, revision=options.revision, device=options.device,
                          max_tokens=options.max_tokens, **limits)
    if not options.model:
        raise ValueError('--server needs --model NAME')
    key = None
    if options.api_key_env:
        key = os.environ.get(options.api_key_env)
        if not key:
            raise ValueError(f'the environment variable {options.api_key_env} is not set')
    limits = {'timeout': options.timeout} if options.timeout else {}
    return Server(options.server, options.model, key=key, schema=SCHEMA,
                  response_format=options.response_format,
                  model_sha256=hash_files(options.weights) if options.weights else None,
                  concurrency=options.concurrency, max_tokens=options.max_tokens, **limits)


def _positive(text):
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f'{text!r} is no whole number above zero')
    return int(text)


def main(arguments=None):
    """
    Summarise abstracts of proposals with a language model.

    Parameters
    ----------
    arguments : list of str, optional
        Command line.

    Returns
    -------
    status : int
        0 if every proposal was dealt with, also where that is a recorded failure; 1 if not.
    """
    parser = argparse.ArgumentParser(
        prog='python -m export summarise',
        description='Summarise abstracts of proposals with a language model. Run again to go on.')
    parser.add_argument('proposals', type=Path,
                        help='proposals.jsonl, or the folder where it is')
    parser.add_argument('--out', type=Path, required=True,
                        help='folder for summaries.jsonl and summaries.failed.jsonl')
    who = parser.add_mutually_exclusive_group(required=True)
    who.add_argument('--server', metavar='URL',
                     help='a server of chat completions, such as http://localhost:8000/v1')
    who.add_argument('--local', metavar='MODEL',
                     help='a causal model of transformers: folder, or id of the hub')
    parser.add_argument('--model', metavar='NAME', help='what the server calls its model')
    parser.add_argument('--api-key-env', metavar='VARIABLE',
                        help='environment variable that holds the API key of the server')
    parser.add_argument('--response-format', choices=('json_schema', 'json_object', 'none'),
                        default='json_schema', help='for servers that do not know JSON schemas')
    parser.add_argument('--weights', type=Path, metavar='PATH',
                        help='weights that the server serves, to note their hash')
    parser.add_argument('--revision', help='commit, tag or branch of a local model of the hub')
    parser.add_argument('--device', help='of torch, for a local model')
    parser.add_argument('--concurrency', type=_positive, default=4,
                        help='requests to the server at one time (default: %(default)s)')
    parser.add_argument('--attempts', type=_positive, default=5,
                        help='most replies asked for, for one proposal (default: %(default)s)')
    parser.add_argument('--timeout', type=float, metavar='SECONDS',
                        help='for one reply (default: 120, local: 600)')
    parser.add_argument('--max-tokens', type=_positive, default=1024,
                        help='longest reply; more for models that think aloud '
                             '(default: %(default)s)')
    parser.add_argument('--retry-failed', action='store_true',
                        help='ask again where no reply was acceptable')
    options = parser.parse_args(arguments)
    try:
        proposals = read_proposals(options.proposals)
        backend = _backend(options)
        try:
            counts = summarise(proposals, backend, options.out, attempts=options.attempts,
                               retry_failed=options.retry_failed)
        finally:
            backend.close()
    except (BackendError, OSError, ValueError) as error:
        print(f'python -m export summarise: {error}', file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print('interrupted: run again to go on', file=sys.stderr)
        return 130
    print(f'{_described(counts)}, {counts["before"]} before, in {options.out}')
    return 1 if counts['server'] else 0
