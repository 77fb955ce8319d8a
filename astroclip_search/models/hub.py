# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
The Hugging Face hub -> files of a model, each when it is first needed.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..exceptions import BundleError

__all__ = ['PREPROCESSING', 'Snapshot', 'cached_snapshots', 'external_weights', 'open_snapshot']

# Every model has one of these files, and it is fetched last: where it is, the others are too.
PREPROCESSING = 'preprocessor_config.json', 'processor_config.json'
"""
Files that say how an image becomes the input: of transformers before version 5, and since.
"""

# Some megabytes in all; a tower has hundreds.
_DESCRIPTION = ['config.json', 'tokenizer.json', 'tokenizer_config.json',
                'special_tokens_map.json', 'astroclip.json', 'background.npz', 'golden.npz',
                'README.md']


@dataclass(frozen=True)
class Snapshot:
    """
    A commit of the repository ``name``, as far as it was fetched into the directory ``path``.

    ``listed`` are the files that its ``astroclip.json`` lists, if there is one: the only ones used.
    """

    name: str
    path: Path
    listed: frozenset[str] | None = None

    @property
    def commit(self) -> str:
        """
        Hash of the commit.
        """
        return self.path.name

    @property
    def files(self) -> frozenset[str]:
        """
        Names of the files that the hub has, of those that may be used.
        """
        # Not a cached_property, whose lock in Python 3.11 a forked process could never get.
        if '_files' not in self.__dict__:
            self.__dict__['_files'] = self._ask()
        return self.__dict__['_files']

    def _ask(self) -> frozenset[str]:
        from huggingface_hub import HfApi, constants

        # Without a network this fails at once, where a download would be tried for long.
        found = HfApi().model_info(self.name, revision=self.commit,
                                   timeout=constants.HF_HUB_ETAG_TIMEOUT)
        files = frozenset(file.rfilename for file in found.siblings or ())
        return files if self.listed is None else files & self.listed

    def first(self, names: Sequence[str]) -> str | None:
        """
        The first of some files, the best first, that the repository has; fetched if it is not here.

        Without a network, the first one that is here, and an error if there is none.
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

        # The file itself comes last: where it is, the weights beside it are too.
        for part in (*external_weights(name, self.files), name):
            hf_hub_download(self.name, part, revision=self.commit)


def external_weights(name: str, files: Collection[str]) -> list[str]:
    """
    Those of the files in which an ONNX file keeps its weights, such as ``text_model.onnx_data``.
    """
    return sorted(file for file in files if file.startswith((f'{name}_data', f'{name}.data')))


def open_snapshot(name: str, revision: str = '') -> Snapshot:
    """
    Fetch what describes a model of the hub, but not its towers, at a commit, tag or branch.

    Without a network, it is what the hub had the last time.
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
    snapshot.first(PREPROCESSING)
    return snapshot


def cached_snapshots() -> list[Snapshot]:
    """
    Models in the cache of the hub client that have both towers, the latest commit of each.
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
