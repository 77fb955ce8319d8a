# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Models of the Hugging Face hub that are worth a try: what their own pages say of them.

No hub can be reached from where this package is made, so that none of them has been run there; what
reads them is tested with models of the same form and random weights.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ['EMBEDDED_GMACS', 'RECOMMENDED', 'UNUSABLE', 'Recommended', 'likely_speed']

EMBEDDED_GMACS = 0.201
"""
Billions of multiplications that the embedded model needs for an image; a test counts them.
"""

# How many more multiplications than the convolutions of the embedded model a transformer does in
# the same time, in eight bits: as others quantise it, and as our export writes it. Measured with
# ViT-B/32: 1.7 and 2.4 on a processor without VNNI, 2.7 and 4.4 on one with it.
_PLAIN, _LEAN = 2.2, 3.3


@dataclass(frozen=True)
class Recommended:
    """
    What is known of a model.
    """

    name: str
    """
    Its Hugging Face id.
    """
    kind: str
    """
    CLIP, SigLIP or the like.
    """
    is_ready: bool
    """
    Whether it has two ONNX towers, which are read as they are; if not, it must be exported first.
    """
    pixels: int
    """
    Side of the images that it sees.
    """
    parameters: int
    """
    Millions of them, of both towers.
    """
    gmacs: float | None
    """
    Billions of multiplications for an image, if that is known.
    """
    download: Mapping[str, int]
    """
    Megabytes of both towers in each precision, or of the weights that are exported.
    """
    licence: str
    """
    Of the weights, as the model's own page says.
    """
    good_for: str
    """
    When to take this one.
    """
    note: str = ''
    """
    What to mind.
    """
    sources: tuple[str, ...] = field(default=(), repr=False)
    """
    Pages that say all this.
    """


_HUB = 'https://huggingface.co/'
_PROFILE = 'https://github.com/mlfoundations/open_clip/blob/main/docs/model_profile.csv'

_OPENAI = 'none named (the code of OpenAI is MIT)'
_NOT_DEPLOYED = 'its card calls any deployed use out of scope'

RECOMMENDED = (
    Recommended(
        'Xenova/clip-vit-base-patch32', 'CLIP', True, 224, 151, 4.4,
        {'int8': 154, 'fp16': 303, 'fp32': 606}, _OPENAI,
        'a first try, and many images', _NOT_DEPLOYED,
        (f'{_HUB}Xenova/clip-vit-base-patch32/tree/main/onnx',
         f'{_HUB}openai/clip-vit-base-patch32', _PROFILE)),
    Recommended(
        'Xenova/clip-vit-base-patch16', 'CLIP', True, 224, 150, 17.6,
        {'int8': 152, 'fp16': 300, 'fp32': 599}, _OPENAI,
        'finer detail; PAPERCLIP began from these weights', _NOT_DEPLOYED,
        (f'{_HUB}Xenova/clip-vit-base-patch16/tree/main/onnx',
         f'{_HUB}openai/clip-vit-base-patch16', _PROFILE)),
    Recommended(
        'Xenova/clip-vit-large-patch14', 'CLIP', True, 224, 428, 81.0,
        {'int8': 432, 'fp16': 857, 'fp32': 1715}, _OPENAI,
        'few images, or a GPU', _NOT_DEPLOYED,
        (f'{_HUB}Xenova/clip-vit-large-patch14/tree/main/onnx',
         f'{_HUB}openai/clip-vit-large-patch14', _PROFILE)),
    Recommended(
        'Xenova/siglip-base-patch16-224', 'SigLIP', True, 224, 203, 17.7,
        {'int8': 211, 'fp16': 407, 'fp32': 813}, 'Apache-2.0',
        'a free licence without any export', '',
        (f'{_HUB}Xenova/siglip-base-patch16-224/tree/main/onnx',
         f'{_HUB}google/siglip-base-patch16-224', _PROFILE)),
    Recommended(
        'onnx-community/siglip2-base-patch16-224-ONNX', 'SigLIP 2', True, 224, 375, 17.7,
        {'fp16': 751}, 'Apache-2.0',
        'phrases in other languages than English',
        'the size of its other files is not known',
        (f'{_HUB}SortaPhotos/siglip2-base-patch16-224-onnx',
         f'{_HUB}google/siglip2-base-patch16-224')),
    Recommended(
        'jinaai/jina-clip-v1', 'CLIP', True, 224, 223, 17.6,
        {'int8': 226, 'fp16': 446, 'fp32': 892}, 'Apache-2.0',
        'long phrases, and titles of observations',
        "its text tower in eight bits is older than a correction: set conf.model_variant = 'fp32'",
        (f'{_HUB}jinaai/jina-clip-v1/tree/main/onnx',
         f'{_HUB}jinaai/jina-clip-v1/discussions/23')),
    Recommended(
        'laion/CLIP-ViT-B-32-256x256-DataComp-s34B-b86K', 'CLIP', False, 256, 151, 5.8,
        {'fp32': 605}, 'MIT', 'many images, with a free licence', '',
        (f'{_HUB}laion/CLIP-ViT-B-32-256x256-DataComp-s34B-b86K', _PROFILE)),
    Recommended(
        'wkcn/TinyCLIP-ViT-40M-32-Text-19M-LAION400M', 'CLIP', False, 224, 84, 1.9,
        {'fp32': 337}, 'MIT', 'a slow computer', '',
        (f'{_HUB}wkcn/TinyCLIP-ViT-40M-32-Text-19M-LAION400M/tree/main',)),
    Recommended(
        'apple/MobileCLIP-S2-OpenCLIP', 'MobileCLIP', False, 256, 99, None,
        {'fp32': 398}, 'Apple, for research only (apple-amlr)', 'a small download', '',
        (f'{_HUB}apple/MobileCLIP-S2-OpenCLIP', f'{_HUB}apple/MobileCLIP-S2/tree/main')),
)
"""
The list, what can be used as it is first.
"""

UNUSABLE = {
    'PAPERCLIP': 'its weights are not published; python -m export finetune trains as its paper did',
    'AION-Search': 'reads calibrated fluxes, and its text tower is a paid service',
    'AstroCLIP': 'compares images with spectra and reads no text',
    'jinaai/jina-clip-v2': 'CC-BY-NC-4.0, and both towers are one ONNX file',
    'Xenova/mobileclip_*': 'their text towers want all of 77 tokens, which no file of theirs says: '
                           'export those of apple instead',
}
"""
Models that one may think of, and why they are not on the list.
"""


def likely_speed(model: Recommended, images_per_second: float) -> float | None:
    """
    Images a second of a model in eight bits on a CPU that runs the embedded one at some speed; an
    estimate from multiplications alone, `None` where their number is not known.
    """
    if model.gmacs is None:
        return None
    factor = _PLAIN if model.is_ready else _LEAN
    return images_per_second * EMBEDDED_GMACS * factor / model.gmacs
