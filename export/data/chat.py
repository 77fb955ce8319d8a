"""
Language models that can be asked: a server that speaks OpenAI's chat completions, or one here.

Servers are vLLM, llama.cpp, Ollama and whatever else answers ``POST .../chat/completions``. Their
answers are untrusted: http and https only, no redirect is followed, bytes and time are bounded, and
the key is sent to that server alone. A local model comes from safetensors; no code of a model runs.
"""

import contextlib
import hashlib
import json
import math
import random
import re
import threading
import time
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from astroclip_search.exceptions import ImageError
from astroclip_search.images.guard import Clock, Connections
from astroclip_search.images.http import retry_after

__all__ = ['BackendError', 'LocalModel', 'Reply', 'Server', 'hash_files']

_CONNECT_TIMEOUT = 10.0
_CHUNK = 64 * 1024

# Seconds before the first further try; each wait is about twice the one before.
_BACK_OFF = 0.5
_MAX_BACK_OFF = 30.0

# A server that asks for a longer pause had better be asked again by hand.
_MAX_PAUSE = 600.0

#: What a local model is loaded from, and what its hash is taken of.
_MODEL_FILES = ('*.safetensors', '*.json', '*.jinja', '*.txt', '*.model')


class BackendError(Exception):
    """
    A model could not be asked.

    Parameters
    ----------
    reason : str
        What went wrong.
    fatal : bool, optional
        Whether it would go wrong for every other proposal too.
    """

    def __init__(self, reason, *, fatal=False):
        super().__init__(reason)
        self.fatal = fatal


class _TransientError(Exception):
    """
    A failure worth another try, after ``pause`` seconds if a server that answered says how many.
    """

    def __init__(self, reason, *, answered=False, pause=None):
        super().__init__(reason)
        self.answered = answered
        self.pause = pause


class Reply(NamedTuple):
    """
    What a model said.

    Parameters
    ----------
    text : str
        Its words.
    complete : bool
        Whether it came to an end, and was not cut off at the limit of tokens.
    """

    text: str
    complete: bool


class Server:
    """
    A server that speaks OpenAI's chat completions; safe to use from many threads.

    Parameters
    ----------
    url : str
        Base address, such as ``http://localhost:8000/v1``.
    model : str
        Name of the model there.
    key : str, optional
        API key.
    schema : dict, optional
        JSON schema that replies shall keep to.
    response_format : {'json_schema', 'json_object', 'none'}, optional
        How the server is told so. Not all know the first.
    model_sha256 : str, optional
        Hash of the weights that it serves; by default what Ollama says, else unknown.
    concurrency : int, optional
        Requests at one time.
    timeout : float, optional
        Seconds for one request.
    retries : int, optional
        Further tries after a lost connection, no answer in time, a 408, a 429 or a 5xx.
    max_tokens : int, optional
        Longest reply.
    max_bytes : int, optional
        Largest body of an answer.

    Raises
    ------
    ValueError
        If the address is none of http or https.
    BackendError
        If the server cannot be reached.
    """

    def __init__(self, url, model, *, key=None, schema=None, response_format='json_schema',
                 model_sha256=None, concurrency=4, timeout=120.0, retries=5, max_tokens=1024,
                 max_bytes=1024**2):
        parts = urlsplit(url)
        if (parts.scheme not in ('http', 'https') or not parts.hostname
                or '@' in parts.netloc or parts.query or parts.fragment):
            raise ValueError('the address of the server must be like http://localhost:8000/v1 '
                             'or https://host/v1, and hold no key')
        if key and not (key.isascii() and key.isprintable() and ' ' not in key):
            raise ValueError('the API key holds a space, a line end or a letter with an accent')
        port = parts.port or {'http': 80, 'https': 443}[parts.scheme]
        self.model = model
        self.concurrency = concurrency
        # Headers are for one host, and over http for one that is written with its port.
        host = f'{f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname}:{port}'
        self._origin = f'{parts.scheme}://{host}'
        self._url = self._origin + parts.path.rstrip('/').removesuffix('/chat/completions')
        self._key = key
        self._settings = {'max_tokens': max_tokens, **_format(response_format, schema)}
        self._timeout, self._retries, self._max_bytes = timeout, retries, max_bytes
        self._lock = threading.Lock()
        self._pause_until = -math.inf
        self._closed = threading.Event()
        headers = {'Content-Type': 'application/json', 'Accept': 'application/json'}
        if key:
            headers['Authorization'] = f'Bearer {key}'
        # Whoever names a server trusts it, also one of this machine.
        self._connections = Connections('astroclip-search export', concurrency, trusted=[host],
                                        headers={host: headers})
        try:
            self.model_sha256 = model_sha256 or self._digest()
        except BackendError:
            self.close()
            raise

    def close(self):
        """Cut what is under way; further requests fail."""
        self._closed.set()
        self._connections.close()

    def ask(self, messages, *, temperature):
        """
        Have the model continue a conversation.

        Parameters
        ----------
        messages : list of dict
            With ``role`` and ``content``.
        temperature : float
            Of sampling; 0 takes the likeliest words.

        Returns
        -------
        reply : `Reply`
            As it came.

        Raises
        ------
        BackendError
            If there is none, after all tries.
        """
        body = json.dumps({'model': self.model, 'messages': messages, 'temperature': temperature,
                           'stream': False, **self._settings}).encode()
        for attempt in range(self._retries + 1):
            self._wait(attempt)
            try:
                return self._reply(self._exchange(f'{self._url}/chat/completions', body))
            except _TransientError as error:
                problem = error
                if error.pause is not None:
                    self._pause(error)
        raise BackendError(f'{problem}, {self._retries + 1} times')

    def _wait(self, attempt):
        """
        Wait before a further try, and as long as the server asked anyone to wait.
        """
        wait = 0.0
        if attempt:
            wait = min(_MAX_BACK_OFF, _BACK_OFF * 2**(attempt - 1)) * random.uniform(0.5, 1.5)
        self._closed.wait(max(wait, self._pause_until - time.monotonic()))
        if self._closed.is_set():
            raise BackendError('interrupted', fatal=True)

    def _pause(self, error):
        if error.pause > _MAX_PAUSE:
            raise BackendError(f'{error}: it asks to wait {error.pause:.0f} s', fatal=True)
        with self._lock:
            self._pause_until = max(self._pause_until, time.monotonic() + error.pause)

    def _exchange(self, url, body=None, timeout=None):
        """
        One request, and the body of its answer.
        """
        import requests
        import urllib3

        clock = Clock(timeout or self._timeout)
        try:
            with self._connections.exchange(
                    url, clock, data=body,
                    timeout=(min(_CONNECT_TIMEOUT, clock.left), clock.left)) as response:
                content = self._read(response, clock)
                self._check(response, content)
                return content
        except ImageError as error:
            raise _TransientError(error.reason) from error
        except requests.exceptions.SSLError as error:
            raise BackendError('no secure connection, is the certificate of the server valid?',
                               fatal=True) from error
        except (requests.exceptions.RequestException, urllib3.exceptions.HTTPError,
                OSError) as error:
            if clock.left:
                raise _TransientError('the connection was broken') from error
            raise _TransientError('no answer in time') from error

    def _read(self, response, clock):
        body = bytearray()
        # read1 returns what is there: read(n) would wait for n bytes of a slow drip.
        while chunk := response.raw.read1(_CHUNK, decode_content=False):
            body += chunk
            if len(body) > self._max_bytes:
                raise BackendError(f'an answer of more than {self._max_bytes} bytes')
        if not clock.left:  # what was cut looks like something short
            raise _TransientError('no answer in time')
        return bytes(body)

    def _check(self, response, content):
        code = response.status_code
        if code == 200:
            return
        said = self._error_message(content)
        problem = f'HTTP {code}: {said}' if said else f'HTTP {code}'
        if code in (408, 429) or code >= 500:
            raise _TransientError(problem, answered=True,
                                  pause=retry_after(response.headers.get('Retry-After')))
        raise BackendError(problem, fatal=code in (401, 403, 404, 405, 407) or code < 400)

    def _error_message(self, content):
        """
        What the server has to say, without the key.
        """
        with contextlib.suppress(ValueError, RecursionError):
            answer = json.loads(content)
            answer = answer.get('error', answer) if isinstance(answer, dict) else answer
            said = answer.get('message', '') if isinstance(answer, dict) else answer
            said = str(said).replace(self._key, '***') if self._key else str(said)
            return ''.join(filter(str.isprintable, said[:300]))
        return ''

    def _reply(self, content):
        try:
            answer = json.loads(content)
        except (ValueError, RecursionError) as error:
            raise _TransientError('an answer that is not JSON', answered=True) from error
        try:
            choice = answer['choices'][0]
            text, reason = choice['message'].get('content'), choice.get('finish_reason')
        except (KeyError, IndexError, TypeError, AttributeError) as error:
            raise BackendError('an answer without choices: is it a server of chat completions?'
                               ) from error
        return Reply(text if isinstance(text, str) else '', reason != 'length')

    def _digest(self):
        """
        The hash of the model, if the server is an Ollama, which knows it.
        """
        try:
            answer = json.loads(self._exchange(f'{self._origin}/api/tags',
                                               timeout=min(_CONNECT_TIMEOUT, self._timeout)))
            for entry in answer['models']:
                if entry['name'] in (self.model, f'{self.model}:latest'):
                    return re.fullmatch('(?:sha256:)?([0-9a-f]{64})', entry['digest'])[1]
        except (BackendError, ValueError, KeyError, TypeError, RecursionError):
            return None  # another server
        except _TransientError as error:
            if not error.answered:
                raise BackendError(f'{self._origin}: {error}', fatal=True) from error
        return None


def _format(response_format, schema):
    if response_format == 'json_schema' and schema is not None:
        described = {'name': 'summary', 'strict': True, 'schema': schema}
        return {'response_format': {'type': 'json_schema', 'json_schema': described}}
    if response_format == 'json_object':
        return {'response_format': {'type': 'json_object'}}
    return {}


class LocalModel:
    """
    A causal language model of transformers, on this machine.

    Parameters
    ----------
    name : str or path-like
        Folder, or id of the hub (of which only what has been downloaded is used where
        ``HF_HUB_OFFLINE`` is set).
    revision : str, optional
        Commit, tag or branch of the hub.
    device : str, optional
        Of torch; by default a GPU if there is one.
    timeout : float, optional
        Seconds after which a reply is cut off.
    max_tokens : int, optional
        Longest reply.

    Raises
    ------
    ValueError
        If there are no safetensors, no end token, or the model wants code of its own.
    """

    concurrency = 1

    def __init__(self, name, *, revision=None, device=None, timeout=600.0, max_tokens=1024):
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        folder = Path(name)
        if not folder.is_dir():
            from huggingface_hub import snapshot_download

            folder = Path(snapshot_download(str(name), revision=revision,
                                            allow_patterns=list(_MODEL_FILES)))
        if not any(folder.glob('*.safetensors')):
            raise ValueError(f'{folder.name} has no weights in safetensors: others are not loaded')
        settings = {'trust_remote_code': False, 'local_files_only': True}
        self._tokenizer = AutoTokenizer.from_pretrained(folder, **settings)
        model = AutoModelForCausalLM.from_pretrained(folder, use_safetensors=True, dtype='auto',
                                                     **settings)
        self._torch = torch
        self._model = model.eval().to(device or ('cuda' if torch.cuda.is_available() else 'cpu'))
        self._timeout, self._max_tokens = timeout, max_tokens
        end = model.generation_config.eos_token_id
        if end is None:
            end = self._tokenizer.eos_token_id
        if end is None:
            raise ValueError(f'{folder.name} has no token that ends a reply')
        self._ends = end if isinstance(end, list) else [end]
        self.model = folder.name if Path(name).is_dir() else str(name)
        self.model_sha256 = hash_files(folder)

    def close(self):
        """Do nothing: a reply under way ends by itself."""

    def ask(self, messages, *, temperature):
        """
        Have the model continue a conversation.

        Parameters
        ----------
        messages : list of dict
            With ``role`` and ``content``.
        temperature : float
            Of sampling, from a fixed seed; 0 takes the likeliest words.

        Returns
        -------
        reply : `Reply`
            As it came.

        Raises
        ------
        BackendError
            If the conversation is longer than the model can read.
        """
        inputs = self._tokens(messages).to(self._model.device)
        length = inputs['input_ids'].shape[1]
        longest = getattr(self._model.config.get_text_config(), 'max_position_embeddings', math.inf)
        if length + self._max_tokens > longest:
            raise BackendError(f'{length} tokens and a reply do not fit into {longest}')
        self._torch.manual_seed(0)
        sampling = {'do_sample': False}
        if temperature:
            sampling = {'do_sample': True, 'temperature': temperature}
        with self._torch.inference_mode():
            tokens = self._model.generate(
                **inputs, **sampling, max_new_tokens=self._max_tokens, max_time=self._timeout,
                eos_token_id=self._ends, pad_token_id=self._ends[0])[0, length:]
        return Reply(self._tokenizer.decode(tokens, skip_special_tokens=True),
                     len(tokens) > 0 and int(tokens[-1]) in self._ends)

    def _tokens(self, messages):
        if self._tokenizer.chat_template:
            return self._tokenizer.apply_chat_template(
                messages, add_generation_prompt=True, return_tensors='pt', return_dict=True)
        text = '\n\n'.join(message['content'] for message in messages)
        return self._tokenizer(text + '\n\n', return_tensors='pt', return_token_type_ids=False)


def hash_files(path):
    """
    Identify the weights of a model.

    Parameters
    ----------
    path : path-like
        A file (such as one of GGUF), or a folder.

    Returns
    -------
    digest : str
        SHA-256 in hexadecimal: of the file; or, for a folder, of what ``sha256sum`` prints for its
        safetensors, JSON, template and tokenizer files in the order of their names.
    """
    path = Path(path)
    if path.is_dir():
        files = sorted({file for pattern in _MODEL_FILES for file in path.glob(pattern)})
        lines = ''.join(f'{hash_files(file)}  {file.name}\n' for file in files)
        return hashlib.sha256(lines.encode()).hexdigest()
    with open(path, 'rb') as file:
        return hashlib.file_digest(file, 'sha256').hexdigest()
