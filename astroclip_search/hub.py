# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
The Hugging Face hub -> files of a model, each when it is first needed.
"""

import functools
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from .exceptions import BundleError

__all__ = ['Snapshot', 'cached_snapshots', 'external_weights', 'open_snapshot']

# Every model has it, and it is fetched last: where it is, the rest of the description is too.
_SEAL = 'preprocessor_config.json'

# What a model is described by, in all some megabytes; a tower has hundreds.
_DESCRIPTION = ['config.json', 'tokenizer.json', 'tokenizer_config.json',
                'special_tokens_map.json', 'astroclip.json', 'background.npz', 'golden.npz',
                'README.md']


@dataclass(frozen=True)
class Snapshot:
    """
    A commit of a repository, as far as it was fetched.

    Attributes
    ----------
    name : str
        Hugging Face id.
    path : pathlib.Path
        Its directory in the cache of the hub client.
    listed : frozenset of str or None
        Files that a description of ours lists; no other is then taken.
    """

    name: str
    path: Path
    listed: frozenset[str] | None = None

    @property
    def commit(self) -> str:
        """
        Hash of the commit, which says what its files hold.
        """
        return self.path.name

    @functools.cached_property
    def files(self) -> frozenset[str]:
        """
        Names of the files that may be taken and that the hub has, which is asked.
        """
        from huggingface_hub import HfApi, constants

        # Without a network this fails at once, where a download would be tried for long.
        found = HfApi().model_info(self.name, revision=self.commit,
                                   timeout=constants.HF_HUB_ETAG_TIMEOUT)
        files = frozenset(file.rfilename for file in found.siblings or ())
        return files if self.listed is None else files & self.listed

    def first(self, names: Sequence[str]) -> str | None:
        """
        The first of some files that there is, fetched if it is not here.

        Without a network, the first one that is here.

        Parameters
        ----------
        names : sequence of str
            Files, the best first.

        Returns
        -------
        str or None
            Its name, or `None` if the repository has none of them.

        Raises
        ------
        BundleError
            If none is here, and the hub could not be asked or the file not be had.
        """
        failure = None
        names = [name for name in names if self.listed is None or name in self.listed]
        for name in names:
            if (self.path / name).is_file():
                return name
            # One failure is enough to wait for.
            if failure is None:
                try:
                    if name in self.files:
                        self._fetch(name)
                        return name
                # The hub client raises errors of several libraries for one situation.
                except Exception as error:
                    failure = error
        if failure is not None:
            raise BundleError(
                f'The model {self.name!r} is incomplete on this machine: {names[0]} could not be '
                f'had from the Hugging Face hub ({type(failure).__name__}).') from failure
        return None

    def _fetch(self, name: str) -> None:
        from huggingface_hub import hf_hub_download

        # Last the file itself: where it is, the weights beside it are too.
        for part in (*external_weights(name, self.files), name):
            hf_hub_download(self.name, part, revision=self.commit)


def external_weights(name: str, files: Collection[str]) -> list[str]:
    """
    Files in which an ONNX file keeps its weights, such as ``text_model.onnx_data``.

    Parameters
    ----------
    name : str
        The ONNX file.
    files : collection of str
        All files of the model.

    Returns
    -------
    list of str
        Those that begin with its name; there may be several.
    """
    return sorted(file for file in files if file.startswith((f'{name}_data', f'{name}.data')))


def open_snapshot(name: str, revision: str = '') -> Snapshot:
    """
    Fetch what describes a model of the hub, but not its towers.

    Parameters
    ----------
    name : str
        Hugging Face id.
    revision : str
        Commit, tag or branch; the default branch if empty.

    Returns
    -------
    Snapshot
        What the hub has now; without a network, what it had when it was last asked.

    Raises
    ------
    BundleError
        If it is neither there nor here.
    """
    from huggingface_hub import snapshot_download

    try:
        path = Path(snapshot_download(name, revision=revision or None,
                                      allow_patterns=_DESCRIPTION))
    # The hub client raises errors of several libraries for one situation.
    except Exception as error:
        raise BundleError(
            f'The model {name!r} is neither the embedded model (\'default\'), nor a local '
            f'directory, nor could it be had from the Hugging Face hub ({type(error).__name__}).'
        ) from error
    snapshot = Snapshot(name, path)
    snapshot.first([_SEAL])
    return snapshot


def cached_snapshots() -> list[Snapshot]:
    """
    Models in the cache of the hub client that have both towers.

    Returns
    -------
    list of Snapshot
        The latest of each.
    """
    try:
        from huggingface_hub import constants, scan_cache_dir
        repositories = scan_cache_dir(constants.HF_HUB_CACHE).repos
    # No cache directory yet, or a client too old or new to list it: then there is none to name.
    except Exception:
        return []
    found = []
    for repository in sorted(repositories, key=lambda one: one.repo_id):
        for revision in sorted(repository.revisions, key=lambda one: -one.last_modified):
            path = Path(revision.snapshot_path)
            if all(any(path.glob(f'onnx/{tower}_model*.onnx')) for tower in ('vision', 'text')):
                found.append(Snapshot(repository.repo_id, path))
                break
    return found
