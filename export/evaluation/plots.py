"""
Figures 2, 3 and 4 of PAPERCLIP, and its histograms of cosines, of any runs.

Matplotlib is not needed for anything else: without it there are no figures.
"""

import argparse
import json
from pathlib import Path

import numpy as np

__all__ = ['main', 'read_log', 'retrieval', 'training']

#: What is drawn of a log, the first that all runs have: of `export finetune`, open_clip's trainer
#: and `export train`.
_LOSSES = ('validation/loss', 'clip_val_loss', 'loss')
_ACCURACIES = ('validation/top10', 'text_to_image_R@10', 'validation/top5')
#: Where chance is, where it depends on nothing else.
_CHANCE = {'validation/top10': 0.1}
_NAMES = {'validation/loss': 'validation loss', 'clip_val_loss': 'validation loss',
          'loss': 'training loss', 'validation/top10': 'top 10 of 100, captions to images',
          'text_to_image_R@10': 'R@10, captions to images',
          'validation/top5': 'kind of scene among the first 5'}
_COLOURS = ('#0072b2', '#d55e00', '#009e73', '#cc79a7', '#e69f00', '#56b4e9', '#000000')
_STYLES = ('-', '--', '-.', ':')


def _figure(width, height, panels):
    """Make a figure, or say what is missing."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return None, None
    figure = Figure(figsize=(width, height), layout='constrained')
    axes = figure.subplots(1, panels, squeeze=False)[0]
    for axis in axes:
        axis.grid(color='#e6e6e6', linewidth=0.8)
        axis.set_axisbelow(True)
        axis.spines[['top', 'right']].set_visible(False)
    return figure, axes


def _look(i):
    return {'color': _COLOURS[i % len(_COLOURS)],
            'linestyle': _STYLES[i // len(_COLOURS) % len(_STYLES)]}


def read_log(path):
    """
    Read how a training run went.

    Parameters
    ----------
    path : path-like
        ``log.jsonl`` of `export train` or `export finetune`, or ``results.jsonl`` of open_clip's
        trainer, or a folder with one of them.

    Returns
    -------
    unit : {'step', 'epoch'}
        What is counted.
    series : dict
        Name -> steps and values. Keys of nested objects are joined by a slash; of a step that was
        logged twice the last values count.

    Raises
    ------
    ValueError
        If there is none in it.
    """
    path = Path(path)
    names = ('log.jsonl', 'results.jsonl', 'checkpoints/results.jsonl')
    if path.is_dir():
        path = next((path / name for name in names if (path / name).is_file()), path / names[0])
    found, unit = {}, None
    for number, line in enumerate(path.read_text(encoding='utf-8').splitlines(), start=1):
        try:
            row = json.loads(line)
            unit = next(name for name in ('step', 'epoch') if name in row)
            at = row.pop(unit)
        except (AttributeError, StopIteration, ValueError) as error:
            raise ValueError(f'{path}, line {number}: no line of a training log') from error
        for name, value in row.items():
            parts = value.items() if isinstance(value, dict) else [('', value)]
            for key, one in parts:
                if isinstance(one, int | float):
                    found.setdefault(f'{name}/{key}' if key else name, {})[at] = float(one)
    if not found:
        raise ValueError(f'{path} is empty')
    return unit, {name: (sorted(values), [values[at] for at in sorted(values)])
                  for name, values in found.items()}


def training(runs, path):
    """
    Draw Figure 2: loss and retrieval accuracy of held-out pairs while models are trained.

    Parameters
    ----------
    runs : dict
        Name -> what `read_log` returns.
    path : path-like
        File to write; its ending says in which format.

    Returns
    -------
    path : `pathlib.Path` or None
        What was written; None without Matplotlib.

    Raises
    ------
    ValueError
        If the runs have no number in common.
    """
    units = {unit for unit, _ in runs.values()}
    if len(units) > 1:
        raise ValueError('some of these logs count steps, others epochs: draw them apart')
    figure, axes = _figure(9, 3.8, 2)
    if figure is None:
        return None
    for axis, names in zip(axes, (_LOSSES, _ACCURACIES), strict=True):
        shown = next((name for name in names
                      if all(name in series for _, series in runs.values())), None)
        if shown is None:
            raise ValueError(f'these logs have none of {", ".join(names)} in common')
        for i, (run, (_, series)) in enumerate(runs.items()):
            few = len(series[shown][0]) < 15
            axis.plot(*series[shown], label=run, marker='o' if few else None, markersize=4,
                      **_look(i))
        if shown in _CHANCE:
            axis.axhline(_CHANCE[shown], color='#888888', linestyle=(0, (4, 3)), linewidth=1)
            axis.annotate('chance', (1, _CHANCE[shown]), (-2, 3), color='#666666', fontsize=9,
                          xycoords=('axes fraction', 'data'), textcoords='offset points',
                          horizontalalignment='right')
        if names is _ACCURACIES:
            axis.set_ylim(bottom=0)
        axis.set_ylabel(_NAMES[shown])
        axis.set_xlabel(units.copy().pop())
    figure.legend(*axes[0].get_legend_handles_labels(), loc='outside lower center', fontsize=9,
                  ncols=min(4, len(runs)), frameon=False)
    return _save(figure, path)


def curves(results, path, *, product='dot product'):
    """
    Draw Figure 3 or 4: the share of images whose caption is among the first of all.

    Parameters
    ----------
    results : dict
        Name -> result of `export.evaluation.retrieval.retrieval`.
    path : path-like
        File to write.
    product : {'dot product', 'cosine'}
        By which captions are ranked.

    Returns
    -------
    path : `pathlib.Path` or None
        What was written; None without Matplotlib.
    """
    figure, axes = _figure(5.6, 4.2, 1)
    if figure is None:
        return None
    axis = axes[0]
    axis.plot([0, 1], [0, 1], color='#888888', linestyle=(0, (4, 3)), linewidth=1, label='chance')
    for i, (name, result) in enumerate(results.items()):
        figures = result['figures']
        # A rank of n is certain: the paper's points end before it.
        share = np.append(np.array(figures['cuts']) / figures['pairs'], 1)
        axis.plot(share, [*figures[product], 1], label=f'{name} (N = {figures["pairs"]})',
                  **_look(i))
    axis.set(xlim=(0, 1), ylim=(0, 1.01),
             xlabel='share of captions looked at (rank / N)',
             ylabel=f'retrieval accuracy ({product})')
    axis.legend(frameon=False, fontsize=9, loc='lower right')
    return _save(figure, path)


def histograms(results, path):
    """
    Draw cosines of true and of shuffled pairs.

    Parameters
    ----------
    results : dict
        Name -> result of `export.evaluation.retrieval.retrieval`.
    path : path-like
        File to write.

    Returns
    -------
    path : `pathlib.Path` or None
        What was written; None without Matplotlib.
    """
    figure, axes = _figure(max(4.8, 4.2 * len(results)), 3.8, len(results))
    if figure is None:
        return None
    ends = [edge for result in results.values() for edge in _range(result['cosines'])]
    for axis, (name, result) in zip(axes, results.items(), strict=True):
        numbers = result['cosines']
        for i, kind in enumerate(('true', 'shuffled')):
            counts = np.array(numbers[kind])
            axis.stairs(counts / max(counts.sum(), 1), numbers['edges'], fill=True, alpha=0.35,
                        color=_COLOURS[i])
            axis.stairs(counts / max(counts.sum(), 1), numbers['edges'], color=_COLOURS[i],
                        label=f'{kind}: {numbers[f"{kind} mean"]:.3f} ± '
                              f'{numbers[f"{kind} std"]:.3f}')
        axis.set(title=f'{name}, AUC {numbers["AUC"]:.3f}', xlim=(min(ends), max(ends)),
                 xlabel='cosine of image and caption', ylabel='share of pairs')
        axis.set_ylim(top=1.25 * axis.get_ylim()[1])
        axis.legend(frameon=False, fontsize=9, loc='upper right')
    return _save(figure, path)


def _range(numbers):
    """Ends of what a histogram holds, with a bin to spare."""
    edges = numbers['edges']
    filled = np.flatnonzero(np.add(numbers['true'], numbers['shuffled']))
    return edges[max(filled[0] - 1, 0)], edges[min(filled[-1] + 2, len(edges) - 1)]


def retrieval(results, stem, *, ending='.png'):
    """
    Draw the figures of results.

    Parameters
    ----------
    results : dict
        Name -> result of `export.evaluation.retrieval.retrieval`.
    stem : path-like
        Beginning of the names of the files.
    ending : str, optional
        Format of the files.

    Returns
    -------
    files : list of `pathlib.Path`
        What was written; empty without Matplotlib.
    """
    stem = Path(stem)
    files = [curves(results, stem.with_name(f'{stem.name}-{product.split()[0]}{ending}'),
                    product=product)
             for product in ('dot product', 'cosine')]
    files.append(histograms(results, stem.with_name(f'{stem.name}-histograms{ending}')))
    return [file for file in files if file]


def _save(figure, path):
    figure.savefig(path, dpi=150)
    return Path(path)


def _named(argument):
    """Split NAME=FILE; without a name a log is called as its folder, a result as its file."""
    name, _, path = argument.rpartition('=')
    path = Path(path)
    return name or (path.resolve().parent.name if path.suffix == '.jsonl' else path.stem), path


def _each(chosen, read):
    """Read all files by their names, of which no two may be equal."""
    names = [name for name, _ in chosen]
    if len(set(names)) < len(names):
        raise ValueError(f'two of {", ".join(names)} have one name: give NAME=FILE')
    return {name: read(path) for name, path in chosen}


def _result(path):
    return json.loads(path.read_text(encoding='utf-8'))


def main(arguments):
    """
    Run ``python -m export figures``.

    Parameters
    ----------
    arguments : list of str
        Command line.

    Returns
    -------
    status : int
        1 if Matplotlib is missing, else 0.
    """
    parser = argparse.ArgumentParser(
        prog='python -m export figures',
        description='Figures 2, 3 and 4 of PAPERCLIP of any runs. Files are given as NAME=FILE.')
    parser.add_argument('--logs', nargs='+', default=[], type=_named, metavar='FILE',
                        help='Figure 2: log.jsonl, or results.jsonl of open_clip')
    parser.add_argument('--models', nargs='+', default=[], type=_named, metavar='FILE',
                        help='Figure 3: JSON files of `export retrieval`')
    parser.add_argument('--ablations', nargs='+', default=[], type=_named, metavar='FILE',
                        help='Figure 4: more of them')
    parser.add_argument('--format', choices=('png', 'svg', 'pdf'), default='png')
    parser.add_argument('--out', required=True, type=Path, help='folder for the figures')
    options = parser.parse_args(arguments)
    if not (options.logs or options.models or options.ablations):
        parser.error('nothing to draw: give --logs, --models or --ablations')
    ending = f'.{options.format}'
    options.out.mkdir(parents=True, exist_ok=True)
    files = []
    try:
        if options.logs:
            files.append(training(_each(options.logs, read_log),
                                  options.out / f'training{ending}'))
        for name, chosen in (('models', options.models), ('ablations', options.ablations)):
            if chosen:
                files += retrieval(_each(chosen, _result), options.out / name, ending=ending)
    except (OSError, KeyError, ValueError) as error:
        parser.error(f'{error!r}' if isinstance(error, KeyError) else str(error))
    if not any(files):
        print('figures need Matplotlib: pip install "astroclip-search[plot]"')
        return 1
    print('\n'.join(str(file) for file in files))
    return 0
