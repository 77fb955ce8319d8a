"""
Checkpoints of other libraries as two towers: one class a family.

Beside its towers, each says what its own library makes of a text and of a picture, with the code
of that library: what is written is compared with it (`export.to_onnx.parity`).
"""

import copy
import json
import logging

import numpy as np
import open_clip
import torch
import transformers
from open_clip.factory import load_checkpoint
from open_clip.tokenizer import HFTokenizer
from open_clip.transform import PreprocessCfg, image_transform_v2
from open_clip.transformer import text_global_pool
from timm.utils import reparameterize_model
from tokenizers import Tokenizer, normalizers
from torch import nn
from torch.nn.functional import linear, normalize, scaled_dot_product_attention

from export.to_onnx.tokens import byte_pairs, cleaning, with_cleaning, with_padding

__all__ = ['Clip', 'OpenClip', 'Siglip', 'Siglip2', 'read_checkpoint']


def read_checkpoint(folder, weights):
    """
    Read a checkpoint, whatever library wrote it.

    No class is chosen by name from the files and none of their code is run.

    Parameters
    ----------
    folder : pathlib.Path
        Configuration, tokenizer and weights.
    weights : list of pathlib.Path
        Its weights, safetensors all.

    Returns
    -------
    checkpoint : OpenClip or Clip
        Its towers and how they are fed.

    Raises
    ------
    ValueError
        If it is a kind of model, or has an option, that cannot be written as two towers.
    """
    if (folder / 'open_clip_config.json').is_file():
        return OpenClip(folder, weights)
    kind = _read(folder / 'config.json').get('model_type')
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    families = {'clip': Clip, 'siglip': Siglip, 'siglip2': Siglip2}
    if kind not in families:
        raise ValueError(f'{folder.name} is a model of type {kind!r}; only open_clip checkpoints '
                         f'and the types {", ".join(families)} can be written as two towers')
    return families[kind](folder)


def _read(path):
    return json.loads(path.read_text(encoding='utf-8')) if path.is_file() else {}


class OpenClip:
    """
    Any model of open_clip with a text tower of its own: CLIP, CoCa, SigLIP, MobileCLIP.

    Parameters
    ----------
    folder : pathlib.Path
        With ``open_clip_config.json``.
    weights : list of pathlib.Path
        One file.

    Raises
    ------
    ValueError
        If it has an option that a bundle cannot describe.
    """

    outputs = ('image_embeds', 'text_embeds')

    def __init__(self, folder, weights):
        text = _read(folder / 'open_clip_config.json')['model_cfg']['text_cfg']
        options = dict(text.get('tokenizer_kwargs') or {})
        clean = options.pop('clean', 'whitespace' if text.get('hf_tokenizer_name') else 'lower')
        if text.get('hf_model_name') or text.get('tokenizer_mode') or options:
            raise ValueError(f'{folder.name} has the text tower of another library or a tokenizer '
                             'with options; such open_clip models cannot be written')
        if len(weights) != 1:
            raise ValueError(f'{folder.name} has {len(weights)} files of weights, not one')
        name = f'local-dir:{folder}'
        level = logging.getLogger().level
        logging.getLogger().setLevel(logging.ERROR)  # it warns that the weights are random
        self.model = open_clip.create_model(name, load_weights=False, pretrained_text=False)
        logging.getLogger().setLevel(level)
        load_checkpoint(self.model, str(weights[0]))
        self.model.eval()
        remote = {'trust_remote_code': False} if text.get('hf_tokenizer_name') else {}
        self._tokenizer = open_clip.get_tokenizer(name, **remote)
        tower = getattr(self.model, 'text', self.model)
        self.length = self._tokenizer.context_length
        pool = getattr(tower, 'text_pool_type', None) or tower.pool_type
        causal = (tower.attn_mask is not None and getattr(tower, 'cls_emb', None) is None
                  and pool in ('argmax', 'eos'))
        self.pad_id = 0
        if isinstance(self._tokenizer, HFTokenizer):
            self.tokenizer = Tokenizer.from_file(str(folder / 'tokenizer.json'))
            with_cleaning(self.tokenizer, cleaning(clean))
            self.pad_id = self._tokenizer.tokenizer.pad_token_id
        else:
            self.tokenizer = byte_pairs(self._tokenizer, clean)
        with_padding(self.tokenizer, self.length, self.pad_id, always=not causal)
        self.image_tower = _Unit(_reparameterised(self.model))
        self.text_tower = (_CausalText(tower) if causal
                           else _Padded(self.model.encode_text, self.length, self.pad_id, tower))
        self.logit_scale, self.logit_bias = _logits(self.model)
        self.settings = PreprocessCfg(**self.model.visual.preprocess_cfg)
        self.preprocessor = _open_clip_preprocessor(self.settings, folder.name)

    def config(self):
        """
        ``config.json``: what readers of the layout look for.
        """
        return {'model_type': 'clip', 'architectures': ['CLIPModel'],
                'text_config': {'max_position_embeddings': self.length},
                'vision_config': {'image_size': self.preprocessor['crop_size']['height']}}

    def tokens(self, texts):
        """
        Tokens by open_clip, padded: int64 (n, length).
        """
        return self._tokenizer(texts)

    def pixels(self, image):
        """
        A PIL image as open_clip prepares it: float32 (3, s, s).
        """
        return image_transform_v2(self.settings, is_train=False)(image)

    def encode_text(self, tokens):
        """
        Unit vectors by open_clip.
        """
        return self.model.encode_text(tokens, normalize=True)

    def encode_image(self, pixels):
        """
        Unit vectors by open_clip.
        """
        return self.model.encode_image(pixels, normalize=True)


def _open_clip_preprocessor(settings, name):
    size = settings.size if isinstance(settings.size, int) else settings.size[0]
    if settings.size not in (size, (size, size), [size, size]):
        raise ValueError(f'{name} reads images that are not square')
    if settings.resize_mode not in ('shortest', 'squash'):
        raise ValueError(f'{name} pads images ({settings.resize_mode}), which no '
                         'preprocessor_config.json can say')
    square = {'height': size, 'width': size}
    crop = settings.resize_mode == 'shortest'
    return {
        'image_processor_type': 'CLIPImageProcessor', 'do_convert_rgb': True, 'do_resize': True,
        'size': {'shortest_edge': size} if crop else square, 'do_center_crop': crop,
        'crop_size': square, 'resample': 2 if settings.interpolation == 'bilinear' else 3,
        'do_rescale': True, 'rescale_factor': 1 / 255, 'do_normalize': True,
        'image_mean': list(settings.mean), 'image_std': list(settings.std),
    }


class Clip:
    """
    ``CLIPModel`` of the transformers library.

    Parameters
    ----------
    folder : pathlib.Path
        As ``save_pretrained`` writes it, with its processor.
    """

    outputs = ('image_embeds', 'text_embeds')
    model_class = transformers.CLIPModel
    always_padded = False

    def __init__(self, folder):
        self.folder = folder
        self.model = self.model_class.from_pretrained(
            folder, use_safetensors=True, local_files_only=True, dtype=torch.float32,
            attn_implementation='eager',
        ).eval()
        text = self.model.config.text_config
        self.length = text.max_position_embeddings
        self.tokenizer = _own_tokenizer(folder)
        tokens = _read(folder / 'tokenizer_config.json')
        pad = tokens.get('pad_token') or _read(folder / 'special_tokens_map.json').get('pad_token')
        pad = pad.get('content') if isinstance(pad, dict) else pad
        self.pad_id = self.tokenizer.token_to_id(pad) if pad else text.pad_token_id
        # SigLIP 2 was trained on lower case; its first tokenizers leave that to the caller.
        self.lower = 'gemma' in str(tokens.get('tokenizer_class')).lower()
        if self.lower:
            with_cleaning(self.tokenizer, [normalizers.Lowercase()])
        with_padding(self.tokenizer, self.length, self.pad_id, always=self.always_padded)
        self.image_tower, self.text_tower = self.towers()
        self.logit_scale, self.logit_bias = _logits(self.model)
        self.preprocessor = self.read_preprocessor()

    def read_preprocessor(self):
        """
        The image processor's settings, from either file that may hold them.
        """
        config = (_read(self.folder / 'preprocessor_config.json')
                  or _read(self.folder / 'processor_config.json').get('image_processor'))
        if not config:
            raise ValueError(f'{self.folder.name} has no preprocessor_config.json')
        return config

    def towers(self):
        """
        Modules from pixels (n, 3, s, s) and tokens (n, length) to unit vectors.
        """
        return (_Unit(self._image_features, self.model), _Unit(self._text_features, self.model))

    def _image_features(self, pixels):
        return self.model.visual_projection(self.model.vision_model(pixels).pooler_output)

    def _text_features(self, tokens):
        return self.model.text_projection(self.model.text_model(tokens).pooler_output)

    def config(self):
        """
        ``config.json`` as it is, but for names of code.
        """
        config = _read(self.folder / 'config.json')
        config.pop('auto_map', None)
        # Files leave out what is a default of their library, readers have other defaults.
        config.setdefault('text_config', {})['max_position_embeddings'] = self.length
        return config

    def tokens(self, texts):
        """
        Tokens by transformers, padded: int64 (n, length).
        """
        tokenizer = transformers.AutoTokenizer.from_pretrained(
            self.folder, local_files_only=True, trust_remote_code=False)
        return tokenizer(texts, padding='max_length', max_length=self.length, truncation=True,
                         return_tensors='pt').input_ids

    def pixels(self, image):
        """
        A PIL image as transformers prepares it: float32 (3, s, s).
        """
        processor = transformers.AutoImageProcessor.from_pretrained(
            self.folder, local_files_only=True, trust_remote_code=False, backend='pil')
        return processor(images=image, return_tensors='pt').pixel_values[0]

    def encode_text(self, tokens):
        """
        Unit vectors by transformers.
        """
        return _unit(self.model.get_text_features(input_ids=tokens))

    def encode_image(self, pixels):
        """
        Unit vectors by transformers.
        """
        return _unit(self.model.get_image_features(pixel_values=pixels))


class Siglip(Clip):
    """
    ``SiglipModel``, of either generation with a fixed size.

    Its text tower looks at the padding, with which every text is filled up to 64 tokens: the
    graph does so itself, and takes no attention mask.
    """

    outputs = ('pooler_output', 'pooler_output')
    model_class = transformers.SiglipModel
    always_padded = True

    def towers(self):
        """
        Modules from pixels (n, 3, s, s) and tokens (n, length) to unit vectors.
        """
        return (_Unit(self._image_features, self.model),
                _Padded(self._text_features, self.length, self.pad_id, self.model))

    def tokens(self, texts):
        """
        Tokens by transformers from ``tokenizer.json``, padded on the right: int64 (n, length).

        Not by the class that the folder names: it may need sentencepiece, or pad on the left.
        """
        tokenizer = transformers.PreTrainedTokenizerFast(
            tokenizer_object=_own_tokenizer(self.folder),
            pad_token=self.tokenizer.id_to_token(self.pad_id), padding_side='right')
        texts = [text.lower() for text in texts] if self.lower else texts
        return tokenizer(texts, padding='max_length', max_length=self.length, truncation=True,
                         return_tensors='pt').input_ids

    def _image_features(self, pixels):
        return self.model.vision_model(pixels).pooler_output

    def _text_features(self, tokens):
        return self.model.text_model(tokens).pooler_output


class Siglip2(Siglip):
    """
    ``Siglip2Model`` (NaFlex), at one square size of as many patches as its processor allows.

    It could read any shape; a bundle has one, so that pictures are squashed to it.
    """

    model_class = transformers.Siglip2Model

    def towers(self):
        """
        Modules from pixels (n, 3, s, s) and tokens (n, length) to unit vectors.
        """
        vision = self.model.vision_model
        self.grid = int(self.read_preprocessor().get('max_num_patches', 256)**0.5)
        self.patch = vision.config.patch_size
        embeddings = vision.embeddings
        side = embeddings.position_embedding_size
        with torch.no_grad():
            self.positions = embeddings.resize_positional_embeddings(
                embeddings.position_embedding.weight.reshape(side, side, -1),
                torch.tensor([[self.grid] * 2]), self.grid**2)
        return super().towers()

    def _patches(self, pixels):
        grid, patch = self.grid, self.patch
        parts = pixels.reshape(-1, 3, grid, patch, grid, patch).permute(0, 2, 4, 3, 5, 1)
        return parts.reshape(-1, grid * grid, patch * patch * 3)

    def _image_features(self, pixels):
        vision = self.model.vision_model
        states = vision.embeddings.patch_embedding(self._patches(pixels)) + self.positions
        states = vision.encoder(inputs_embeds=states).last_hidden_state
        return vision.head(vision.post_layernorm(states))

    def encode_image(self, pixels):
        """
        Unit vectors by transformers.
        """
        patches = self._patches(pixels)
        shapes = torch.tensor([[self.grid, self.grid]] * len(pixels))
        return _unit(self.model.get_image_features(
            pixel_values=patches, spatial_shapes=shapes,
            pixel_attention_mask=torch.ones(patches.shape[:2], dtype=torch.int64)))

    def config(self):
        """
        ``config.json`` of a model with a fixed size.
        """
        return {**super().config(), 'model_type': 'siglip', 'architectures': ['SiglipModel']}

    def read_preprocessor(self):
        """
        The image processor's settings; sizes are of the square that pictures are squashed to.
        """
        config = dict(super().read_preprocessor())
        side = int(config.get('max_num_patches', 256)**0.5) * config.get('patch_size', 16)
        return {**config, 'image_processor_type': 'SiglipImageProcessor',
                'size': {'height': side, 'width': side}, 'do_center_crop': False}

    def pixels(self, image):
        """
        A square PIL image as transformers prepares it: float32 (3, s, s).
        """
        config = self.read_preprocessor()
        size = config['size']['height'], config['size']['width']
        image = image.resize(size, config.get('resample', 2))
        unit = (np.asarray(image, np.float32) / 255 - config['image_mean']) / config['image_std']
        return torch.from_numpy(unit.transpose(2, 0, 1).astype(np.float32))


def _own_tokenizer(folder):
    if (folder / 'tokenizer.json').is_file():
        return Tokenizer.from_file(str(folder / 'tokenizer.json'))
    if (folder / 'vocab.json').is_file() and (folder / 'merges.txt').is_file():
        tokenizer = transformers.CLIPTokenizer.from_pretrained(folder, local_files_only=True)
        return Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    raise ValueError(f'{folder.name} has no tokenizer.json: load its tokenizer with '
                     'transformers.AutoTokenizer and save it again with save_pretrained')


def _logits(model):
    bias = getattr(model, 'logit_bias', None)
    return model.logit_scale.exp().item(), None if bias is None else bias.item()


def _unit(found):
    return normalize(getattr(found, 'pooler_output', found), dim=-1)


def _reparameterised(model):
    """
    The image tower of an open_clip model, branches that are one convolution folded into it.
    """
    visual = model.visual
    if hasattr(visual, 'trunk'):
        visual = type(visual).__new__(type(visual))
        nn.Module.__init__(visual)
        visual.trunk, visual.head = reparameterize_model(model.visual.trunk), model.visual.head
    return visual


class _Unit(nn.Module):
    """
    A function with vectors of length one.
    """

    def __init__(self, function, owner=None):
        super().__init__()
        self.function, self.owner = function, owner

    def forward(self, inputs):
        found = self.function(inputs)
        return normalize(found[0] if isinstance(found, tuple) else found, dim=-1)


class _Padded(_Unit):
    """
    Fill tokens up to the length that the tower was trained with.
    """

    def __init__(self, function, length, pad_id, owner):
        super().__init__(function, owner)
        self.length, self.pad_id = length, pad_id

    def forward(self, tokens):
        padding = torch.full_like(tokens[:, :1], self.pad_id).expand(-1, self.length)
        return super().forward(torch.cat([tokens, padding], 1)[:, :self.length])


class _Attention(nn.Module):
    """
    Self-attention whose trace holds for texts of any length, which torch's own does not.
    """

    def __init__(self, attention):
        super().__init__()
        self.attention = attention

    def forward(self, query, _key, _value, *, attn_mask, **_):
        own = self.attention
        parts = linear(query, own.in_proj_weight, own.in_proj_bias)
        parts = parts.unflatten(-1, (3, own.num_heads, -1)).permute(2, 0, 3, 1, 4)
        states = scaled_dot_product_attention(*parts.unbind(0), attn_mask=attn_mask)
        return own.out_proj(states.transpose(1, 2).flatten(2)), None


class _CausalText(nn.Module):
    """
    A text tower of open_clip that sees no later token, at the length of its input.

    Padding cannot change what is before it, and the vector is the one of the end token.
    """

    def __init__(self, tower):
        super().__init__()
        self.tower = tower
        # A copy: what it is compared with stays as it was.
        self.transformer = copy.deepcopy(tower.transformer)
        for block in self.transformer.resblocks:
            if isinstance(block.attn, nn.MultiheadAttention) and block.attn.batch_first:
                block.attn = _Attention(block.attn)
        self.pool = getattr(tower, 'text_pool_type', None) or tower.pool_type
        self.end = getattr(tower, 'text_eos_id', None) or getattr(tower, 'eos_id', None)

    def forward(self, tokens):
        tower, length = self.tower, tokens.shape[1]
        states = tower.token_embedding(tokens) + tower.positional_embedding[:length]
        states = self.transformer(states, attn_mask=tower.attn_mask[:length, :length])
        states = text_global_pool(tower.ln_final(states), tokens, self.pool, eos_token_id=self.end)
        projection = tower.text_projection
        if projection is not None:
            states = (projection(states) if isinstance(projection, nn.Linear)
                      else states @ projection)
        return normalize(states, dim=-1)
