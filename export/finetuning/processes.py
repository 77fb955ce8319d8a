"""
The processes of a training run: those that ``torchrun`` started, and signals that end them.

Without ``torchrun`` there is one, and what is here costs nothing.
"""

import contextlib
import os
import signal
import threading

import torch
from torch import distributed

__all__ = ['joined', 'mean', 'mean_gradients', 'place', 'stopping', 'undisturbed']


def place():
    """
    Say which process this is.

    Returns
    -------
    rank, processes : int
        Its number from 0, of how many.
    """
    return int(os.environ.get('RANK', '0')), int(os.environ.get('WORLD_SIZE', '1'))


@contextlib.contextmanager
def joined():
    """
    Join the other processes for as long as the context lasts.

    Yields
    ------
    device : `torch.device`
        A GPU of its own for each process, where there are any; messages then go through NCCL, else
        through Gloo.
    """
    device = torch.device('cpu')
    if torch.cuda.is_available():
        device = torch.device('cuda', int(os.environ.get('LOCAL_RANK', '0')))
        torch.cuda.set_device(device)
    if place()[1] == 1:
        yield device
        return
    distributed.init_process_group('nccl' if device.type == 'cuda' else 'gloo')
    try:
        yield device
    finally:
        distributed.destroy_process_group()


def mean(value):
    """
    Take the mean of a scalar over processes, all of which have to ask.

    Parameters
    ----------
    value : `torch.Tensor`
        Scalar of this process.

    Returns
    -------
    mean : float
        The same in all.
    """
    if distributed.is_initialized():
        value = value.clone()
        distributed.all_reduce(value)
        value = value / distributed.get_world_size()
    return value.item()


def mean_gradients(parameters):
    """
    Replace gradients by their mean over processes.

    It is one message when all gradients are there, and so serves those that were made in parts.

    Parameters
    ----------
    parameters : list of `torch.nn.Parameter`
        The same in all processes.
    """
    if not distributed.is_initialized():
        return
    gradients = [p.grad for p in parameters if p.grad is not None]
    together = torch.cat([gradient.flatten() for gradient in gradients])
    distributed.all_reduce(together)
    together /= distributed.get_world_size()
    parts = together.split([gradient.numel() for gradient in gradients])
    for gradient, part in zip(gradients, parts, strict=True):
        gradient.copy_(part.view_as(gradient))


@contextlib.contextmanager
def stopping():
    """
    Note signals that ask this process to end, so that it can end its step first.

    Yields
    ------
    told : `threading.Event`
        Set by SIGINT and SIGTERM.
    """
    told = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield told
        return
    kinds = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(kind, lambda *_: told.set()) for kind in kinds]
    try:
        yield told
    finally:
        for kind, handler in zip(kinds, before, strict=True):
            signal.signal(kind, handler)


def undisturbed(number):
    """
    Let a process that reads pictures live on when a whole group of processes is told to end.

    The one that it works for ends it after its last step.

    Parameters
    ----------
    number : int
        Of the worker, which does not matter.
    """
    del number
    for kind in (signal.SIGINT, signal.SIGTERM):
        signal.signal(kind, signal.SIG_IGN)
