"""
Tokenizers of other libraries as one ``tokenizer.json``.

What open_clip does to a text in Python before it looks up tokens (ftfy, HTML entities, lower case,
white space) is written into the file as normalisers, so that whoever opens it does the same. One
thing cannot be written so: ftfy also mends text that was decoded with the wrong encoding.
"""

import html.entities

from ftfy.chardata import CONTROL_CHARS, LIGATURES, WIDTH_MAP
from tokenizers import Regex, Tokenizer, normalizers, pre_tokenizers, processors
from tokenizers.models import BPE

__all__ = ['byte_pairs', 'cleaning', 'with_cleaning', 'with_padding']

#: Words, numerals one by one, everything else together, as in OpenAI's CLIP.
_PATTERN = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"

_PUNCTUATION = r'[!"#$%&' + r"'()*+,\-./:;<=>?@\[\\\]^`{|}~]"


def cleaning(kind):
    """
    What open_clip does to a text before it looks up tokens.

    Parameters
    ----------
    kind : {'lower', 'whitespace', 'canonicalize'}
        Value of ``clean`` in ``tokenizer_kwargs``.

    Returns
    -------
    steps : list of `tokenizers.normalizers.Normalizer`
        The same, in order.

    Raises
    ------
    ValueError
        If open_clip knows no such cleaning.
    """
    if kind not in ('lower', 'whitespace', 'canonicalize'):
        raise ValueError(f'texts are cleaned in a way that is not known ({kind!r})')
    replace = normalizers.Replace
    steps = [replace(Regex('&(?:amp;)+'), '&')]  # titles are often escaped twice
    steps += [replace(f'&{name};', chr(code))
              for name, code in html.entities.name2codepoint.items() if name != 'amp']
    steps += [replace(Regex('&#0*39;|&apos;'), "'"), replace(Regex(r'\x1b\[[\d;]*[a-zA-Z]'), '')]
    steps += [replace(chr(code), text) for code, text in {**LIGATURES, **WIDTH_MAP}.items()]
    steps += [replace(Regex('[\u02bc\u2018-\u201b]'), "'"), replace(Regex('[\u201c-\u201f]'), '"')]
    steps += [replace(Regex('\r\n|[\r\u2028\u2029\u0085]'), '\n')]
    dropped = ''.join(f'\\x{{{code:x}}}' for code in CONTROL_CHARS if code != 0x0d)
    steps += [replace(Regex(f'[{dropped}]'), ''), normalizers.NFC()]
    if kind == 'canonicalize':
        steps += [replace('_', ' '), replace(Regex(_PUNCTUATION), '')]
    if kind != 'whitespace':
        steps += [normalizers.Lowercase()]
    return [*steps, replace(Regex(r'\s+'), ' '), normalizers.Strip()]


def byte_pairs(source, clean):
    """
    The tokenizer of OpenAI's CLIP and of most open_clip models.

    Parameters
    ----------
    source : `open_clip.tokenizer.SimpleTokenizer`
        Vocabulary and merges.
    clean : str
        As for `cleaning`.

    Returns
    -------
    tokenizer : `tokenizers.Tokenizer`
        The same, without padding.
    """
    tokenizer = Tokenizer(BPE(
        vocab=source.encoder, merges=list(source.bpe_ranks), end_of_word_suffix='</w>',
    ))
    start, end = (source.decoder[i] for i in (source.sot_token_id, source.eot_token_id))
    tokenizer.normalizer = normalizers.Sequence(cleaning(clean))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(_PATTERN), 'removed', invert=True),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ])
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f'{start} $A {end}',
        special_tokens=[(start, source.sot_token_id), (end, source.eot_token_id)],
    )
    tokenizer.add_special_tokens([start, end])
    return tokenizer


def with_cleaning(tokenizer, steps):
    """
    Clean texts before what a tokenizer itself does to them.

    Parameters
    ----------
    tokenizer : `tokenizers.Tokenizer`
        Changed in place.
    steps : list of `tokenizers.normalizers.Normalizer`
        What comes first.
    """
    own = [tokenizer.normalizer] if tokenizer.normalizer is not None else []
    tokenizer.normalizer = normalizers.Sequence([*steps, *own])


def with_padding(tokenizer, length, pad_id, *, always):
    """
    Cut texts at a length, keeping the end token, and pad them on the right.

    Parameters
    ----------
    tokenizer : `tokenizers.Tokenizer`
        Changed in place.
    length : int
        Tokens that the text tower reads.
    pad_id : int
        Token that it was trained to see behind a text.
    always : bool
        Pad to the full length and not to the longest text of a batch: towers that look at the
        padding need it.
    """
    tokenizer.enable_truncation(length)
    tokenizer.enable_padding(
        direction='right', pad_id=pad_id, pad_token=tokenizer.id_to_token(pad_id),
        length=length if always else None,
    )
