"""Right but unlabelled pictures do not count as wrong, and nothing else changes."""

import csv
import re
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip('torch', reason='export/ needs torch: install the extra [export]')

from export.data.pairs import Pair
from export.evaluation.evaluate import main
from export.evaluation.pooled import JUDGEMENTS, THIS, ask, judged_tables, words_alone
from export.evaluation.tasks import Task, read_queries
from export.measures.judged import read_judgements

QUERIES = ['spiral galaxy', 'comet']
PAIRS = [Pair(Path(f'{i}.png'), 'a', title='' if i else 'a comet') for i in range(8)]
#: Images 0 to 3 have the label of the first phrase, 2 to 5 that of the second.
POSITIVE = np.array([[i < 4, 2 <= i < 6] for i in range(8)])


def task(name='one', source='a'):
    return Task(source, name, np.arange(8), [('a/x',), ('a/y',)], QUERIES, POSITIVE,
                np.zeros(8, int), [[], []])


def asked(judgements, scores, **options):
    return ask(task(), PAIRS, judgements, scores, **options)


def ranking(*orders):
    """Scores that put images in these orders, one for each phrase."""
    scores = np.zeros((8, len(orders)))
    for query, order in enumerate(orders):
        scores[list(order), query] = np.arange(8, 0, -1)
    return scores


#: Image 6 is first for the first phrase, without its label.
FIRST = ranking([6, 0, 1, 2, 3, 4, 5, 7], [2, 3, 4, 5, 0, 1, 6, 7])


def test_the_judgements_are_of_phrases_that_are_asked():
    with open(JUDGEMENTS, encoding='utf-8', newline='') as lines:
        rows = list(csv.DictReader(lines))
    sources, sections = read_queries()
    phrases = {entry[0] for table in sources.values() for entry in table.values()}
    assert {row['query'] for row in rows} <= phrases | set(sections['everywhere'])
    assert {row['source'] for row in rows} <= set(sources)
    assert len({(row['query'], row['id']) for row in rows}) == len(rows)
    shown = [row['shows'] for row in rows]
    said = JUDGEMENTS.with_suffix('.md').read_text(encoding='utf-8')
    pairs, right, empty = (int(number.replace(',', '')) for number in re.search(
        r'says for ([\d,]+) pairs .* (\d+) pairs are right and had no label, (\d+) are empty',
        said, re.DOTALL).groups())
    assert (pairs, right, empty) == (len(rows), shown.count('1'), shown.count(''))
    assert len(read_judgements(JUDGEMENTS, column='shows')) == len(rows) - empty


def test_what_was_judged_is_added_and_no_label_is_taken_away():
    one = asked({('spiral galaxy', '6'): True, ('spiral galaxy', '0'): False,
                 ('comet', '7'): False, ('comet', 'elsewhere'): True}, {THIS: FIRST})
    assert one.judged.positive[:, 0].tolist() == [True] * 4 + [False, False, True, False]
    assert (one.judged.positive[:, 1] == POSITIVE[:, 1]).all()
    assert (one.task.positive == POSITIVE).all()
    assert one.known[:, 1].tolist() == [False, False, True, True, True, True, False, True]


def test_pictures_that_volunteers_sorted_are_known():
    pairs = [Pair(Path(f'{i}.png'), 'smallgz1' if i < 7 else 'apod') for i in range(8)]
    one = Task('', 'all', np.arange(8), [('apod/x', 'smallgz1/x'), ('apod/y',)], QUERIES, POSITIVE,
               np.zeros(8, int), [[], []])
    known = ask(one, pairs, {}, {}).known
    assert known[:, 0].tolist() == [True] * 7 + [False]
    assert (known[:, 1] == POSITIVE[:, 1]).all()


def test_a_right_picture_without_a_label_is_not_a_mistake():
    scores = {THIS: FIRST}
    (before,), numbers = judged_tables([asked({}, scores)], draws=20)
    (after,), judged = judged_tables(
        [asked({('spiral galaxy', '6'): True}, scores)], draws=20)
    name, by, *values = before['rows'][0]
    assert (name, by) == ('one', THIS)
    assert values[:3] == values[3:6]  # without judgements both are the same
    precision = (1 / 2 + 2 / 3 + 3 / 4 + 4 / 5) / 4
    assert values[1] == pytest.approx((precision + 1) / 2)
    assert after['rows'][0][2:5] == values[:3]  # by labels nothing has changed
    assert after['rows'][0][6] == pytest.approx(1)
    assert numbers['one'][THIS]['AP']['labels'] == judged['one'][THIS]['AP']['labels']
    assert judged['one'][THIS]['AP']['judgements'][0] == 1
    assert 'one 1 beside 8 labels' in after['text']


def test_others_are_compared_over_the_same_queries():
    half = np.concatenate([FIRST[:, :1], -FIRST[:, 1:]], axis=1)
    (table,), numbers = judged_tables(
        [asked({}, {THIS: FIRST, 'same': FIRST, 'other': half})], draws=50)
    this, same, other = table['rows']
    assert this[-2] == ''
    assert same[-2] == '+0.000 (+0.000 to +0.000)'
    low = numbers['one']['other']['AP']['judgements'][3]
    assert low == pytest.approx(numbers['one']['other']['AP']['judgements'][0], abs=0.4)
    change, end, start = map(float, re.findall(r'[+-]\d\.\d+', other[-2]))
    assert end < change < 0
    assert start <= 0


def test_sources_weigh_the_same_and_seeds_have_a_spread():
    wrong = -FIRST
    sets = [ask(task(name, name), PAIRS, {}, {THIS: scores, 'again': FIRST}, seeds=['again'])
            for name, scores in (('one', FIRST), ('two', wrong))]
    tables, numbers = judged_tables(sets, draws=10)
    values = [numbers[name][THIS]['AP']['judgements'][0] for name in ('one', 'two')]
    assert numbers['mean of the sources'][THIS]['AP']['judgements'][0] == pytest.approx(
        np.mean(values), abs=1e-4)
    rows = {row[0]: row for row in tables[1]['rows']}
    assert rows['one'][1] == 2
    assert '+- 0.000' in rows['one'][3]
    assert '+- 0.000' not in rows['two'][3]


def test_words_are_beside_it_where_there_are_some():
    scores = words_alone(task(), PAIRS)['BM25']
    assert scores[0, 1] > 0
    assert (scores[1:] == 0).all()
    assert words_alone(task(), [Pair(Path('a.png'), 'a')] * 8) == {}


@pytest.mark.parametrize(('text', 'message'), [
    ('query,id\na,b\n', 'has no column shows'),
    ('query,source,id,shows\na,b,c,2\n', "line 2: shows is '2', not 0 or 1"),
    ('query,source,id,shows\na,b,c,1\na,b\n', 'line 3: a query, an id and as many values'),
    ('query,source,id,shows\na,b,c,1,5\n', 'line 2: a query, an id and as many values'),
    ('query,source,id,shows\n,b,c,1\n', 'line 2: a query, an id and as many values'),
    (b'query,source,id,shows\na,b,\xff\xfe,1\n', 'is not a CSV file in UTF-8'),
    (None, 'No such file'),
])
def test_a_bad_file_of_judgements_is_told_in_a_sentence(tmp_path, capsys, text, message):
    path = tmp_path / 'said.csv'
    if text is not None:
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(SystemExit):
        main(['nowhere', '--judgements', str(path), '--out', str(tmp_path / 'm.json')])
    error = capsys.readouterr().err
    assert message in error
    assert 'Traceback' not in error


def test_a_table_of_a_spreadsheet_is_read(tmp_path):
    path = tmp_path / 'said.csv'
    path.write_text('query,source,id,shows\r\na,b,c,1\r\n', encoding='utf-8-sig')
    assert read_judgements(path, column='shows') == {('a', 'c'): True}
