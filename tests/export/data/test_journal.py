"""Rows are on the disk at once, and a file that was cut off goes on."""

import os

from export.data.journal import Journal
from tests.export.data.summarising import rows_of


def test_a_journal_cut_off_anywhere_goes_on(tmp_path):
    path = tmp_path / 'rows.jsonl'
    expected = [{'proposal_id': i, 'x': 'é\n"' * i} for i in range(3)]
    with Journal(path) as journal:
        for row in expected:
            journal.append(row)
    content = path.read_bytes()
    ends = [i + 1 for i, byte in enumerate(content) if byte == ord('\n')]
    for size in range(len(content) + 1):
        path.write_bytes(content[:size] + b'\0' * (size % 3 if size not in (0, *ends) else 0))
        with Journal(path) as journal:
            whole = sum(end <= size for end in ends)
            assert journal.rows == expected[:whole]
            journal.append({'last': 1})
        assert rows_of(path) == [*expected[:whole], {'last': 1}]


def test_a_row_is_on_the_disk_when_append_returns(tmp_path, monkeypatch):
    path, synced = tmp_path / 'rows.jsonl', []
    with Journal(path) as journal:
        monkeypatch.setattr(os, 'fsync', lambda number: synced.append(path.read_bytes()))
        journal.append({'a': 1})
        journal.append({'a': 2})
    assert synced == [b'{"a": 1}\n', b'{"a": 1}\n{"a": 2}\n']
