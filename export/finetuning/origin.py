"""
Where checkpoints of CLIPs come from: a folder, or the Hugging Face hub.
"""

from pathlib import Path

__all__ = ['fetch']

#: Descriptions and tokenizers; no code, and nothing that is opened by running it.
DESCRIPTIONS = ('*.json', 'merges.txt')

_PICKLES = ('.bin', '.pt', '.pth', '.ckpt', '.pkl')


def fetch(name, revision=None):
    """
    Find a checkpoint in a folder or on the Hugging Face hub.

    Of a hub repository only descriptions, tokenizer and safetensors are downloaded. The
    variables of the hub client hold, ``HF_HUB_OFFLINE`` and ``HF_ENDPOINT`` among them.

    Parameters
    ----------
    name : str
        Path of a folder, or a hub id.
    revision : str, optional
        Commit, tag or branch on the hub.

    Returns
    -------
    folder : pathlib.Path
        Where it is.
    weights : list of pathlib.Path
        Its weights.
    commit : str
        Commit of the hub, or an empty string.

    Raises
    ------
    ValueError
        If it cannot be had, or its weights are no safetensors.
    """
    folder = Path(name).expanduser()
    if folder.is_dir():
        if revision:
            raise ValueError(f'a folder has no revision ({revision})')
        folder, commit = folder.resolve(), ''
        others = [path.name for path in folder.iterdir() if path.suffix in _PICKLES]
    else:
        folder, others = _download(name, revision)
        commit = folder.name
    weights = _weights([path.name for path in folder.glob('*.safetensors')],
                       (folder / 'open_clip_config.json').is_file())
    if not weights:
        found = f'it has {", ".join(sorted(others))}, a pickle, which' if others else 'a pickle'
        raise ValueError(f'{name} has no weights as safetensors; {found} could run any code when '
                         'opened: convert it to safetensors where you trust it')
    return folder, [folder / file for file in weights], commit


def _download(name, revision):
    from huggingface_hub import HfApi, snapshot_download

    try:
        folder = Path(snapshot_download(name, revision=revision, allow_patterns=DESCRIPTIONS))
        # All that the cache holds, where there is no network to ask what the repository has.
        files = [path.name for path in folder.iterdir()]
        try:
            files = HfApi().list_repo_files(name, revision=folder.name)
        except Exception as error:
            if type(error).__name__ not in ('OfflineModeIsEnabled', 'ConnectError'):
                raise
        weights = _weights(files, 'open_clip_config.json' in files)
        if weights:
            folder = Path(snapshot_download(name, revision=folder.name,
                                            allow_patterns=[*DESCRIPTIONS, *weights]))
    # The hub client raises errors of several libraries for one situation.
    except Exception as error:
        raise ValueError(f'{name} is neither a folder, nor could it be had from the hub '
                         f'({type(error).__name__})') from error
    return folder, [file for file in files if Path(file).suffix in _PICKLES]


def _weights(files, is_open_clip):
    """
    Of the safetensors in a repository, those of the format that is read.
    """
    files = sorted(file for file in files if file.endswith('.safetensors') and '/' not in file)
    own = [file for file in files if file.startswith('open_clip')]
    return own[:1] or files[:1] if is_open_clip else [f for f in files if f not in own]
