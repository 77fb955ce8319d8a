"""Judgements and ratings from files, the first ten, and how many proposals they are."""

import csv

import numpy as np
import pytest

pytest.importorskip('sklearn', reason='export/ needs scikit-learn: install the extra [export]')

from export.measures.judged import (
    QUERIES,
    firsts,
    precision,
    read_judgements,
    read_relevance,
    tfidf,
    write_judgements,
)

IDS = ['a', 'b', 'c', 'd']
GROUPS = np.array([0, 0, 1, 2])
SCORES = np.array([[4., 0], [3, 0], [2, 0], [1, 1]])


def table(path, text):
    path.write_text(text, encoding='utf-8')
    return path


def test_there_are_the_ten_queries_of_the_paper():
    assert len(set(QUERIES)) == 10


def test_the_first_rows_win_ties_and_a_proposal_counts_once():
    assert firsts(np.array([1., 2, 2, 0]), places=3).tolist() == [1, 2, 0]
    assert firsts(SCORES[:, 0], GROUPS, places=2).tolist() == [0, 2]
    assert firsts(SCORES[:, 1], GROUPS, places=9).tolist() == [3, 0, 2]


def test_precision_by_hand():
    judgements = {('q', 'a'): True, ('q', 'b'): True, ('q', 'c'): False, ('r', 'd'): True}
    rows = precision(SCORES, ['q', 'r'], IDS, GROUPS, judgements, places=3)
    assert rows[0] == {'query': 'q', 'P': 2 / 3, 'judged': 3, 'proposals': 2,
                       'relevant proposals': 1, 'P of proposals': 1 / 3,
                       'judged of proposals': 2}
    assert rows[1] == {'query': 'r', 'P': 1 / 3, 'judged': 1, 'proposals': 2,
                       'relevant proposals': 1, 'P of proposals': 1 / 3,
                       'judged of proposals': 1}


def test_answers_are_read_and_what_is_not_one_is_refused(tmp_path):
    path = table(tmp_path / 'a.csv', 'query,id,relevant,text\n'
                                     'q,a,1,"two\nlines"\nq,b,No,\nq,c,,\nr,a, TRUE ,\n')
    assert read_judgements(path) == {('q', 'a'): True, ('q', 'b'): False, ('r', 'a'): True}
    for text, message in (('q,a,maybe', "line 2: relevant is 'maybe'"),
                          ('q,a,1\nq,a,0', 'line 3: a was judged otherwise before')):
        with pytest.raises(ValueError, match=message):
            read_judgements(table(path, f'query,id,relevant\n{text}\n'))
    with pytest.raises(ValueError, match='no column id'):
        read_judgements(table(path, 'query,relevant\n'))


def test_spaces_around_a_query_or_an_id_do_not_count(tmp_path):
    file = tmp_path / 'spaced.csv'
    file.write_text('query,id,relevant\ncomet , a,1\n comet,b ,0\n', 'utf-8')
    assert read_judgements(file) == {('comet', 'a'): True, ('comet', 'b'): False}
    file.write_text('query,id,relevant\n  ,a,1\n', 'utf-8')
    with pytest.raises(ValueError, match='line 2'):
        read_judgements(file)


def test_ratings_are_read_and_what_is_not_one_is_refused(tmp_path):
    path = table(tmp_path / 'a.csv', 'query,id,relevance\nq,a,0.25\nq,b,0\nr,a,3\n')
    assert read_relevance(path) == {'q': {'a': 0.25, 'b': 0.0}, 'r': {'a': 3.0}}
    for number in ('', 'high', '-1', 'nan', 'inf'):
        with pytest.raises(ValueError, match='line 2: relevance is'):
            read_relevance(table(path, f'query,id,relevance\nq,a,{number}\n'))


def test_the_list_to_judge_comes_back_as_it_was_answered(tmp_path):
    known = {('q', 'a'): True, ('elsewhere', 'z'): False}
    path = tmp_path / 'judge.csv'
    texts = ['one, "two"', 'b', 'c', 'naïve']
    other = SCORES[::-1]
    missing = write_judgements(path, [SCORES, other], ['q', 'r'], IDS, GROUPS, texts, known,
                               places=1)
    assert read_judgements(path) == known
    with open(path, encoding='utf-8', newline='') as lines:
        rows = [tuple(row.values()) for row in csv.DictReader(lines)]
    assert rows == [('q', 'a', '1', 'one, "two"'), ('q', 'd', '', 'naïve'), ('r', 'd', '', 'naïve'),
                    ('r', 'a', '', 'one, "two"'), ('elsewhere', 'z', '0', '')]
    assert missing == 3


def test_terms_that_few_texts_have_say_more():
    scores = tfidf(['a comet and a star', 'a star and a star', 'a galaxy'], ['comet star', 'none'])
    assert scores[0, 0] > scores[1, 0] > scores[2, 0] == 0
    assert (scores[:, 1] == 0).all()
