"""The synthetic sky: reproducible pictures, captions that are true, shards that appear whole."""

import json
import re
import tomllib
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip('scipy', reason='the synthetic sky needs scipy: install the extra [export]')

from export import sky
from export.data.labels import expand
from export.sky import (
    HELD_OUT,
    KINDS,
    Scene,
    caption,
    main,
    names,
    render,
    synonyms,
    write_shard,
)
from export.sky.captions import details, label_synonyms, with_article
from export.sky.sheet import contact_sheet

PHRASES = Path(sky.__file__).parents[1] / 'data' / 'phrases.toml'


@pytest.mark.parametrize('kind', KINDS)
def test_every_kind_renders(kind):
    scene = render(5, kind, size=64)
    assert isinstance(scene, Scene)
    assert scene.image.shape == (64, 64, 3)
    assert scene.image.dtype == np.uint8
    assert scene.image.std() > 1
    assert scene.kind == kind
    assert scene.seed == 5
    # Attributes are stored as JSON, so nothing may change on the way.
    assert json.loads(json.dumps(scene.attributes)) == scene.attributes
    assert {'style', 'mosaic', 'annotated'} <= set(scene.attributes)


def test_same_seed_same_picture():
    for seed in (0, 17, 900_000_000):
        first, second = render(seed), render(seed)
        assert first.kind == second.kind
        assert first.attributes == second.attributes
        np.testing.assert_array_equal(first.image, second.image)
        # The kind drawn from the seed gives the same picture as the kind asked for.
        np.testing.assert_array_equal(first.image, render(seed, first.kind).image)


def test_seeds_and_kinds_differ():
    assert not np.array_equal(render(1, 'spiral').image, render(2, 'spiral').image)
    assert not np.array_equal(render(1, 'spiral').image, render(1, 'barred_spiral').image)


def test_all_kinds_are_drawn():
    drawn = {render(seed, size=32).kind for seed in range(400)}
    assert drawn == set(KINDS)


@pytest.mark.parametrize('size', [32, 96, 200])
def test_any_size(size):
    image = render(3, 'emission_nebula', size=size).image
    assert image.shape == (size, size, 3)


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        ({'seed': 0, 'kind': 'unicorn'}, "unknown kind 'unicorn'"),
        ({'seed': -1}, 'seed must not be negative'),
        ({'seed': 0, 'size': 8}, 'size must be at least 32'),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        render(**arguments)


def test_bad_kind_has_no_words():
    with pytest.raises(ValueError, match="unknown kind 'unicorn'"):
        names('unicorn')
    with pytest.raises(ValueError, match="unknown kind 'unicorn'"):
        caption('unicorn', {}, np.random.default_rng(0))


def test_names_cover_every_kind():
    for kind in KINDS:
        assert len(names(kind)) >= 3
        assert all(isinstance(name, str) and name for name in names(kind))
    assert set(HELD_OUT) <= set(KINDS)


def test_captions_are_reproducible_and_varied():
    attributes = render(4, 'edge_on', size=32).attributes
    first = [caption('edge_on', attributes, np.random.default_rng(i)) for i in range(200)]
    again = [caption('edge_on', attributes, np.random.default_rng(i)) for i in range(200)]
    assert first == again
    assert len(set(first)) > 60


@pytest.mark.parametrize(
    ('kind', 'name', 'values', 'phrase'),
    [
        ('edge_on', 'dust_lane', (True, False), 'with a dust lane'),
        ('lens', 'ring', (True, False), 'Einstein ring'),
        ('dark_nebula', 'shape', ('pillar', 'globule'), 'pillar'),
        ('planet', 'body', ('saturn', 'mars'), 'Saturn'),
        ('fading_radio_galaxy', 'bent', (True, False), 'bent-tail'),
        ('merger', 'tails', (True, False), 'tidal tails'),
        ('galaxy_cluster', 'arcs', (True, False), 'giant arcs'),
    ],
)
def test_captions_tell_only_what_is_there(kind, name, values, phrase):
    rng = np.random.default_rng(1)
    base = {'style': 'colour', 'mosaic': False}

    def said(value):
        attributes = base | {name: value}
        return any(phrase in caption(kind, attributes, rng) for _ in range(400))

    there, absent = values
    assert said(there)
    assert not said(absent)


def test_clauses_are_joined_and_negated():
    rng = np.random.default_rng(4)
    attributes = {'style': 'colour', 'arms': 'loose', 'n_arms': 2, 'barred': False}
    captions = {caption('spiral', attributes, rng) for _ in range(2000)}
    assert any(' with ' in text and ' and ' in text and text.endswith('no bar')
               for text in captions)
    assert any(text.endswith('without a bar') for text in captions)
    barred = [caption('spiral', attributes | {'barred': True}, rng) for _ in range(2000)]
    assert not any('no bar' in text or 'without a bar' in text for text in barred)


def test_pictures_of_no_target_are_not_observed():
    rng = np.random.default_rng(5)
    texts = [caption('people', {'style': 'figure', 'astronaut': True}, rng) for _ in range(500)]
    assert not any('telescope' in text or 'in the sky' in text for text in texts)


def test_both_fanaroff_riley_classes_have_their_own_words():
    assert not set(names('radio_galaxy')) & set(names('fading_radio_galaxy'))


def test_mosaic_and_style_words_follow_the_picture():
    rng = np.random.default_rng(2)
    mono = [caption('spiral', {'style': 'mono', 'mosaic': False}, rng) for _ in range(500)]
    assert any('grayscale' in text for text in mono)
    assert not any('mosaic' in text or 'RGB' in text or 'inverted' in text for text in mono)
    gaps = [caption('spiral', {'style': 'colour', 'mosaic': True}, rng) for _ in range(500)]
    assert any('mosaic' in text for text in gaps)


def test_every_detail_is_one_a_painter_can_give():
    """A phrase for an attribute that no painter sets would never be used."""
    from export.sky.captions import _PHRASES

    for kind, groups in _PHRASES['details'].items():
        scenes = [render(seed, kind, size=32).attributes for seed in range(20)]
        for name, values in groups.items():
            seen = {scene[name] for scene in scenes}
            if seen <= {True, False}:
                assert set(values) <= {'true', 'false'}, f'{kind}: {name} is true or false'
            else:
                assert {str(value) for value in seen} & set(values), f'{kind}: {name} is {seen}'


def test_held_out_phrases_are_never_used():
    rng = np.random.default_rng(3)
    held_out = [phrase.lower() for phrases in HELD_OUT.values() for phrase in phrases]
    for kind in KINDS:
        for seed in range(8):
            attributes = render(seed, kind, size=32).attributes
            for _ in range(60):
                text = caption(kind, attributes, rng).lower()
                assert text
                assert not any(phrase in text for phrase in held_out)


def content_words(text):
    """Words that carry meaning, without the endings of plurals."""
    words = set(re.findall('[a-z0-9]+', text.lower())) - set(
        'a an the of in with and its it to that is are by from on at for or as has whose '
        'around'.split())
    return frozenset(word[:-3] + 'y' if word.endswith('ies') else word.rstrip('s')
                     for word in words)


def all_synonyms():
    """Yield every phrase of the files of synonyms with its file and key."""
    for path in sorted((Path(sky.__file__).parent / 'synonyms').glob('*.toml')):
        content = tomllib.loads(path.read_text(encoding='utf-8'))
        for key, phrases in content['names'].items():
            yield from ((path.stem, key, phrase) for phrase in phrases)
        for kind, groups in content.get('details', {}).items():
            yield from ((path.stem, f'{kind}.{name}={value}', phrase)
                        for name, values in groups.items()
                        for value, phrases in values.items() for phrase in phrases)


def asked_phrases():
    """Return every phrase by which labels of real images are asked for."""
    content = tomllib.loads(PHRASES.read_text(encoding='utf-8'))
    patterns = [*content['ask'].values(), *(entry['ask'] for entry in content['without'])]
    return {phrase for found in patterns for pattern in found for phrase in expand(pattern)}


def test_synonyms_are_many_and_name_what_exists():
    found = list(all_synonyms())
    assert len(found) > 6000
    for path, key, phrase in found:
        assert phrase == phrase.strip(' .')
        if path == 'labels':
            assert phrase in label_synonyms(key)
        else:
            assert key.partition('.')[0] in KINDS, key
    assert min(len(synonyms(kind)) for kind in KINDS) > 40


def test_synonyms_of_a_detail_follow_the_picture():
    rng = np.random.default_rng(0)
    two, three = ({caption('spiral', {'n_arms': arms}, rng) for _ in range(1500)}
                  for arms in (2, 3))
    twofold = {phrase for _, key, phrase in all_synonyms() if key == 'spiral.n_arms=2'}
    assert len(twofold & two) > 5
    assert not twofold & three


def test_no_synonym_comes_near_a_phrase_that_tests_use():
    """What a model is tested with must not have been among its words."""
    queries = Path(sky.__file__).parent.parent / 'configs' / 'queries.toml'
    paraphrases = tomllib.loads(queries.read_text(encoding='utf-8'))['paraphrases']
    tested = {content_words(phrase) for phrases in [*paraphrases.values(), *HELD_OUT.values()]
              for phrase in phrases}
    trained = [content_words(phrase) for phrase in [*(phrase for *_, phrase in all_synonyms()),
                                                    *asked_phrases()]]
    near = [words for words in trained for other in tested
            if len(words & other) >= 0.67 * len(words | other)]
    assert not near


def test_details_of_unknown_attributes_are_ignored():
    assert details('spiral', {'style': 'mono', 'colour_of_the_observer': 'blue'}) == []


@pytest.mark.parametrize(
    ('phrase', 'expected'),
    [
        ('spiral galaxy', 'a spiral galaxy'),
        ('edge-on galaxy', 'an edge-on galaxy'),
        ('HII region', 'an HII region'),
        ('interacting galaxies', 'interacting galaxies'),
        ('gravitational lens', 'a gravitational lens'),
        ('disk with rings and gaps', 'a disk with rings and gaps'),
        ('Jupiter', 'Jupiter'),
        ('strong lensing', 'strong lensing'),
        ('unbarred spiral galaxy', 'an unbarred spiral galaxy'),
    ],
)
def test_articles(phrase, expected):
    assert with_article(phrase) == expected


def test_shards(tmp_path):
    path = write_shard(tmp_path / 'new', 10, 5, 32)
    assert path.name == 'sky-10.npz'
    assert [file.name for file in path.parent.iterdir()] == ['sky-10.npz']
    with np.load(path, allow_pickle=False) as shard:
        assert shard['images'].shape == (5, 32, 32, 3)
        assert shard['images'].dtype == np.uint8
        assert shard['kind'].dtype == np.int16
        assert shard['kind'].tolist() == [seed % len(KINDS) for seed in range(10, 15)]
        assert shard['attributes'].dtype.kind == 'U'
        scene = render(12, KINDS[12], size=32)
        np.testing.assert_array_equal(shard['images'][2], scene.image)
        assert json.loads(str(shard['attributes'][2])) == scene.attributes


def test_shard_is_whole_or_absent(tmp_path, monkeypatch):
    def fail(stream, **_):
        stream.write(b'PK')
        raise OSError('disk full')

    monkeypatch.setattr(np, 'savez', fail)
    with pytest.raises(OSError, match='disk full'):
        write_shard(tmp_path, 0, 1, 32)
    assert list(tmp_path.iterdir()) == []


def test_existing_shard_is_kept(tmp_path):
    path = tmp_path / 'sky-0.npz'
    path.write_bytes(b'as it was')
    assert write_shard(tmp_path, 0, 1, 32) == path
    assert path.read_bytes() == b'as it was'


def test_command(tmp_path, capsys):
    assert main(['--out', str(tmp_path), '--count', '5', '--seed', '3', '--shard', '2',
                 '--size', '32']) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        'sky-3.npz', 'sky-5.npz', 'sky-7.npz']
    assert '5 of 5 scenes' in capsys.readouterr().err
    with np.load(tmp_path / 'sky-7.npz', allow_pickle=False) as shard:
        assert shard['kind'].tolist() == [7]


def test_command_with_processes(tmp_path):
    main(['--out', str(tmp_path), '--count', '4', '--shard', '2', '--size', '32', '--jobs', '2'])
    with np.load(tmp_path / 'sky-2.npz', allow_pickle=False) as shard:
        np.testing.assert_array_equal(shard['images'][1], render(3, KINDS[3], size=32).image)


@pytest.mark.parametrize('wrong', [['--count', '0'], ['--seed', '-1'], ['--size', '8'],
                                   ['--jobs', '0']])
def test_command_rejects(wrong, tmp_path, capsys):
    with pytest.raises(SystemExit, match='2'):
        main(['--out', str(tmp_path), *wrong])
    assert 'must' in capsys.readouterr().err


def test_contact_sheet(tmp_path):
    sheet = contact_sheet(('spiral', 'planet'), per_kind=3, size=32)
    assert sheet.size == (112 + 3 * 32, 2 * 32)
    assert np.asarray(sheet).std() > 0
