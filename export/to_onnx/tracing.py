"""
Modules of torch as ONNX files, and sessions that run them.
"""

import warnings
from pathlib import Path

import onnx
import onnxruntime
import torch

__all__ = ['OPSET', 'export_module', 'session']

#: ONNX operator set: the oldest that holds all operators used.
OPSET = 17


def export_module(module, example, path, *, inputs, outputs):
    """
    Write a module as ONNX.

    Parameters
    ----------
    module : `torch.nn.Module`
        In evaluation mode.
    example : tuple of `torch.Tensor`
        Arguments to trace it with.
    path : path-like
        File to write.
    inputs, outputs : dict of dict
        Name -> number -> name of the axes that may be of any length.
    """
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    # The fast path of attention is one operator that ONNX does not have.
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    with warnings.catch_warnings(), torch.no_grad():
        # The tracing exporter folds batch normalisation and needs no converter package;
        # it announces its own deprecation and comments on constants that it traces.
        warnings.simplefilter('ignore')
        try:
            torch.onnx.export(
                module, example, str(path), dynamo=False, opset_version=OPSET,
                input_names=list(inputs), output_names=list(outputs),
                dynamic_axes={**inputs, **outputs},
            )
        finally:
            torch.backends.mha.set_fastpath_enabled(fast)
    onnx.checker.check_model(str(path))


def session(path, *, threads=1):
    """
    Open an ONNX file on the CPU.

    Parameters
    ----------
    path : path-like or bytes
        ONNX file, or what is in it.
    threads : int, optional
        Threads for operators.

    Returns
    -------
    session : `onnxruntime.InferenceSession`
        Ready to run.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    if not isinstance(path, bytes) and Path(path).stem.endswith('_fp16'):
        # As in astroclip_search.models.encoder: the last level can kill the process.
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    return onnxruntime.InferenceSession(
        path if isinstance(path, bytes) else str(path), options,
        providers=['CPUExecutionProvider'],
    )
