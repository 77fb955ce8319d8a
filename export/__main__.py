"""
Command line: ``python -m export <step> ...``; every step has ``--help``.
"""

import importlib
import sys

#: Step -> module with ``main(arguments)``, in the order they are run.
STEPS = {
    'sky': 'export.sky',
    'proposals': 'export.proposals',
    'hst': 'export.hst',
    'summarise': 'export.summarise',
    'shards': 'export.shards',
    'train': 'export.train',
    'finetune': 'export.finetune',
    'orderings': 'export.orderings',
    'to-onnx': 'export.to_onnx',
    'quantise': 'export.quantise',
    'bundle': 'export.bundle',
    'push': 'export.push',
    'evaluate': 'export.evaluate',
    'calibration': 'export.calibration',
    'feedback': 'export.feedback',
    'retrieval': 'export.retrieval',
    'figures': 'export.plots',
    'sample': 'export.sample',
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
        Exit status: 2 for an unknown step.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    if not arguments or arguments[0] not in STEPS:
        print(f"usage: python -m export {{{','.join(STEPS)}}} ...", file=sys.stderr)
        return 2
    return importlib.import_module(STEPS[arguments[0]]).main(arguments[1:]) or 0


if __name__ == '__main__':
    sys.exit(main())
