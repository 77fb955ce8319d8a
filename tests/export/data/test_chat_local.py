"""Language models in this process: what one says, what is not loaded, and where it is from."""

import json

import pytest

from export.__main__ import main as export
from export.data import chat, summary
from export.data.chat import hash_files
from export.data.summary import prompt_sha256
from tests.export.data.summarising import failures, summaries, write_proposals
from tests.loopback.chat import good_summary


@pytest.fixture(scope='module')
def tiny(tmp_path_factory):
    """A tiny random model with the tokenizer that its prompt was made for."""
    pytest.importorskip('torch', reason='export/ needs torch: install the extra [export]')
    transformers = pytest.importorskip('transformers', reason='local models need transformers')
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    proposal = {'proposal_id': 1, 'abstract': 'All about comets.'}
    reply = json.dumps(good_summary('comets'))
    prompt = summary.conversation(proposal)[0]['content']
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator([prompt, reply] * 3, trainers.BpeTrainer(
        vocab_size=900, special_tokens=['<end>', '<user>', '<model>'],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False))
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token='<end>',
        chat_template='{% for m in messages %}<{{ "user" if m.role == "user" else "model" }}>'
                      '{{ m.content }}{% if m.role != "user" %}<end>{% endif %}{% endfor %}'
                      '{% if add_generation_prompt %}<model>{% endif %}')
    torch.manual_seed(0)
    model = transformers.LlamaForCausalLM(transformers.LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=1,
        num_attention_heads=2, max_position_embeddings=4096, eos_token_id=0, bos_token_id=None))
    folder = tmp_path_factory.mktemp('models') / 'tiny-random'
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return {'folder': folder, 'model': model, 'tokenizer': tokenizer, 'reply': reply,
            'proposal': proposal}


@pytest.fixture(scope='module')
def taught(tiny):
    """The same model, overfitted to give one good reply."""
    import torch

    model, tokenizer = tiny['model'], tiny['tokenizer']
    prompt = tokenizer.apply_chat_template(
        summary.conversation(tiny['proposal']), add_generation_prompt=True,
        return_dict=True)['input_ids']
    answer = tokenizer(tiny['reply'] + '<end>')['input_ids']
    tokens = torch.tensor([prompt + answer])
    labels = tokens.clone()
    labels[:, :len(prompt)] = -100
    optimiser = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(1000):  # how many it takes depends on the sums of the processor
        loss = model(input_ids=tokens, labels=labels).loss
        if loss.item() < 0.01:
            break
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert loss.item() < 0.01
    folder = tiny['folder'].parent / 'tiny-taught'
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def local(folder, proposals, out, *arguments):
    return export(['summarise', str(proposals), '--out', str(out), '--local', str(folder),
                   '--device', 'cpu', '--max-tokens', '80', *arguments])


def test_a_random_model_says_nothing_acceptable(tiny, tmp_path):
    proposals = write_proposals(tmp_path, ['comets', 'moons'])
    assert local(tiny['folder'], proposals, tmp_path / 'out', '--attempts', '3') == 0
    assert summaries(tmp_path / 'out') == []
    rows = failures(tmp_path / 'out')
    assert [row['proposal_id'] for row in rows] == [10000, 10001]
    for row in rows:
        assert (row['cause'], row['attempts'], len(row['reasons'])) == ('reply', 3, 3)
        assert (row['model'], row['model_sha256']) == ('tiny-random', hash_files(tiny['folder']))


def test_a_taught_model_says_what_it_was_taught(tiny, taught, tmp_path, capsys):
    proposals = tmp_path / 'proposals.jsonl'
    proposals.write_text(json.dumps(tiny['proposal']) + '\n', encoding='utf-8')
    for _ in range(2):
        assert local(taught, proposals, tmp_path / 'out') == 0
    assert capsys.readouterr().out.count('0 summarised, 1 before') == 1
    row, = summaries(tmp_path / 'out')
    assert row == {'proposal_id': 1, **good_summary('comets'), 'model': 'tiny-taught',
                   'model_sha256': hash_files(taught), 'prompt_sha256': prompt_sha256(),
                   'attempts': 1}
    assert hash_files(taught) != hash_files(tiny['folder'])


def test_a_reply_at_the_limit_of_tokens_is_cut_off(tiny, taught):
    model = chat.LocalModel(taught, device='cpu', max_tokens=5)
    reply = model.ask(summary.conversation(tiny['proposal']), temperature=0.0)
    assert not reply.complete
    assert tiny['reply'].startswith(reply.text)
    assert 0 < len(reply.text) < len(tiny['reply'])


def test_chance_comes_from_a_seed(tiny):
    model = chat.LocalModel(tiny['folder'], device='cpu', max_tokens=20)
    messages = summary.conversation(tiny['proposal'])
    sampled = {model.ask(messages, temperature=0.7).text for _ in range(2)}
    assert len(sampled) == 1
    assert model.ask(messages, temperature=0.0).text not in sampled


def test_a_model_without_a_chat_template_is_asked_too(tiny, tmp_path):
    folder = tmp_path / 'base'
    tiny['model'].save_pretrained(folder)
    tokenizer = type(tiny['tokenizer']).from_pretrained(tiny['folder'])
    tokenizer.chat_template = None
    tokenizer.save_pretrained(folder)
    assert not (folder / 'chat_template.jinja').exists()
    reply = chat.LocalModel(folder, device='cpu', max_tokens=4).ask(
        summary.conversation(tiny['proposal']), temperature=0.0)
    assert isinstance(reply.text, str)


def test_an_abstract_that_a_model_cannot_read_is_recorded(tiny, tmp_path):
    proposals = write_proposals(tmp_path, ['comets'], abstract='comets and moons ' * 3000)
    assert local(tiny['folder'], proposals, tmp_path / 'out') == 1
    row, = failures(tmp_path / 'out')
    assert row['cause'] == 'server'
    assert 'do not fit into 4096' in row['reasons'][0]


def copy(tiny, folder, without=()):
    folder.mkdir()
    for path in tiny['folder'].iterdir():
        if path.name not in without:
            (folder / path.name).write_bytes(path.read_bytes())
    return folder


def test_weights_in_pickle_are_not_loaded(tiny, tmp_path, capsys):
    import torch

    folder = copy(tiny, tmp_path / 'pickled', without=['model.safetensors'])
    torch.save(tiny['model'].state_dict(), folder / 'pytorch_model.bin')
    assert local(folder, write_proposals(tmp_path, ['comets']), tmp_path / 'out') == 1
    assert 'no weights in safetensors' in capsys.readouterr().err


def test_code_of_a_model_does_not_run(tiny, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv('HF_MODULES_CACHE', str(tmp_path / 'modules'))
    folder = copy(tiny, tmp_path / 'foreign')
    config = json.loads((folder / 'config.json').read_text(encoding='utf-8'))
    config.update(model_type='foreign', auto_map={'AutoConfig': 'foreign.Config',
                                                  'AutoModelForCausalLM': 'foreign.Model'})
    (folder / 'config.json').write_text(json.dumps(config), encoding='utf-8')
    (folder / 'foreign.py').write_text(
        f'open({str(tmp_path / "ran")!r}, "w").close()\n', encoding='utf-8')
    assert local(folder, write_proposals(tmp_path, ['comets']), tmp_path / 'out') == 1
    assert capsys.readouterr().err.startswith('python -m export summarise: ')
    assert not (tmp_path / 'ran').exists()


def test_a_model_of_the_hub_that_was_downloaded_before(tiny, tmp_path, monkeypatch, capsys):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, 'HF_HUB_OFFLINE', True)
    monkeypatch.setattr(constants, 'HF_HUB_CACHE', str(tmp_path / 'hub'))
    proposals = write_proposals(tmp_path, ['comets'])
    assert local('someone/tiny', proposals, tmp_path / 'out', '--attempts', '1') == 1
    assert not (tmp_path / 'out').exists()
    commit = 'ab' * 20
    stored = tmp_path / 'hub' / 'models--someone--tiny'
    (stored / 'snapshots').mkdir(parents=True)
    copy(tiny, stored / 'snapshots' / commit)
    (stored / 'refs').mkdir()
    (stored / 'refs' / 'main').write_text(commit, encoding='utf-8')
    assert local('someone/tiny', proposals, tmp_path / 'out', '--attempts', '1',
                 '--revision', commit) == 0
    row, = failures(tmp_path / 'out')
    assert (row['model'], row['model_sha256']) == ('someone/tiny', hash_files(tiny['folder']))
