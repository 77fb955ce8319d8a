# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
What importing the package costs, and what is in the wheel.
"""

import json
import subprocess
import sys
import tomllib
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent

HEAVY = ('torch', 'matplotlib', 'astroquery', 'pyvo', 'onnxruntime', 'tokenizers',
         'huggingface_hub', 'requests', 'PIL')


def run_python(code):
    return subprocess.run([sys.executable, '-W', 'error', '-c', code], check=True, text=True,
                          capture_output=True, timeout=120)


@pytest.fixture(scope='module')
def project():
    return tomllib.loads((ROOT / 'pyproject.toml').read_text(encoding='utf-8'))['project']


@pytest.fixture(scope='module')
def files():
    """Paths in the installed wheel."""
    try:
        installed = distribution('astroclip-search')
    except PackageNotFoundError:
        pytest.skip('astroclip-search is not installed here, as it is by tox')
    # An editable installation, or what a build left in the checkout.
    if not installed.locate_file('astroclip_search').is_dir() or installed.locate_file('') == ROOT:
        pytest.skip('astroclip-search is not installed from a wheel')
    return [file.as_posix() for file in installed.files]


@pytest.fixture(scope='module')
def imported():
    """What a process says that imports the package, and then makes an instance."""
    done = run_python("""
import json, logging, sys
import astroclip_search
handlers, after_import = logging.getLogger('astroclip_search').handlers, list(sys.modules)
repr(astroclip_search.ClipSearch(device='cpu'))
print(json.dumps({'handlers': len(handlers), 'import': after_import,
                  'instance': list(sys.modules)}))
""")
    assert done.stderr == ''
    return json.loads(done.stdout)  # and nothing else was printed


def test_import_is_light(imported):
    assert 'astroclip_search' in imported['import']
    assert not set(HEAVY) & set(imported['import'])


def test_import_adds_no_log_handler(imported):
    assert imported['handlers'] == 0


def test_making_an_instance_loads_nothing(imported):
    assert not {'onnxruntime', 'astroquery'} & set(imported['instance'])


def test_public_names_are_documented():
    import astroclip_search

    for name in astroclip_search.__all__:
        assert getattr(astroclip_search, name).__doc__


def test_runtime_never_imports_torch_or_export():
    for path in (ROOT / 'astroclip_search').rglob('*.py'):
        for line in path.read_text(encoding='utf-8').splitlines():
            words = line.split()
            if words[:1] in (['import'], ['from']):
                assert words[1].split('.')[0] not in ('torch', 'open_clip', 'export'), path


def test_exactly_one_onnxruntime(project):
    packaging = pytest.importorskip('packaging.requirements')
    runtimes = [requirement for requirement in map(packaging.Requirement, project['dependencies'])
                if requirement.name.startswith('onnxruntime')]
    for platform, machine, name in (('linux', 'x86_64', 'onnxruntime-gpu'),
                                    ('win32', 'AMD64', 'onnxruntime-gpu'),
                                    ('linux', 'aarch64', 'onnxruntime'),
                                    ('darwin', 'arm64', 'onnxruntime'),
                                    ('darwin', 'x86_64', 'onnxruntime'),
                                    ('win32', 'ARM64', 'onnxruntime')):
        environment = {'sys_platform': platform, 'platform_machine': machine}
        chosen = [runtime.name for runtime in runtimes if runtime.marker.evaluate(environment)]
        assert chosen == [name], environment


def conda(requirement):
    """A requirement as conda-forge has it."""
    packaging = pytest.importorskip('packaging.requirements')
    requirement = packaging.Requirement(requirement)
    # One package with builds for both devices; and astropy without its optional dependencies.
    name = {'onnxruntime-gpu': 'onnxruntime', 'astropy': 'astropy-base'}.get(
        requirement.name, requirement.name)
    bounds = ','.join(sorted(map(str, requirement.specifier), reverse=True))
    return f'{name} {bounds}'


def test_conda_recipe_asks_for_the_same(project):
    recipe = yaml.safe_load((ROOT / '.ci' / 'conda' / 'recipe.yaml').read_text('utf-8'))
    python, *run = recipe['requirements']['run']
    assert set(run) == set(map(conda, project['dependencies']))
    assert python == 'python >=${{ python_min }}'
    assert project['requires-python'] == f'>={recipe["context"]["python_min"]}'
    build = tomllib.loads((ROOT / 'pyproject.toml').read_text('utf-8'))['build-system']['requires']
    assert set(recipe['requirements']['host'][2:]) == set(map(conda, build))
    entry, = recipe['build']['python']['entry_points']
    assert dict([entry.split(' = ')]) == project['scripts']
    assert recipe['about']['license'] == project['license']


def test_extra_all_has_what_users_may_need(project):
    packaging = pytest.importorskip('packaging.requirements')
    extras = project['optional-dependencies']
    mine, = (packaging.Requirement(requirement) for requirement in extras['all'])
    # CUDA is for machines that have it; the rest is for people who develop.
    assert mine.extras == set(extras) - {'all', 'cuda', 'dev', 'docs', 'export', 'test'}


def test_citation_says_the_same_everywhere():
    citation = yaml.safe_load((ROOT / 'CITATION.cff').read_text('utf-8'))
    zenodo = json.loads((ROOT / '.zenodo.json').read_text('utf-8'))
    for name in ('title', 'license', 'keywords'):
        assert zenodo[name] == citation[name]
    assert [author['name'] for author in zenodo['creators']] == [
        author['name'] for author in citation['authors']]


def test_wheel_has_model_and_sample(files):
    assert 'astroclip_search/model/README.md' in files
    assert 'astroclip_search/model/tokenizer.json' in files
    assert any(file.startswith('astroclip_search/model/onnx/') for file in files)
    assert 'astroclip_search/data/sample/archive.ecsv' in files
    assert any(file.endswith('.jpg') for file in files)


def test_wheel_has_nothing_else(files):
    top = {file.split('/')[0] for file in files}
    assert not top & {'export', 'tests', 'docs', 'benchmarks'}
    assert 'astroclip_search' in top


def test_wheel_is_complete(files):
    """Everything in the checkout's package is in the wheel, and nothing that is not."""
    package = ROOT / 'astroclip_search'
    sources = {path.relative_to(ROOT).as_posix() for path in package.rglob('*')
               if path.is_file() and '__pycache__' not in path.parts}
    wheel = {file for file in files if file.startswith('astroclip_search/')
             and '__pycache__' not in file}
    assert wheel == sources | {'astroclip_search/_version.py'}


def test_command_is_installed(files):
    result = run_python('from importlib.metadata import entry_points;'
                        'print(*entry_points(group="console_scripts", name="astroclip-search"))')
    assert 'astroclip_search.__main__:main' in result.stdout
