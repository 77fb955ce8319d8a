# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Model files -> towers that run in ONNX Runtime.

A tower is run by two callers at once, each with a small batch, rather than by all threads on one
large batch: nothing waits for the slowest thread of each layer, the arrays between the layers stay
in the cache of a core, and on a GPU one batch is copied while the other one is computed.

The optimised graph is not kept on disk: it opens faster, but a file that could have been exchanged
must be hashed first, which takes as long as it saves (``python -m benchmarks start``).
"""

import contextlib
import functools
import io
import logging
import os
import sys
import threading
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from .exceptions import EncoderError

__all__ = ['IN_FLIGHT', 'Tower', 'has_driver', 'n_cores', 'open_tower', 'runtime']

log = logging.getLogger('astroclip_search')

IN_FLIGHT = 2
"""
Callers that run a tower at once.
"""

_CUDA, _CPU = 'CUDAExecutionProvider', 'CPUExecutionProvider'

# A search for the fastest convolution would be made anew for each size of batch; memory is taken
# as needed, not doubled, because the GPU is seldom ours alone.
_CUDA_OPTIONS = {'cudnn_conv_algo_search': 'HEURISTIC',
                 'arena_extend_strategy': 'kSameAsRequested'}

# Half precision differs by so much between two orders of the same sums.
_TOLERANCE = 0.02

_opening = threading.Lock()


class Tower:
    """
    An open model file.

    Parameters
    ----------
    session : onnxruntime.InferenceSession
        The session.
    n_replayed : int
        Batches of this size are recorded as a graph of the device and replayed, if the tower has
        one input; 0 means none. The session must have been opened for it.

    Attributes
    ----------
    inputs, outputs : list of onnxruntime.NodeArg
        With name, type and shape.
    device : str
        ``'cpu'`` or ``'cuda'``.
    """

    def __init__(self, session, n_replayed: int = 0):
        self.inputs, self.outputs = session.get_inputs(), session.get_outputs()
        self.device = 'cuda' if _CUDA in session.get_providers() else 'cpu'
        self._session = session
        self._replay = _Replay(session, self.device) if n_replayed else None
        self._n_replayed = n_replayed
        # A session that records graphs may be run by one thread at a time.
        self._turn = threading.Lock() if n_replayed else contextlib.nullcontext()

    def run(self, output: str, feed: dict[str, np.ndarray]) -> np.ndarray:
        """
        Run the model.

        Parameters
        ----------
        output : str
            Name of the output.
        feed : dict
            Array of each input.

        Returns
        -------
        ndarray
            The output.
        """
        with self._turn:
            if self._replay is None:
                return self._session.run([output], feed)[0]
            (name, array), *others = feed.items()
            if others or len(array) != self._n_replayed:
                return self._replay.plain(output, feed)
            try:
                return self._replay.run(output, name, array)
            # Whatever a driver dislikes about graphs, the plain way remains.
            except Exception as error:
                log.info('CUDA graphs are not used (%s).', ' '.join(str(error).split())[:200])
                self._n_replayed = 0
                return self._replay.plain(output, feed)


class _Replay:
    """
    Batches of one size as one launch, from memory of the device whose address does not change.

    Parameters
    ----------
    session : onnxruntime.InferenceSession
        The session.
    device : str
        Where that memory is.
    """

    def __init__(self, session, device: str):
        self._session = session
        self._device = device
        self._binding = None
        self._no_graph = runtime().RunOptions()
        self._no_graph.add_run_config_entry('gpu_graph_id', '-1')

    def plain(self, output: str, feed: dict[str, np.ndarray]) -> np.ndarray:
        return self._session.run([output], feed, self._no_graph)[0]

    def run(self, output: str, name: str, array: np.ndarray) -> np.ndarray:
        if self._binding is None:
            return self._record(output, name, array)
        self._input.update_inplace(array)
        self._session.run_with_iobinding(self._binding)
        return self._binding.copy_outputs_to_cpu()[0]

    def _record(self, output: str, name: str, array: np.ndarray) -> np.ndarray:
        """
        Record the first batch; its result has to be that of the plain way, also when replayed.
        """
        expected = self.plain(output, {name: array})
        make = runtime().OrtValue.ortvalue_from_shape_and_type
        binding = self._session.io_binding()
        self._input = make(array.shape, array.dtype.type, self._device, 0)
        binding.bind_ortvalue_input(name, self._input)
        binding.bind_ortvalue_output(output, make(expected.shape, expected.dtype.type,
                                                  self._device, 0))
        # Other content when it is recorded than when it is replayed, or nothing would be shown.
        for content in (np.zeros_like(array), array):
            self._input.update_inplace(content)
            self._session.run_with_iobinding(binding)
        found = binding.copy_outputs_to_cpu()[0]
        if not np.allclose(found, expected, rtol=_TOLERANCE,
                           atol=_TOLERANCE * float(np.abs(expected).max())):
            raise EncoderError('a replayed batch differs from a plain one')
        self._binding = binding
        return expected


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


def open_tower(path: Path, device: str, *, n_threads: int = 0, n_replayed: int = 0) -> Tower:
    """
    Open a model file without a word from the runtime.

    Parameters
    ----------
    path : pathlib.Path
        The file.
    device : {'cpu', 'cuda'}
        Where it is to run; `Tower.device` says where it does.
    n_threads : int
        CPU threads of all callers together; 0 means one per physical core.
    n_replayed : int
        On a GPU, record and replay batches of this size; 0 means none.

    Returns
    -------
    Tower
        Ready to run.

    Raises
    ------
    EncoderError
        If it is no model that the runtime can run.
    """
    if device == 'cpu':
        return Tower(_session(path, _options(path, n_threads), [_CPU]))
    with _opening:
        # Only the default logger can silence the failed start of a provider; 2 is its default.
        runtime().set_default_logger_severity(4)
        try:
            if find_spec('nvidia') is not None:
                with contextlib.redirect_stdout(io.StringIO()):
                    runtime().preload_dlls()
            if n_replayed:
                graphs = {**_CUDA_OPTIONS, 'enable_cuda_graph': '1'}
                # The runtime refuses a graph of which a part has to run on the CPU.
                with contextlib.suppress(EncoderError):
                    session = _session(path, _options(path, n_threads), [(_CUDA, graphs), _CPU],
                                       enable_fallback=0)
                    return Tower(session, n_replayed if _CUDA in session.get_providers() else 0)
            return Tower(_session(path, _options(path, n_threads),
                                  [(_CUDA, _CUDA_OPTIONS), _CPU]))
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
        # process (seen with 1.31), also where CUDA was asked for but cannot be loaded.
        options.graph_optimization_level = runtime().GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    # Spinning threads would take the cores from the threads that decode images.
    options.add_session_config_entry('session.intra_op.allow_spinning', '0')
    return options


def _session(path: Path, options, providers: list, **others):
    try:
        return runtime().InferenceSession(str(path), options, providers=providers, **others)
    # ONNX Runtime raises its own exception classes, without a common root of their own.
    except Exception as error:
        raise EncoderError(f'{path.name} cannot be opened as an ONNX model '
                           f'({" ".join(str(error).split())[:200]}).') from error
