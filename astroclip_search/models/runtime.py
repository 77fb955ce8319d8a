# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Model files -> towers that run in ONNX Runtime.

Two callers run a tower at once, each with a small batch, rather than all threads one large batch:
nothing waits for the slowest thread of each layer, the arrays between the layers stay in the cache
of a core, and on a GPU one batch is copied while the other one is computed.

The optimised graph is not kept on disk: it opens faster, but a file that someone could have
exchanged must be hashed first, which takes as long as it saves (``python -m benchmarks start``).
"""

import contextlib
import functools
import io
import os
import sys
import threading
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from ..exceptions import EncoderError, one_line
from .forks import undisturbed

__all__ = ['IN_FLIGHT', 'Tower', 'has_driver', 'n_cores', 'open_tower', 'runtime']

IN_FLIGHT = 2
"""
Callers that run a tower at once.
"""

_CUDA, _CPU = 'CUDAExecutionProvider', 'CPUExecutionProvider'

# A search for the fastest convolution would be made anew for each size of batch; memory is taken
# as needed, not doubled, because the GPU is seldom ours alone.
_CUDA_OPTIONS = {'cudnn_conv_algo_search': 'HEURISTIC',
                 'arena_extend_strategy': 'kSameAsRequested'}

_opening = threading.Lock()


def _new_lock() -> None:
    global _opening  # noqa: PLW0603 - after a fork nobody releases it
    _opening = threading.Lock()


if hasattr(os, 'register_at_fork'):
    os.register_at_fork(after_in_child=_new_lock)


class Tower:
    """
    An open model file: its inputs and outputs (name, type, shape), and the device it runs on.
    """

    def __init__(self, session):
        self.inputs, self.outputs = session.get_inputs(), session.get_outputs()
        # What may be given and need not.
        self.optional = tuple(session.get_overridable_initializers())
        self.device = 'cuda' if _CUDA in session.get_providers() else 'cpu'
        self._session = session

    def run(self, output: str, feed: dict[str, np.ndarray]) -> np.ndarray:
        """
        The output of that name for the arrays of all inputs.
        """
        with undisturbed():
            return self._session.run([output], feed)[0]


@functools.cache
def runtime():
    """
    ONNX Runtime, with its telemetry off.

    Since 1.29 it reports each session, with the names of its models, to its maker by default. The
    variable counts when it is first imported, the call if someone else has imported it before.
    """
    os.environ.setdefault('ORT_DISABLE_TELEMETRY', '1')
    import onnxruntime

    onnxruntime.disable_telemetry_events()
    return onnxruntime


@functools.cache
def has_driver() -> bool:
    """
    Whether there is a CUDA driver at all.

    The runtime would find out too, but only after it has loaded its CUDA libraries; that it lists
    CUDA as available says nothing.
    """
    import ctypes

    if _CUDA not in runtime().get_available_providers():
        return False
    try:
        ctypes.CDLL('nvcuda.dll' if sys.platform == 'win32' else 'libcuda.so.1')
    except OSError:
        return False
    return True


@functools.cache
def n_cores() -> int:
    """
    Physical cores that this process may use; where the system does not say it, logical ones.
    """
    try:
        return len({Path(f'/sys/devices/system/cpu/cpu{i}/topology/thread_siblings_list'
                         ).read_text() for i in os.sched_getaffinity(0)})
    except (AttributeError, OSError):
        return os.cpu_count() or 1


def open_tower(path: Path, device: str, *, n_threads: int = 0, content: bytes | None = None,
               weights: Mapping[str, bytes] | None = None) -> Tower:
    """
    Open a model file in silence; where CUDA cannot be used, it runs on the CPU.

    ``n_threads`` are CPU threads of all callers together; 0 means one per physical core. With
    ``content`` the file itself is not read again, nor those that it names, whose ``weights`` are
    given.
    """
    options = _options(path, n_threads)
    if device == 'cpu':
        return _open(path, options, [_CPU], content, weights)
    with _opening:
        # Only the default logger can silence the failed start of a provider; 2 is its default.
        runtime().set_default_logger_severity(4)
        try:
            if find_spec('nvidia') is not None:
                with contextlib.redirect_stdout(io.StringIO()):
                    runtime().preload_dlls()
            return _open(path, options, [(_CUDA, _CUDA_OPTIONS), _CPU], content, weights)
        finally:
            runtime().set_default_logger_severity(2)


def _options(path: Path, n_threads: int):
    options = runtime().SessionOptions()
    n_threads = n_threads or n_cores()
    # Each caller works too.
    options.intra_op_num_threads = max(1, n_threads - IN_FLIGHT + 1)
    options.log_severity_level = 4
    if path.stem.endswith('_fp16'):
        # The last level lays out data for a CPU; of some graphs in half precision it kills the
        # process (seen with 1.31), also where CUDA was wanted but cannot be loaded.
        options.graph_optimization_level = runtime().GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    # Spinning threads would take the cores from the threads that decode images.
    options.add_session_config_entry('session.intra_op.allow_spinning', '0')
    return options


def _open(path: Path, options, providers: list, content: bytes | None,
          weights: Mapping[str, bytes] | None) -> Tower:
    try:
        with contextlib.ExitStack() as stack:
            model: str | bytes = str(path) if content is None else content
            if content is not None and weights:
                model = _with_weights(content, weights, options, stack)
            with undisturbed():
                session = runtime().InferenceSession(model, options, providers=providers)
        # It would keep the file in memory to open it again; on the CPU it never does.
        if content is not None and _CUDA not in session.get_providers():
            session._model_bytes = None
        return Tower(session)
    # ONNX Runtime raises its own exception classes, without a common root of their own.
    except Exception as error:
        raise EncoderError(f'{path.name} cannot be opened as an ONNX model '
                           f'({one_line(error)}).') from error


def _with_weights(content: bytes, weights: Mapping[str, bytes], options,
                  stack: contextlib.ExitStack) -> str | bytes:
    """
    What to open so that weights which were read before are used.
    """
    add = getattr(options, 'add_external_initializers_from_files_in_memory', None)
    if add is not None:
        add(list(weights), list(weights.values()), [len(value) for value in weights.values()])
        return content
    # Earlier versions read files, which nobody else can have exchanged in a folder of our own.
    folder = Path(stack.enter_context(TemporaryDirectory(prefix='astroclip-search-')))
    for name, value in (*weights.items(), ('model.onnx', content)):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(value)
    return str(folder / 'model.onnx')
