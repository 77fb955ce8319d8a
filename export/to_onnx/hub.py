"""
Any CLIP, from the hub or a folder, as a bundle.

``python -m export to-onnx --from <hub id or folder> --out DIR`` writes both towers with all that
`astroclip_search` needs to open them, compares every variant with torch, and keeps none that is
farther from it than `export.to_onnx.parity.LIMITS` allows.

Vision transformers and their text towers are written lean (`export.to_onnx.lean_graph`), all others
as torch exports them. Both have the same names: readers see from the type of ``pixel_values``
whether to normalise. Other tools do not look, hence ``--layout plain``, which writes all as torch
does.
"""

import argparse
import hashlib
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from tokenizers import Tokenizer

from astroclip_search.images.preprocess import Preprocessing, resize
from export.finetuning.origin import fetch
from export.measures.metrics import retrieval
from export.measures.tables import markdown_table
from export.sky import KINDS, names, render
from export.to_onnx.lean import image_tower, text_tower
from export.to_onnx.parity import compare, refusal
from export.to_onnx.tracing import export_module, session
from export.to_onnx.variants import VARIANTS, products, save_lean

__all__ = ['main', 'write']

#: Only the towers of bundles whose files can be opened whole.
MOST_BYTES = 2_000_000_000

#: Rendered pictures that are ranked.
IMAGES = 48

#: Most that a picture may differ from what the library makes of it: mean of 255.
GREY_LEVELS = 2

#: Short, long, longer than any tower reads, case, punctuation, white space, what ftfy mends.
TEXTS = (
    'spiral galaxy', 'a planetary nebula with a faint halo', 'globular cluster', 'M 104',
    'Edge-on GALAXY, with a dust lane!', 'protoplanetary  disk\n seen edge on',
    'naine blanche entourée d’une nébuleuse', 'H&alpha; emission &amp; dust', '原始惑星系円盤',
    'Barnard’s “ﬁlaments”', 'supernova remnant_in_x-rays', 'a comet and its tail', '',
    'NGC 1300, barred spiral galaxy, deep imaging of nearby galaxies in the near infrared',
    'galaxy ' * 100,
)


def write(name, out, *, revision=None, variants=('fp16', 'int8'), layout='lean',
          licence='see the source'):
    """
    Write a bundle of any CLIP.

    Parameters
    ----------
    name : str
        Path of a folder, or a hub id.
    out : path-like
        Folder to write; it must not be there.
    revision : str, optional
        Commit, tag or branch on the hub.
    variants : sequence of str, optional
        Beside float32: ``fp16``, ``int8``.
    layout : {'lean', 'plain'}, optional
        Lean towers where they can be written, or what every tool reads.
    licence : str, optional
        Licence of the weights, for the model card.

    Returns
    -------
    numbers : dict of dict
        Variant -> what `export.to_onnx.parity.compare` gives, and ``refused`` with the reason for
        variants that were not kept.

    Raises
    ------
    ValueError
        If the checkpoint cannot be read, if its tokens or its preprocessing cannot be written,
        or if the float32 towers differ from torch.
    """
    from export.to_onnx.families import read_checkpoint

    out = Path(out)
    if out.exists():
        raise ValueError(f'{out} is there already')
    folder, weights, commit = fetch(name, revision)
    checkpoint = read_checkpoint(folder, weights)
    # Under its own name only when it is complete: a folder without a gate would open too.
    part = out.with_name(f'{out.name}.part')
    shutil.rmtree(part, ignore_errors=True)
    (part / 'onnx').mkdir(parents=True)
    _write_descriptions(part, checkpoint)
    probe = _Probe(part, checkpoint)
    towers = _write_towers(part, checkpoint, probe, layout)
    numbers = {'fp32': probe.compare('')}
    if reason := refusal('fp32', numbers['fp32']):
        raise ValueError(f'{name} cannot be written: {reason}')
    for variant in variants:
        numbers[variant] = _write_variant(part, variant, probe, towers)
    np.savez_compressed(part / 'golden.npz', **probe.golden())
    origin = {
        'name': name if commit else folder.name, 'revision': commit,
        'weights': {file.name: _sha256(file) for file in weights},
    }
    _seal(part, {
        'name': origin['name'], 'version': commit[:12] or '1', 'licence': licence,
        'embedding_dim': probe.images.shape[1], 'prompt_templates': ['{}'],
        'logit_scale': checkpoint.logit_scale, 'logit_bias': checkpoint.logit_bias,
        'layout': {tower: 'lean' if lean else 'plain' for tower, lean in towers.items()},
        'origin': origin, 'parity': numbers,
    })
    part.rename(out)
    return numbers


def _write_variant(out, variant, probe, towers):
    """
    Write both towers as a variant, unless it is too far from torch.
    """
    ending, ways = VARIANTS[variant]
    files = {tower: (out / 'onnx' / f'{tower}_model.onnx',
                     out / 'onnx' / f'{tower}_model{ending}.onnx') for tower in towers}
    for make, limits in ways:
        if make is products and not towers['vision']:
            continue
        for tower, (source, target) in files.items():
            make(source, target, towers[tower])
        numbers = {**probe.compare(ending), 'limits': limits}
        reason = refusal(limits, numbers)
        if not reason:
            return numbers
    for _, target in files.values():
        target.unlink()
    return {**numbers, 'refused': reason}


def _write_descriptions(out, checkpoint):
    checkpoint.tokenizer.save(str(out / 'tokenizer.json'), pretty=False)
    pad = checkpoint.tokenizer.padding['pad_token']
    for name, content in (
            ('config.json', checkpoint.config()),
            ('preprocessor_config.json', checkpoint.preprocessor),
            ('tokenizer_config.json', {'tokenizer_class': 'PreTrainedTokenizerFast',
                                       'model_max_length': checkpoint.length, 'pad_token': pad}),
            ('special_tokens_map.json', {'pad_token': pad})):
        (out / name).write_text(json.dumps(content, indent=1, ensure_ascii=False) + '\n',
                                encoding='utf-8')


def _write_towers(out, checkpoint, probe, layout):
    """
    Write both in float32; return the weights of each, or None if it is not lean.
    """
    for tower in (checkpoint.image_tower, checkpoint.text_tower):
        if sum(value.nbytes for value in tower.parameters()) > MOST_BYTES:
            raise ValueError('a tower of more than 2 GB does not fit in one ONNX file')
    preprocessing = probe.preprocessing
    towers = {'vision': None, 'text': None}
    if layout == 'lean':
        towers = {'vision': image_tower(checkpoint.model, preprocessing.mean, preprocessing.std),
                  'text': text_tower(checkpoint.model, checkpoint.pad_id)}
    files = {tower: out / 'onnx' / f'{tower}_model.onnx' for tower in towers}
    images, texts = checkpoint.outputs
    axes = {0: 'batch', 1: 'length'}
    for tower, lean in towers.items():
        if lean:
            save_lean(lean, files[tower])
        elif tower == 'vision':
            export_module(checkpoint.image_tower, (probe.pixels[:2],), files[tower],
                          inputs={'pixel_values': {0: 'batch'}}, outputs={images: {0: 'batch'}})
        else:
            export_module(checkpoint.text_tower, (torch.from_numpy(probe.ids[:2]),), files[tower],
                          inputs={'input_ids': axes}, outputs={texts: {0: 'batch'}})
    return towers


class _Probe:
    """
    Pictures and texts, and what the checkpoint's own library makes of them.

    Parameters
    ----------
    out : pathlib.Path
        Folder with the descriptions as written.
    checkpoint : `export.to_onnx.families.OpenClip` or `export.to_onnx.families.Clip`
        What they were written from.

    Raises
    ------
    ValueError
        If the descriptions give other tokens or other pixels than the library.
    """

    def __init__(self, out, checkpoint):
        self.out = out
        tokenizer = Tokenizer.from_file(str(out / 'tokenizer.json'))
        self.ids = np.array([e.ids for e in tokenizer.encode_batch(TEXTS)], np.int64)
        self.batches = [np.array([e.ids for e in tokenizer.encode_batch(part)], np.int64)
                        for part in (TEXTS[:1], TEXTS[1:4], TEXTS[4:])]
        tokens = checkpoint.tokens(TEXTS)
        for text, mine, wanted in zip(TEXTS, self.ids, tokens.numpy(), strict=True):
            # A short batch is padded less; what was cut off must be padding.
            end = np.flatnonzero(mine != mine[-1]).max(initial=0) + 2
            if (mine[:end] != wanted[:end]).any() or len(set(wanted[end:])) > 1:
                raise ValueError(f'the tokenizer cannot be written: {text[:40]!r} has other tokens')
        self.preprocessing = preprocessing = Preprocessing.from_config(checkpoint.preprocessor)
        self.squares, self.pixels, kinds = [], [], []
        for i in range(IMAGES):
            scene = render(9_000_000 + i)
            image = Image.fromarray(scene.image)
            kinds.append(scene.kind)
            self.squares.append(resize(image, preprocessing))
            self.pixels.append(checkpoint.pixels(image))
        oblong = Image.fromarray(np.concatenate([render(9_900_000).image, render(9_900_001).image]))
        # The reader's crop is not rounded to whole pixels, hence not the largest difference.
        for image, pixels in ((oblong, checkpoint.pixels(oblong)),
                              (Image.fromarray(self.squares[0]), self.pixels[0])):
            mine = (resize(image, preprocessing) / 255 - preprocessing.mean) / preprocessing.std
            difference = np.abs(mine.transpose(2, 0, 1) - pixels.numpy()).mean()
            if difference * 255 * np.mean(preprocessing.std) > GREY_LEVELS:
                raise ValueError('the preprocessing cannot be written: pictures come out otherwise')
        self.pixels = torch.stack(self.pixels)
        # What is found is asked for by the names of kinds.
        kind_of = sorted(set(kinds), key=KINDS.index)
        phrases = [names(kind)[0] for kind in kind_of]
        self.truth = np.array(kinds)[:, None] == np.array(kind_of)
        self.phrase_ids = np.array([e.ids for e in tokenizer.encode_batch(phrases)], np.int64)
        with torch.no_grad():
            self.texts = checkpoint.encode_text(tokens).numpy()
            self.phrases = checkpoint.encode_text(checkpoint.tokens(phrases)).numpy()
            self.images = np.concatenate([checkpoint.encode_image(part).numpy()
                                          for part in self.pixels.split(8)])

    def compare(self, ending):
        """
        Compare a variant with torch, on the same pixels and tokens.
        """
        vision, text = (session(self.out / 'onnx' / f'{tower}_model{ending}.onnx')
                        for tower in ('vision', 'text'))
        pixels = self.pixels.numpy()
        if vision.get_inputs()[0].type == 'tensor(uint8)':
            # Normalising undone: what the library resized had whole grey levels.
            mean, std = (np.reshape(values, (3, 1, 1)) for values in
                         (self.preprocessing.mean, self.preprocessing.std))
            grey = np.rint((pixels * std + mean) * 255).clip(0, 255)
            pixels = grey.transpose(0, 2, 3, 1).astype(np.uint8)
        images = np.concatenate([vision.run(None, {'pixel_values': pixels[start:start + 8]})[0]
                                 for start in range(0, len(pixels), 8)])
        # As readers do, in batches of other lengths than the one that was traced.
        texts = np.concatenate([text.run(None, {'input_ids': ids})[0] for ids in self.batches])
        phrases = text.run(None, {'input_ids': self.phrase_ids})[0]
        wanted, got = (retrieval(a @ b.T, self.truth)[1] for a, b in (
            (self.images, self.phrases), (images, phrases)))
        return {**compare(images, texts, self.images, self.texts),
                'map': float(got), 'map_loss': float(wanted - got)}

    def golden(self):
        """
        The self-test of a bundle: what torch makes of some of it.
        """
        return {'pixels': np.stack(self.squares[:8]), 'image_embeds': self.images[:8],
                'texts': np.array(TEXTS), 'text_embeds': self.texts}


def _seal(out, info):
    (out / 'README.md').write_text(_card(info), encoding='utf-8')
    info['files'] = {path.relative_to(out).as_posix(): _sha256(path)
                     for path in sorted(out.rglob('*')) if path.is_file()}
    (out / 'astroclip.json').write_text(
        json.dumps(info, indent=1, ensure_ascii=False) + '\n', encoding='utf-8')


def _sha256(path):
    with path.open('rb') as stream:
        return hashlib.file_digest(stream, 'sha256').hexdigest()


_CARD = """---
license: other
library_name: onnx
pipeline_tag: zero-shot-image-classification
tags:
- clip
- onnx
---

# {name} as ONNX

Both towers of `{name}`{revision}, for `astroclip_search` and other readers of this layout.
Nothing was trained: for what it is and what it may be used for, see its own model card.
Licence of the weights: {licence}.
{layout}
## Beside torch
On {images} rendered pictures and {texts} texts, the same pixels and tokens: the largest difference
of a cosine, Kendall's tau of the orders of pictures by text, the share of common pictures among
the first ten, and the mean average precision of the names of what is shown, with what torch's is
above it.

{table}
Licence and origin are as given to `python -m export to-onnx`; `astroclip.json` has the checksums of
the weights and of every file.
"""


_LEAN = """
The {towers} tower is lean: fused operators of ONNX Runtime (`com.microsoft`), and images as uint8
(n, height, width, 3) that are not normalised. For tools that read neither, write it anew with
`--layout plain`.
"""


def _card(info):
    rows = [[variant, f"{numbers['delta_cosine']:.1e}", numbers['kendall_tau'], numbers['top10'],
             numbers['map'], numbers['map_loss'], numbers.get('refused', '')]
            for variant, numbers in info['parity'].items()]
    table = markdown_table({'columns': ['', 'cosine', 'tau', 'first ten', 'mAP', 'lost',
                                        'refused because'],
                            'rows': rows})
    revision = info['origin']['revision']
    lean = [word for tower, word in (('vision', 'image'), ('text', 'text'))
            if info['layout'][tower] == 'lean']
    layout = _LEAN.format(towers=' and the '.join(lean)) if lean else ''
    return _CARD.format(name=info['name'], revision=f' at {revision}' if revision else '',
                        licence=info['licence'], layout=layout, images=IMAGES, texts=len(TEXTS),
                        table=table)


def main(arguments):
    """
    Run ``python -m export to-onnx --from ...``.

    Parameters
    ----------
    arguments : list of str
        Command line.

    Returns
    -------
    status : int
        Exit status: 1 if nothing was written.
    """
    parser = argparse.ArgumentParser(prog='python -m export to-onnx',
                                     description='Write any CLIP as a bundle.')
    parser.add_argument('--from', dest='name', required=True,
                        help='folder or hub id: open_clip, CLIPModel, SiglipModel, Siglip2Model')
    parser.add_argument('--revision', help='commit, tag or branch on the hub')
    parser.add_argument('--out', required=True, help='folder to write')
    parser.add_argument('--variants', nargs='*', choices=list(VARIANTS), default=list(VARIANTS),
                        help='beside float32')
    parser.add_argument('--layout', choices=['lean', 'plain'], default='lean',
                        help='plain: towers that other tools read, too')
    parser.add_argument('--licence', default='see the source', help='of the weights, for the card')
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    try:
        numbers = write(options.name, options.out, revision=options.revision,
                        variants=options.variants, layout=options.layout,
                        licence=options.licence)
    except ValueError as error:
        print(f'{error}.', file=sys.stderr)
        return 1
    for variant, found in numbers.items():
        print(f"{variant}: cosine {found['delta_cosine']:.1e}, tau {found['kendall_tau']:.4f}, "
              f"first ten {found['top10']:.3f}"
              + (f"; refused: {found['refused']}" if 'refused' in found else ''))
    return 0
