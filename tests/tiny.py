# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
A real model bundle of a few kilobytes that knows three colours.

The image tower sees the mean colour, the text tower the mean of its words, so the right answers
are known: a red image is most like "red".
"""

import hashlib
import json

import numpy as np
from onnx import TensorProto, checker, helper, numpy_helper, save

__all__ = ['TOKENS', 'seal', 'write_bundle', 'write_text_tower', 'write_vision_tower']

SIZE = 8
TOKENS = ['[PAD]', '[UNK]', '[CLS]', '[SEP]', 'red', 'green', 'blue', 'a', 'galaxy']
_VECTORS = np.zeros((len(TOKENS), 3), dtype=np.float32)
_VECTORS[4:7] = 2 * np.eye(3) - 1


def write_bundle(path, *, vision=None, text=None, preprocessor=None, info=None, background=True):
    """
    Write a bundle.

    Parameters
    ----------
    path : pathlib.Path
        Directory, made if it is not there.
    vision, text : dict, optional
        Options of `write_vision_tower` and `write_text_tower`.
    preprocessor : dict, optional
        Changes of ``preprocessor_config.json``; `None` as a value removes a key.
    info : dict, optional
        Changes of ``astroclip.json``.
    background : bool
        Write ``background.npz``.
    """
    (path / 'onnx').mkdir(parents=True)
    write_vision_tower(path, **(vision or {}))
    write_text_tower(path, **(text or {}))
    config = {'do_resize': True, 'size': {'height': SIZE, 'width': SIZE}, 'resample': 3,
              'do_center_crop': False, 'do_rescale': True, 'rescale_factor': 1 / 255,
              'do_normalize': True, 'image_mean': [0.5] * 3, 'image_std': [0.5] * 3}
    config.update(preprocessor or {})
    write_json(path / 'preprocessor_config.json',
               {key: value for key, value in config.items() if value is not None})
    write_json(path / 'config.json', {'model_type': 'clip',
                                      'text_config': {'max_position_embeddings': 6}})
    write_json(path / 'tokenizer_config.json', {'model_max_length': 1e30, 'pad_token': '[PAD]'})
    write_json(path / 'tokenizer.json', tokenizer())
    if background:
        np.savez(path / 'background.npz',
                 image=np.array([[127, 0, 0], [0, 127, 0], [0, 90, 90]], np.int8),
                 image_scale=np.float32(1 / 127),
                 words=np.array([[1, 2, 3, 4, 5], [-5, 0, 5, 0, 5]], np.int8),
                 words_scale=np.float32(0.1))
    seal(path, {'name': 'tiny', 'version': '1', 'licence': 'BSD-3-Clause', 'embedding_dim': 3,
                'prompt_templates': ['{}', 'a {}'],
                'ranking': {'image_weight': 0.75, 'text_weight': 0.5}, **(info or {})})
    return path


def seal(path, info=None):
    """
    Write ``astroclip.json`` with the checksums of the files as they are now.
    """
    file = path / 'astroclip.json'
    if info is None:
        info = json.loads(file.read_text())
        info.pop('files')
    file.unlink(missing_ok=True)
    files = {str(found.relative_to(path).as_posix()): hashlib.sha256(found.read_bytes()).hexdigest()
             for found in sorted(path.rglob('*')) if found.is_file()}
    write_json(file, {'files': files, **info})


def write_json(file, content):
    file.write_text(json.dumps(content), encoding='utf-8')


def write_vision_tower(path, *, suffix='', output='image_embeds', kind='float32', layout='NCHW',
                       size=SIZE, dim=3, shape=None):
    """
    Mean over the pixels, then a matrix product.
    """
    height, channels = (('h', 3) if size is None else (size, 3))
    if shape is None:
        shape = (['n', channels, height, height] if layout == 'NCHW'
                 else ['n', height, height, channels])
    axes = [2, 3] if layout == 'NCHW' else [1, 2]
    types = {'float32': TensorProto.FLOAT, 'float16': TensorProto.FLOAT16,
             'uint8': TensorProto.UINT8}
    # A tower that reads bytes has the normalisation in its weights.
    scale, shift = (2 / 255, -1.0) if kind == 'uint8' else (1.0, 0.0)
    nodes = [helper.make_node('Cast', ['pixel_values'], ['float'], to=TensorProto.FLOAT),
             helper.make_node('ReduceMean', ['float', 'axes'], ['mean'], keepdims=0),
             helper.make_node('MatMul', ['mean', 'weight'], ['colour']),
             helper.make_node('Add', ['colour', 'shift'], [output])]
    constants = {'axes': np.array(axes), 'weight': np.eye(3, dim, dtype=np.float32) * scale,
                 'shift': np.full(dim, shift, np.float32)}
    write_graph(path / 'onnx' / f'vision_model{suffix}.onnx', nodes, constants,
                [helper.make_tensor_value_info('pixel_values', types[kind], shape)],
                [helper.make_tensor_value_info(output, TensorProto.FLOAT, ['n', dim])])


def write_text_tower(path, *, suffix='', outputs=('text_embeds', 'sentence_embeds'), dim=3,
                     inputs=('input_ids', 'attention_mask'), kind='int64', pooled=True):
    """
    Mean of the vectors of the words; ``sentence_embeds`` is turned into another space.
    """
    integer = TensorProto.INT64 if kind == 'int64' else TensorProto.INT32
    nodes = [helper.make_node('Gather', ['table', 'input_ids'], ['vectors'])]
    if pooled and 'attention_mask' in inputs:
        nodes += [helper.make_node('Cast', ['attention_mask'], ['float'], to=TensorProto.FLOAT),
                  helper.make_node('Unsqueeze', ['float', 'last'], ['mask']),
                  helper.make_node('Mul', ['vectors', 'mask'], ['masked'])]
    else:
        nodes += [helper.make_node('Identity', ['vectors'], ['masked'])]
    nodes += [helper.make_node('ReduceMean', ['masked', 'middle'], ['pooled'], keepdims=0)]
    constants = {'table': np.pad(_VECTORS, ((0, 0), (0, dim - 3))), 'last': np.array([2]),
                 'middle': np.array([1])}
    results = []
    for output in outputs:
        if output == 'sentence_embeds':
            constants['turn'] = np.eye(dim, 5, k=2, dtype=np.float32)
            nodes.append(helper.make_node('MatMul', ['pooled', 'turn'], [output]))
            width = ['n', 5]
        elif pooled:
            nodes.append(helper.make_node('Identity', ['pooled'], [output]))
            width = ['n', dim]
        else:
            nodes.append(helper.make_node('Identity', ['masked'], [output]))
            width = ['n', 'l', dim]
        results.append(helper.make_tensor_value_info(output, TensorProto.FLOAT, width))
    write_graph(path / 'onnx' / f'text_model{suffix}.onnx', nodes, constants,
                [helper.make_tensor_value_info(name, integer, ['n', 'l']) for name in inputs],
                results)


def write_graph(file, nodes, constants, inputs, outputs):
    graph = helper.make_graph(nodes, 'tower', inputs, outputs, [
        numpy_helper.from_array(value, name) for name, value in constants.items()])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid('', 18)])
    model.ir_version = 9  # read by the oldest runtime that is supported
    checker.check_model(model)
    save(model, file)


def tokenizer():
    """
    One token a word.
    """
    return {
        'version': '1.0', 'truncation': None, 'padding': None, 'added_tokens': [],
        'normalizer': {'type': 'Lowercase'}, 'pre_tokenizer': {'type': 'Whitespace'},
        'post_processor': {
            'type': 'TemplateProcessing',
            'single': [{'SpecialToken': {'id': '[CLS]', 'type_id': 0}},
                       {'Sequence': {'id': 'A', 'type_id': 0}},
                       {'SpecialToken': {'id': '[SEP]', 'type_id': 0}}],
            'pair': [{'Sequence': {'id': 'A', 'type_id': 0}},
                     {'Sequence': {'id': 'B', 'type_id': 1}}],
            'special_tokens': {
                name: {'id': name, 'ids': [TOKENS.index(name)], 'tokens': [name]}
                for name in ('[CLS]', '[SEP]')}},
        'decoder': None,
        'model': {'type': 'WordLevel', 'vocab': {token: i for i, token in enumerate(TOKENS)},
                  'unk_token': '[UNK]'}}
