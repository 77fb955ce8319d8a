"""Tiny CLIPs with random weights, saved as each library saves its own."""

import json

import numpy as np
import torch

__all__ = ['FAMILIES', 'make']

SIZE = 32
WORDS = ('spiral galaxy planetary nebula globular cluster star dust lane image of a the telescope '
         'supernova remnant in with ring edge on face red blue jet comet').split()


def make(family, folder):
    """Write a checkpoint of a family into a folder."""
    torch.manual_seed(sum(map(ord, family)))
    folder.mkdir(parents=True, exist_ok=True)
    FAMILIES[family](folder)
    return folder


def _write(file, content):
    file.write_text(json.dumps(content), encoding='utf-8')


# ---- open_clip ---------------------------------------------------------------------------


def _open_clip(folder, config, *, preprocess=None):
    import open_clip
    from safetensors.torch import save_file

    preprocess = {'size': SIZE, 'mean': [0.48, 0.46, 0.41], 'std': [0.27, 0.26, 0.28],
                  'interpolation': 'bicubic', 'resize_mode': 'shortest', **(preprocess or {})}
    _write(folder / 'open_clip_config.json', {'model_cfg': config, 'preprocess_cfg': preprocess})
    model = open_clip.create_model(f'local-dir:{folder}', pretrained_text=False)
    _liven(model)
    save_file({name: value.contiguous() for name, value in model.state_dict().items()},
              folder / 'open_clip_model.safetensors')


def _liven(model):
    """Biases and means of a random model are zero: a mistake with them would not be seen."""
    with torch.no_grad():
        for name, value in model.named_parameters():
            if value.ndim < 2 and 'logit' not in name:
                value.add_(0.1 * torch.randn_like(value))
        for name, value in model.named_buffers():
            if name.endswith('running_mean'):
                value.copy_(0.1 * torch.randn_like(value))


TEXT = {'context_length': 77, 'vocab_size': 49408, 'width': 64, 'heads': 2, 'layers': 2}
VISION = {'image_size': SIZE, 'layers': 2, 'width': 64, 'patch_size': 8, 'head_width': 32}


def _openclip(folder):
    _open_clip(folder, {'embed_dim': 32, 'quick_gelu': True, 'vision_cfg': VISION,
                        'text_cfg': TEXT})


def _mobileclip(folder):
    _open_clip(folder, {
        'embed_dim': 32, 'custom_text': True,
        'vision_cfg': {'timm_model_name': 'fastvit_t8', 'timm_pool': 'avg', 'timm_proj': None,
                       'timm_drop': 0.0, 'timm_drop_path': 0.0, 'image_size': 64},
        'text_cfg': {**TEXT, 'no_causal_mask': True},
    }, preprocess={'size': 64, 'mean': [0, 0, 0], 'std': [1, 1, 1], 'interpolation': 'bilinear'})


def _coca(folder):
    _open_clip(folder, {
        'embed_dim': 32, 'custom_text': True,
        'multimodal_cfg': {'context_length': 76, 'vocab_size': 49408, 'width': 64, 'heads': 2,
                           'layers': 2},
        'vision_cfg': {**VISION, 'attentional_pool': True, 'attn_pooler_heads': 2,
                       'output_tokens': True},
        'text_cfg': {**TEXT, 'context_length': 76, 'embed_cls': True, 'output_tokens': True},
    })


def _openclip_siglip(folder):
    tokenizer = sentence_pieces()
    tokenizer.save(str(folder / 'tokenizer.json'))
    _write(folder / 'tokenizer_config.json', {
        'tokenizer_class': 'PreTrainedTokenizerFast', 'eos_token': '</s>', 'pad_token': '</s>',
        'unk_token': '<unk>'})
    _open_clip(folder, {
        'embed_dim': 64, 'init_logit_bias': -10, 'custom_text': True,
        'vision_cfg': {'image_size': 160, 'timm_model_name': 'test_vit', 'timm_pool': 'map',
                       'timm_proj': 'none'},
        'text_cfg': {'context_length': 64, 'vocab_size': tokenizer.get_vocab_size(),
                     'hf_tokenizer_name': 'owner/name',
                     'tokenizer_kwargs': {'clean': 'canonicalize'}, 'width': 64, 'heads': 2,
                     'layers': 2, 'no_causal_mask': True, 'proj_bias': True, 'pool_type': 'last',
                     'norm_kwargs': {'eps': 1e-6}},
    }, preprocess={'size': 160, 'mean': [0.5] * 3, 'std': [0.5] * 3, 'resize_mode': 'squash'})


# ---- transformers ------------------------------------------------------------------------

HF_TEXT = {'hidden_size': 64, 'intermediate_size': 128, 'num_hidden_layers': 2,
           'num_attention_heads': 2}
HF_VISION = {**HF_TEXT, 'image_size': SIZE, 'patch_size': 8}


def clip_tokenizer(merges=2000):
    """The tokenizer of CLIP with the first of its merges."""
    import transformers
    from open_clip.tokenizer import SimpleTokenizer

    source = SimpleTokenizer()
    merges = list(source.bpe_ranks)[:merges]
    tokens = [*list(source.encoder)[:512], *(''.join(pair) for pair in merges),
              '<|startoftext|>', '<|endoftext|>']
    return transformers.CLIPTokenizer(vocab={token: i for i, token in enumerate(tokens)},
                                      merges=merges, model_max_length=77)


def _clip(folder, **text):
    import transformers

    tokenizer = clip_tokenizer()
    tokenizer.save_pretrained(folder)
    config = transformers.CLIPConfig(
        text_config={**HF_TEXT, 'vocab_size': len(tokenizer), 'projection_dim': 32,
                     'bos_token_id': tokenizer.bos_token_id,
                     'eos_token_id': tokenizer.eos_token_id, **text},
        vision_config={**HF_VISION, 'projection_dim': 32}, projection_dim=32)
    model = transformers.CLIPModel(config)
    _liven(model)
    model.save_pretrained(folder)
    transformers.CLIPImageProcessor(
        size={'shortest_edge': SIZE}, crop_size={'height': SIZE, 'width': SIZE},
    ).save_pretrained(folder)


def sentence_pieces():
    """A tokenizer as SigLIP's ``tokenizer.json``: pieces of words, one end token."""
    from tokenizers import Regex, Tokenizer, normalizers, pre_tokenizers, processors
    from tokenizers.models import Unigram

    letters = 'abcdefghijklmnopqrstuvwxyz0123456789éè'
    pieces = [('<pad>', 0.0), ('</s>', 0.0), ('<unk>', 0.0), ('▁', -3.0)]
    pieces += [(f'▁{word}', -4.0) for word in WORDS] + [(letter, -8.0) for letter in letters]
    tokenizer = Tokenizer(Unigram(pieces, unk_id=2, byte_fallback=False))
    tokenizer.normalizer = normalizers.Sequence([
        normalizers.Lowercase(),
        normalizers.Replace(Regex('[!"#$%&\'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~]'), ''),
        normalizers.Replace(Regex(r'\s+'), ' '), normalizers.Strip()])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single='$A </s>', special_tokens=[('</s>', 1)])
    tokenizer.add_special_tokens(['<pad>', '</s>', '<unk>'])
    return tokenizer


def gemma():
    """A tokenizer as of the first SigLIP 2: byte pairs, case kept, one end token."""
    from tokenizers import Tokenizer, normalizers, pre_tokenizers, processors
    from tokenizers.models import BPE

    special = ['<pad>', '<eos>', '<bos>', '<unk>']
    letters = ['▁', *'abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.,-()!']
    merges, known = [], [*special, *(f'<0x{i:02X}>' for i in range(256)), *letters]
    for word in WORDS:
        piece = '▁'
        for letter in word:
            if (piece, letter) not in merges:
                merges.append((piece, letter))
            piece += letter
            if piece not in known:
                known.append(piece)
    tokenizer = Tokenizer(BPE({token: i for i, token in enumerate(known)}, merges,
                              unk_token='<unk>', fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = normalizers.Replace(' ', '▁')
    tokenizer.pre_tokenizer = pre_tokenizers.Split('▁', 'merged_with_next')
    tokenizer.post_processor = processors.TemplateProcessing(
        single='$A <eos>', special_tokens=[('<eos>', 1)])
    tokenizer.add_special_tokens(special)
    return tokenizer


def _siglip(folder):
    import transformers

    tokenizer = sentence_pieces()
    _save_siglip(folder, transformers.SiglipModel, transformers.SiglipConfig, tokenizer,
                 {'tokenizer_class': 'SiglipTokenizer', 'pad_token': '</s>', 'eos_token': '</s>'},
                 vision={**HF_VISION})
    transformers.SiglipImageProcessor(size={'height': SIZE, 'width': SIZE}).save_pretrained(folder)


def _siglip2(folder):
    import transformers

    tokenizer = gemma()
    _save_siglip(folder, transformers.SiglipModel, transformers.SiglipConfig, tokenizer,
                 {'tokenizer_class': 'GemmaTokenizer', 'pad_token': '<pad>', 'eos_token': '<eos>',
                  'padding_side': 'left'}, vision={**HF_VISION})
    transformers.SiglipImageProcessor(size={'height': SIZE, 'width': SIZE}).save_pretrained(folder)


def _siglip2_naflex(folder):
    import transformers

    tokenizer = gemma()
    vision = {key: value for key, value in HF_VISION.items() if key != 'image_size'}
    _save_siglip(folder, transformers.Siglip2Model, transformers.Siglip2Config, tokenizer,
                 {'tokenizer_class': 'GemmaTokenizer', 'pad_token': '<pad>', 'eos_token': '<eos>'},
                 vision={**vision, 'num_patches': 25})
    transformers.Siglip2ImageProcessor(patch_size=8, max_num_patches=16).save_pretrained(folder)


def _save_siglip(folder, model_class, config_class, tokenizer, config, *, vision):
    tokenizer.save(str(folder / 'tokenizer.json'))
    _write(folder / 'tokenizer_config.json', {'model_max_length': 64, **config})
    model = model_class(config_class(
        text_config={**HF_TEXT, 'vocab_size': tokenizer.get_vocab_size(),
                     'pad_token_id': tokenizer.token_to_id(config['pad_token'])},
        vision_config=vision))
    _liven(model)
    with torch.no_grad():
        model.logit_scale.fill_(float(np.log(110)))
        model.logit_bias.fill_(-12.9)
    model.save_pretrained(folder)


FAMILIES = {'openclip': _openclip, 'mobileclip': _mobileclip, 'coca': _coca,
            'openclip_siglip': _openclip_siglip, 'clip': _clip, 'siglip': _siglip,
            'siglip2': _siglip2, 'siglip2_naflex': _siglip2_naflex}


# ---- pictures, and the layout of transformers.js -----------------------------------------


def picture(height, width, *, seed=0):
    """A smooth picture in colours: uint8 (height, width, 3)."""
    y, x = np.mgrid[:height, :width] / min(height, width)
    waves = [np.sin(5 * x + phase + seed) * np.cos(4 * y - phase) for phase in (0, 1, 2 + seed)]
    return (127 + 120 * np.stack(waves, -1)).astype(np.uint8)


class _Heads(torch.nn.Module):
    """A tower of transformers with the outputs that Optimum gives it."""

    def __init__(self, model, tower):
        super().__init__()
        self.model, self.tower = model, tower

    def forward(self, inputs, mask=None):
        if self.tower == 'text':
            # As in Optimum the mask of a text is an input of CLIP, and there is none of SigLIP.
            found = self.model.text_model(inputs, attention_mask=mask)
            head = getattr(self.model, 'text_projection', None)
        else:
            found = self.model.vision_model(inputs)
            head = getattr(self.model, 'visual_projection', None)
        return (head or torch.nn.Identity())(found.pooler_output), found.last_hidden_state


def transformers_js(made, path):
    """Write a repository as those of transformers.js, its variants into ``variants`` beside it."""
    import shutil

    from onnxruntime.quantization import quantize_dynamic
    from onnxruntime.transformers.float16 import convert_float_to_float16

    from export.to_onnx.tracing import export_module

    model, clip = made.checkpoint.model, made.family == 'clip'
    variants = path.parent / 'variants'
    for folder in (path / 'onnx', variants):
        folder.mkdir(parents=True)
    for name in ('tokenizer.json', 'tokenizer_config.json', 'preprocessor_config.json'):
        if (made.source / name).is_file():
            shutil.copyfile(made.source / name, path / name)
    _write(path / 'config.json', {'model_type': 'clip' if clip else 'siglip',
                                  'text_config': {'vocab_size': 100}, 'vision_config': {}})
    tokens = json.loads((path / 'tokenizer_config.json').read_text())
    _write(path / 'tokenizer_config.json', {**tokens, 'model_max_length': 77 if clip else 1e30})
    import onnx

    batch, length = {0: 'batch_size'}, {0: 'batch_size', 1: 'sequence_length'}
    text = made.checkpoint.tokens(['a galaxy', 'a comet'])
    names = ('text_embeds', 'image_embeds') if clip else ('pooler_output', 'pooler_output')
    example = (text, torch.ones_like(text)) if clip else (text,)
    export_module(_Heads(model, 'text'), example, variants / 'text_model.onnx',
                  inputs=dict.fromkeys(['input_ids', 'attention_mask'][:len(example)], length),
                  outputs={names[0]: batch, 'last_hidden_state': length})
    export_module(_Heads(model, 'vision'), (torch.zeros(2, 3, SIZE, SIZE),),
                  variants / 'vision_model.onnx', inputs={'pixel_values': batch},
                  outputs={names[1]: batch, 'last_hidden_state': batch})
    for tower in ('text', 'vision'):
        source = variants / f'{tower}_model.onnx'
        # Weights of seven bits: processors without VNNI cut off sums of eight, says the runtime.
        quantize_dynamic(source, variants / f'{tower}_model_quantized.onnx', reduce_range=True)
        half = convert_float_to_float16(onnx.load(source), keep_io_types=True)
        onnx.save(half, variants / f'{tower}_model_fp16.onnx')
    for file in variant(variants, ''):
        shutil.copyfile(file, path / 'onnx' / file.name)
    return path


def variant(folder, suffix):
    """Both towers of a variant."""
    return [folder / f'{tower}_model{suffix}.onnx' for tower in ('text', 'vision')]
