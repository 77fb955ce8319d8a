"""Pictures of proposals are divided so that none is trained on and tested with."""

from collections import Counter

import numpy as np
import pytest

pytest.importorskip('astroquery', reason='this step needs the run-time dependencies')
pytest.importorskip('scipy', reason='export/ needs scipy: install the extra [export]')

from export.data.proposals import Proposal, read_proposals
from export.data.split import caption_group, finish, part_of, parts
from tests.export.data.collecting import Step
from tests.loopback.archive import blobs, jpeg
from tests.loopback.proposals import catalogue, entry, made_up

pytestmark = pytest.mark.usefixtures('no_retries')


def test_shares_of_the_split():
    sides = Counter(part_of(str(number)) for number in range(1, 20001))
    assert sides['validation'] == pytest.approx(2000, rel=0.1)
    assert sides['test'] == pytest.approx(2000, rel=0.1)
    for number in map(str, range(1, 2000)):
        wide = part_of(number, validation=0.3)
        assert (wide == 'test') == (part_of(number) == 'test')
        assert part_of(number) != 'validation' or wide == 'validation'
    assert {part_of(str(number), validation=0.0, test=0.0) for number in range(99)} == {'train'}


def test_a_proposal_is_on_one_side_and_so_is_an_abstract(step):
    step('--validation', '0.3', '--test', '0.3')
    rows = step.rows()
    for name in ('proposal_id', 'caption_group'):
        sides = {}
        for row in rows:
            sides.setdefault(row[name], set()).add(row['split'])
        assert all(len(found) == 1 for found in sides.values())
    assert {row['split'] for row in rows} == {'train', 'validation', 'test'}
    assert sum(part['pictures'] for part in step.report()['parts'].values()) == 48


def test_continuations_are_on_the_side_of_the_first():
    proposals = [Proposal(str(number), f'Abstract {number % 40}.') for number in range(1, 161)]
    sides = parts(proposals)
    for number in range(1, 41):
        family = {sides[str(number + 40 * i)] for i in range(4)}
        assert family == {part_of(str(number))}
    assert parts(proposals[::-1]) == sides
    same = [Proposal('900', 'We look at M 31.'), Proposal('1000', 'we look,  at M 31')]
    assert len(set(parts(same).values())) == 1


def numbers_on(side, count):
    found = (str(number) for number in range(9001, 9999) if part_of(str(number)) == side)
    return [next(found) for _ in range(count)]


def test_a_picture_that_is_tested_with_is_not_trained_on(tmp_path, serve):
    """One picture in three proposals, slightly different: it stays in the test set only."""
    _, archive = made_up(1, visits=1)
    (trained, other), (tested,) = numbers_on('train', 2), numbers_on('test', 1)
    rng = np.random.default_rng(5)
    picture = blobs(rng, 600)
    model = archive.rows[0]
    archive.rows.clear()
    for number in (trained, other, tested):
        for visit, content in (('01', picture), ('02', blobs(rng, 600))):
            name = f'hst_{number}_{visit}_acs_wfc_total_j{number}{visit}'
            uri = f'mast:HST/product/{name}_drc.jpg'
            archive.rows.append(model | {'obs_id': name, 'proposal_id': number, 'jpegURL': uri,
                                         'dataURL': None, 'obsid': f'{number}{visit}'})
            archive.files[uri] = jpeg(content, quality=60 + len(archive.rows))
    step = Step(tmp_path, catalogue([entry(number, 'T', f'Abstract {number}.')
                                     for number in (trained, other, tested)]))
    serve(archive)
    assert step() == 0
    assert step.report()['repeated'] == 2
    assert sorted(row['id'] for row in step.rows()) == sorted([
        f'hst_{number}_02_acs_wfc_total_j{number}02' for number in (trained, other, tested)]
        + [f'hst_{tested}_01_acs_wfc_total_j{tested}01'])
    # What counts as repeated may be chosen later, without a single request.
    step('--similarity', '1.1')
    assert len(step.rows()) == 6


def test_pictures_of_one_object_are_kept(step):
    """They have one target and one title, yet show it in different ways."""
    for row in step.mast.archive.rows:
        row['target_name'] = 'NGC 1'
    step()
    assert len(step.rows()) == 48
    assert step.report()['repeated'] == 0


def test_captions_are_equal_up_to_case_spaces_and_punctuation():
    assert caption_group('Dust in M 31.') == caption_group('dust  in M\n31')
    assert caption_group('Dust in M 31') != caption_group('Dust in M 32')


def test_units_of_other_proposals_are_passed_over(step):
    step('--proposals', '9001', '9008')
    proposals = [one for one in read_proposals(step.catalogue)[0] if one.number == '9008']
    assert finish(proposals, step.out)['pictures'] == 4
