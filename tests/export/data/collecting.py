"""The step `hst` as the tests of it, of the split and of shards run it."""

import json

from export.__main__ import main


class Step:
    """The command, with a catalogue and a folder of its own."""

    def __init__(self, folder, text):
        self.out = folder / 'pairs'
        self.catalogue = folder / 'abstracts.cat'
        self.catalogue.write_text(text)

    def __call__(self, *options):
        return main(self.command(*options))

    def command(self, *options):
        return ['hst', '--abstracts', str(self.catalogue), '--out', str(self.out), *options]

    def rows(self, name='manifest'):
        with open(self.out / f'{name}.jsonl', encoding='utf-8') as lines:
            return [json.loads(line) for line in lines]

    def report(self):
        return json.loads((self.out / 'report.json').read_text())

    def result(self):
        """Every file of the result, but for addresses on this machine."""
        return {str(path.relative_to(self.out)):
                path.read_bytes().replace(bytes(self.out.resolve()), b'')
                for path in self.out.rglob('*') if path.is_file()}
