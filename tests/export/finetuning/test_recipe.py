"""Configurations: what each is about, and what cannot be run."""

import pytest

pytest.importorskip('torch', reason='export/ needs torch: install the extra [export]')

from export.__main__ import main as run_step
from export.finetuning.recipe import check, read_recipe
from tests.export.finetuning.squares import small


def test_configurations_differ_from_the_paper_in_what_they_are_about():
    main = read_recipe('paperclip_summaries')
    assert main['train']['learning_rate'] == 1e-5
    assert (main['train']['batch_size'], main['train']['steps'], main['train']['warmup']) == (
        32, 20_000, 2000)
    about = {'paperclip_abstracts': {'captions'}, 'paperclip_head': {'method'},
             'paperclip_scratch': {'random'}, 'paperclip_shuffled': {'shuffled', 'keep'},
             'paperclip_l14': {'base', 'micro_batch', 'checkpointing'},
             'paperclip_lr1e-6': {'learning_rate'}, 'paperclip_cosine': {'schedule'}}
    for name, wanted in about.items():
        recipe = read_recipe(name)
        assert wanted == {key for section in recipe for key, value in recipe[section].items()
                          if value != main[section][key]}, name
    ratio = (read_recipe('paperclip_lr1e-6', tiny=True)['train']['learning_rate']
             / read_recipe('paperclip_summaries', tiny=True)['train']['learning_rate'])
    assert ratio == pytest.approx(0.1)


@pytest.mark.parametrize(('section', 'change', 'message'), [
    ('model', {'method': 'prompt'}, 'choose from full, lora, head'),
    ('model', {'architecture': {}}, 'no model to begin with'),
    ('model', {'random': True, 'method': 'lora'}, 'choose full'),
    ('train', {'schedule': 'cosine', 'warmup': 4}, 'leaves no cosine'),
    ('train', {'batch_size': 7}, 'cannot be divided'),
    ('train', {'micro_batch': 3}, 'cannot be divided'),
    ('train', {'precision': 'fp16'}, 'choose from fp32, bf16'),
])
def test_what_cannot_be_run_is_refused(section, change, message):
    recipe = small()
    recipe[section].update(change)
    with pytest.raises(ValueError, match=message):
        check(recipe, processes=2)


@pytest.mark.parametrize('model', [{'random': True}, {'method': 'head'}])
def test_nothing_lies_between_these(model):
    with pytest.raises(ValueError, match='nothing between'):
        check(small(model=model, wise=0.5))


def test_mistakes_in_configurations_are_said(tmp_path, data, capsys):
    with pytest.raises(ValueError, match='paperclip_summaries'):
        read_recipe('paperclip')
    for text, message in (('[train]\nlearning_rat = 1', 'nothing reads learning_rat'),
                          ('[optimizer]\nname = 1', r'in \[optimizer\]'), ('train = ', r'x\.toml')):
        file = tmp_path / 'x.toml'
        file.write_text(text)
        with pytest.raises(ValueError, match=message):
            read_recipe(file)
    with pytest.raises(SystemExit):
        run_step(['finetune', '--config', 'galaxyclip', '--data', str(tmp_path), '--out',
                  str(tmp_path / 'out'), '--tiny'])
    assert 'no shards with pairs' in capsys.readouterr().err
