"""
The model card: what the model is, was trained on, and scores, in its own numbers.
"""

from export.evaluation.report import concept_list
from export.measures.tables import markdown_table

__all__ = ['model_card']

_HEAD = """---
license: bsd-3-clause
library_name: onnx
pipeline_tag: zero-shot-image-classification
tags:
- astronomy
- clip
- onnx
---

# {name} {version}

A small image-text model for pictures in astronomical archives: it gives a phrase and a preview
image a common vector, so that images can be ranked by a phrase, offline and without a GPU.
It is **experimental**: see the numbers below, and compare them with the baselines beside them.

| | |
|---|---|
| image tower | {network} from ImageNet weights, {input_size} x {input_size} pixels, whole frame squashed to a square; mean and maximum of several stages, {components:,} principal components, a linear map and {hidden} hidden units beside it |
| text tower | {text_encoder}, and a learned map of {text_width} hidden units into {dim} dimensions |
| outputs | `image_embeds`; with the input `with_places`, which need not be given, also `patch_embeds`, whose mean over the places is `image_embeds`. Sides may be any multiples of 32 |
| files | `onnx/vision_model_quantized.onnx` (convolutions int8 with fixed ranges, but the first ones; weights int8), `onnx/text_model_quantized.onnx` (int8, activations quantised row by row) |
| licence | {licence} |

## Training
{samples:,} views in {steps:,} steps and {minutes:.0f} minutes on one shared CPU core.
{synthetic_scenes:,} rendered scenes of {kinds} kinds with exact captions{real}.
{history}No image or text of a third party is in this bundle. The weights that the image tower begins from
are those of EfficientNet-Lite0 (Tan & Le 2019; Apache-2.0, see `LICENSE-APACHE.txt`), trained on ImageNet-1k.

## What it is for, and what not
Ranking the rows of an archive query by what their previews show. Queries outside the concepts
it was trained on (listed below) are answered by resemblance to those concepts. A high rank is a
candidate, not a classification; `clip_false_alarm` says how often an unrelated archive image
scores as high. Do not use it to measure completeness or to build a catalogue.
"""

_REAL = (', and in each batch {percent:.0f} % real images (APOD pictures without a copyright '
         'notice, SDSS cutouts with Galaxy Zoo classes, FIRST radio galaxies, JWST mosaics)')

_VERDICTS = '''
## What works, is weak, and fails
Held-out real images, by the picture alone. Works: an AUC from .85 with a low end from .75, and
three of the first ten right. Fails: an AUC below .6, or an interval that reaches .5.
'''


def model_card(description):
    """
    Write a model card.

    Parameters
    ----------
    description : dict
        Content of ``astroclip.json``.

    Returns
    -------
    card : str
        Markdown with the metadata block of the Hugging Face hub.
    """
    training = description['training']
    real = training['real_fraction']
    parts = [_HEAD.format(
        **{**training, 'kinds': len(training['kinds']),
           'history': training['history'] and training['history'] + '\n'},
        dim=description['embedding_dim'],
        name=description['name'], version=description['version'], licence=description['licence'],
        real=_REAL.format(percent=100 * real) if real else '',
    )]
    metrics = description['metrics']
    if not metrics:
        parts.append('\n## Measured\nNothing yet: this bundle was made before evaluation.\n')
    if metrics.get('concepts'):
        parts.append(_VERDICTS)
        parts += [f'\n{place}\n\n{concept_list(concepts)}'
                  for place, concepts in metrics['concepts'].items()]
    parts += [f"\n## {table['title']}\n{table['text']}\n\n{markdown_table(table)}"
              for table in metrics.get('tables', ())]
    ranking = description['ranking']
    words = (f"a max(z(words) - {ranking['text_above']:g}, 0), where a is how far the words tell of "
             'the phrase in a table' if 'text_above' in ranking else 'z(words)')
    parts.append(
        f"\n## Ranking weights\n`clip_score` = {ranking['image_weight']:g} z(picture) + "
        f"{ranking['text_weight']:g} {words}. Fitted: {ranking['fitted']}.\n"
    )
    kinds = ', '.join(kind.replace('_', ' ') for kind in training['kinds'])
    parts.append(f'\n## Concepts of the synthetic sky\n{kinds}.\n')
    return ''.join(parts)
