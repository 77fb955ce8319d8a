"""
Command line: ``python -m export <step> ...``; every step has ``--help``.
"""

import importlib
import sys

from astroclip_search.exceptions import ClipSearchError

#: Step -> module with ``main(arguments)``, in the order they are run.
STEPS = {
    'sky': 'export.sky',
    'proposals': 'export.data.proposals',
    'hst': 'export.data.hst',
    'summarise': 'export.data.summarise',
    'shards': 'export.data.shards',
    'train': 'export.training.train',
    'finetune': 'export.finetuning.finetune',
    'orderings': 'export.finetuning.orderings',
    'to-onnx': 'export.to_onnx.towers',
    'quantise': 'export.to_onnx.quantise',
    'bundle': 'export.release.bundle',
    'calibrate': 'export.release.calibrate',
    'push': 'export.release.push',
    'evaluate': 'export.evaluation.evaluate',
    'calibration': 'export.evaluation.calibration',
    'banner': 'export.evaluation.banner',
    'feedback': 'export.evaluation.feedback',
    'places': 'export.evaluation.places',
    'retrieval': 'export.evaluation.retrieval',
    'figures': 'export.evaluation.plots',
    'sample': 'export.release.sample',
}


def main(arguments=None):
    """
    Run one step.

    Parameters
    ----------
    arguments : list of str, optional
        By default ``sys.argv[1:]``.

    Returns
    -------
    status : int
        Exit status: 2 for an unknown step, 1 for what cannot be done. Why is one sentence; with
        ``python -X dev`` it is a traceback.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    if not arguments or arguments[0] not in STEPS:
        print(f"usage: python -m export {{{','.join(STEPS)}}} ...", file=sys.stderr)
        return 2
    step = importlib.import_module(STEPS[arguments[0]])
    try:
        return step.main(arguments[1:]) or 0
    # What users give raises these: a file that is not there, a model that is none, a wrong number.
    except (OSError, ValueError, ClipSearchError) as error:
        if sys.flags.dev_mode:
            raise
        print(f'python -m export {arguments[0]}: {error}', file=sys.stderr)
        return 1


if __name__ == '__main__':
    sys.exit(main())
