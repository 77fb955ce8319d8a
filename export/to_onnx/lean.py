"""
Vision transformers and their text towers as plain lists of weights, whatever library they are of.

`export.to_onnx.lean_graph` writes them as graphs that ONNX Runtime runs near the limit of the
machine.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import open_clip
import transformers
from open_clip.transformer import QuickGELU
from torch import nn

__all__ = ['Block', 'ImageTower', 'Linear', 'Norm', 'Pool', 'TextTower', 'image_tower',
           'text_tower']


class Linear(NamedTuple):
    """
    ``x @ weight + bias``: float32 (in, out) and (out,), or no bias.
    """

    weight: np.ndarray
    bias: np.ndarray | None = None


class Norm(NamedTuple):
    """
    Layer normalisation: float32 (d,) twice.
    """

    weight: np.ndarray
    bias: np.ndarray
    epsilon: float


class Block(NamedTuple):
    """
    ``x + out(attention(qkv(norm(x))))``, and to it ``down(activation(up(norm(x))))``.
    """

    attention_norm: Norm
    qkv: Linear
    out: Linear
    mlp_norm: Norm
    up: Linear
    down: Linear


class Pool(NamedTuple):
    """
    Attention of one learned query to all tokens (SigLIP); `block` without its first norm.
    """

    probe: np.ndarray
    block: Block


@dataclass(frozen=True)
class ImageTower:
    """
    A vision transformer.

    Attributes
    ----------
    size, patch, heads : int
        Sides of the image and of a patch in pixels, heads of attention.
    activation : {'gelu', 'silu', 'gelu_tanh'}
        Of the blocks. QuickGELU is SiLU with its factor in the weights on both sides.
    patches : Linear
        Patches to tokens; rows in the order of the pixels of a patch, then channels. It is for
        uint8 values less 128.
    positions : `numpy.ndarray` of float32, shape (tokens, d)
        Added to the patches.
    token : `numpy.ndarray` of float32, shape (d,), or None
        The class token with its position, first of all tokens.
    first : Norm or None
        Before the blocks.
    blocks : list of Block
        In order.
    last : Norm
        Behind them.
    pool : Pool or None
        Else the class token is taken.
    projection : Linear or None
        To the space of both towers.
    """

    size: int
    patch: int
    heads: int
    activation: str
    patches: Linear
    positions: np.ndarray
    token: np.ndarray | None
    first: Norm | None
    blocks: list
    last: Norm
    pool: Pool | None
    projection: Linear | None


@dataclass(frozen=True)
class TextTower:
    """
    A text transformer.

    Attributes
    ----------
    heads, activation, blocks, last, projection
        As of `ImageTower`.
    table : `numpy.ndarray` of float32, shape (vocabulary, d)
        Embeddings of tokens.
    positions : `numpy.ndarray` of float32, shape (length, d)
        Added to them.
    end : int or None
        The token whose vector is taken, the first one of it; or the largest number.
    pad : int or None
        With it texts are filled up to the full length, all tokens see all, and the vector is that
        of the last one (SigLIP). Else none sees a later one.
    """

    heads: int
    activation: str
    table: np.ndarray
    positions: np.ndarray
    blocks: list
    last: Norm
    projection: Linear | None
    end: int | None
    pad: int | None = None


def image_tower(model, mean, std):
    """
    Read the image tower of a model.

    Parameters
    ----------
    model : `torch.nn.Module`
        A ``CLIPModel``, ``CLIPVisionModelWithProjection`` or ``SiglipModel`` of transformers, or a
        ``CLIP`` of open_clip.
    mean, std : sequence of float
        Normalisation of values in 0..1, which is folded into the weights.

    Returns
    -------
    tower : ImageTower or None
        None if it is something else than a plain vision transformer.
    """
    visual = getattr(model, 'visual', None)
    if isinstance(visual, open_clip.transformer.VisionTransformer):
        return _open_clip_image(visual, mean, std)
    if isinstance(model, (transformers.CLIPModel, transformers.CLIPVisionModelWithProjection,
                          transformers.SiglipModel)):
        return _transformers_image(model, mean, std)
    return None


def text_tower(model, pad=None):
    """
    Read the text tower of a model.

    Parameters
    ----------
    model : `torch.nn.Module`
        A ``CLIPModel`` or ``SiglipModel`` of transformers, or a ``CLIP`` of open_clip.
    pad : int, optional
        What the texts of a ``SiglipModel`` are filled up with.

    Returns
    -------
    tower : TextTower or None
        None if it is something else.
    """
    if isinstance(model, (open_clip.model.CLIP, open_clip.model.CustomTextCLIP)):
        return _open_clip_text(model)
    if isinstance(model, (transformers.CLIPModel, transformers.SiglipModel)):
        return _transformers_text(model, pad)
    return None


# ---- transformers ------------------------------------------------------------------------

_ACTIVATIONS = {'gelu': 'gelu', 'quick_gelu': 'silu', 'gelu_pytorch_tanh': 'gelu_tanh'}


def _transformers_image(model, mean, std):
    vision, config = model.vision_model, model.config
    config = getattr(config, 'vision_config', config)
    activation = _ACTIVATIONS.get(config.hidden_act)
    embeddings, head = vision.embeddings, getattr(vision, 'head', None)
    token = getattr(embeddings, 'class_embedding', None)
    if activation is None or (token is None) == (head is None):
        return None
    positions = _array(embeddings.position_embedding.weight)
    if token is not None:
        token, positions = _array(token) + positions[0], positions[1:]
    first = getattr(vision, 'pre_layrnorm', None)
    projection = getattr(model, 'visual_projection', None)
    blocks = [_transformers_block(layer, activation) for layer in vision.encoder.layers]
    return ImageTower(
        size=config.image_size, patch=config.patch_size, heads=config.num_attention_heads,
        activation=activation, patches=_patches(embeddings.patch_embedding, mean, std),
        positions=positions, token=token, first=first and _norm(first),
        blocks=blocks, last=_norm(vision.post_layernorm), pool=head and _pool(head, activation),
        projection=projection and _linear(projection))


def _transformers_block(layer, activation):
    own = layer.self_attn
    query, key, value = (_linear(part) for part in (own.q_proj, own.k_proj, own.v_proj))
    qkv = Linear(*(np.concatenate(three, -1) for three in zip(query, key, value, strict=True)))
    return Block(_norm(layer.layer_norm1), qkv, _linear(own.out_proj), _norm(layer.layer_norm2),
                 *_mlp(layer.mlp.fc1, layer.mlp.fc2, activation))


def _pool(head, activation):
    own = head.attention
    return Pool(_array(head.probe).reshape(-1),
                Block(None, _in_projection(own), _linear(own.out_proj), _norm(head.layernorm),
                      *_mlp(head.mlp.fc1, head.mlp.fc2, activation)))


def _transformers_text(model, pad):
    text, config = model.text_model, model.config.text_config
    activation = _ACTIVATIONS.get(config.hidden_act)
    siglip = isinstance(model, transformers.SiglipModel)
    if activation is None:
        return None
    # Files of before 2023 say 2, and mean the largest number.
    end = None if siglip or config.eos_token_id == 2 else config.eos_token_id
    projection = text.head if siglip else model.text_projection
    return TextTower(
        heads=config.num_attention_heads, activation=activation,
        table=_array(text.embeddings.token_embedding.weight),
        positions=_array(text.embeddings.position_embedding.weight),
        blocks=[_transformers_block(layer, activation) for layer in text.encoder.layers],
        last=_norm(text.final_layer_norm), projection=_linear(projection), end=end,
        pad=pad if siglip else None)


# ---- open_clip ---------------------------------------------------------------------------


def _open_clip_image(visual, mean, std):
    blocks = _open_clip_blocks(visual.transformer)
    plain = (blocks and visual.attn_pool is None and visual.pool_type == 'tok'
             and visual.image_size[0] == visual.image_size[1]
             and visual.patch_size[0] == visual.patch_size[1]
             and isinstance(visual.patch_dropout, nn.Identity))
    if not plain:
        return None
    positions = _array(visual.positional_embedding)
    return ImageTower(
        size=visual.image_size[0], patch=visual.patch_size[0],
        heads=visual.transformer.resblocks[0].attn.num_heads,
        activation=_activation(visual.transformer.resblocks[0]),
        patches=_patches(visual.conv1, mean, std), positions=positions[1:],
        token=_array(visual.class_embedding) + positions[0],
        first=None if isinstance(visual.ln_pre, nn.Identity) else _norm(visual.ln_pre),
        blocks=blocks, last=_norm(visual.ln_post), pool=None,
        projection=None if visual.proj is None else Linear(_array(visual.proj)))


def _open_clip_text(model):
    tower = getattr(model, 'text', model)
    pool = getattr(tower, 'text_pool_type', None) or tower.pool_type
    blocks = _open_clip_blocks(tower.transformer)
    if (not blocks or tower.attn_mask is None or getattr(tower, 'cls_emb', None) is not None
            or pool not in ('argmax', 'eos')):
        return None
    end = getattr(tower, 'text_eos_id', None) or getattr(tower, 'eos_id', None)
    projection = tower.text_projection
    if projection is not None:
        projection = (_linear(projection) if isinstance(projection, nn.Linear)
                      else Linear(_array(projection)))
    return TextTower(
        heads=tower.transformer.resblocks[0].attn.num_heads,
        activation=_activation(tower.transformer.resblocks[0]),
        table=_array(tower.token_embedding.weight),
        positions=_array(tower.positional_embedding), blocks=blocks,
        last=_norm(tower.ln_final), projection=projection,
        end=end if pool == 'eos' else None)


def _activation(layer):
    gelu = layer.mlp.gelu
    if isinstance(gelu, QuickGELU):
        return 'silu'
    return 'gelu_tanh' if gelu.approximate == 'tanh' else 'gelu'


def _open_clip_blocks(transformer):
    """
    Read the blocks, or return None if they are not the plain ones.
    """
    blocks = []
    for layer in transformer.resblocks:
        if (type(layer) is not open_clip.transformer.ResidualAttentionBlock
                or not isinstance(layer.attn, nn.MultiheadAttention)
                or not isinstance(layer.ls_1, nn.Identity)
                or not isinstance(layer.mlp.gelu, (QuickGELU, nn.GELU))):
            return None
        blocks.append(Block(_norm(layer.ln_1), _in_projection(layer.attn),
                            _linear(layer.attn.out_proj), _norm(layer.ln_2),
                            *_mlp(layer.mlp.c_fc, layer.mlp.c_proj, _activation(layer))))
    return blocks


# ---- both --------------------------------------------------------------------------------

_QUICK = np.float32(1.702)


def _array(tensor):
    return tensor.detach().float().numpy()


def _norm(module):
    return Norm(_array(module.weight), _array(module.bias), module.eps)


def _linear(module):
    return Linear(_array(module.weight).T,
                  None if module.bias is None else _array(module.bias))


def _mlp(up, down, activation):
    """
    Read both layers around an activation; SiLU is what their weights leave of QuickGELU.
    """
    up, down = _linear(up), _linear(down)
    if activation == 'silu':  # x sigmoid(1.702 x) = silu(1.702 x) / 1.702
        up = Linear(up.weight * _QUICK, None if up.bias is None else up.bias * _QUICK)
        down = Linear(down.weight / _QUICK, down.bias)
    return up, down


def _in_projection(attention):
    return Linear(_array(attention.in_proj_weight).T, _array(attention.in_proj_bias))


def _patches(convolution, mean, std):
    """
    Fold the normalisation of pixels into a convolution: exactly, as it has no margin.
    """
    weight = _array(convolution.weight).astype(np.float64) / np.reshape(std, (3, 1, 1))
    bias = (weight * (128 / 255 - np.reshape(mean, (3, 1, 1)))).sum((1, 2, 3))
    if convolution.bias is not None:
        bias += _array(convolution.bias)
    weight = weight.transpose(2, 3, 1, 0).reshape(-1, len(weight)) / 255
    return Linear(weight.astype(np.float32), bias.astype(np.float32))
