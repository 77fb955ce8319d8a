"""Images written as FITS files show the same when the product draws them."""

import io
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

pytest.importorskip('torch', reason='export/ needs torch: install the extra [export]')

from astroclip_search.images.render import render
from export.data.pairs import Pair
from export.evaluation import rendered
from export.evaluation.collection import Cache
from export.evaluation.pooled import THIS, ask
from export.evaluation.rendered import SKY, chosen, fits_table, grey, written
from export.evaluation.tasks import Task

ROWS, COLUMNS = np.mgrid[:60, :80]
#: A coloured disk in the upper left.
PICTURE = (np.exp(-((ROWS - 15) ** 2 + (COLUMNS - 20) ** 2) / 100)[..., None]
           * [250, 120, 60]).astype(np.uint8)


def test_it_is_float32_with_a_sky_and_noise():
    content = written(PICTURE, 3)
    with fits.open(io.BytesIO(content)) as hdus:
        data = hdus[0].data
    assert data.dtype == '>f4'
    assert data.shape == (60, 80)
    assert np.median(data) == pytest.approx(SKY, abs=3)
    assert data[:20, 50:].std() == pytest.approx(rendered.NOISE, rel=.2)
    assert content == written(PICTURE, 3) != written(PICTURE, 4)


def test_the_product_draws_it_the_right_way_up():
    drawn = np.asarray(render(written(PICTURE, 0), side=512).convert('L'), float)
    assert np.corrcoef(drawn.ravel(), grey(PICTURE).ravel())[0, 1] > .8
    assert np.corrcoef(drawn[::-1].ravel(), grey(PICTURE).ravel())[0, 1] < .2


def test_every_class_keeps_some_images_and_some_others():
    positive = np.zeros((100, 3), bool)
    positive[[1, 2, 3], 0] = True
    positive[40:80, 1] = True
    positive[:97, 2] = True
    rows = chosen(positive)
    assert positive[rows].sum(0).tolist()[:2] == [3, 17]  # the first ten, of the rest each fourth
    assert (~positive[rows, 2]).sum() == 3
    assert len(rows) < 50


def test_the_table_has_one_row_for_each_drawing(monkeypatch):
    class Model:
        """Embeds by the brightness of the upper half."""

        class bundle:  # noqa: N801
            class preprocessing:  # noqa: N801
                size, shortest_edge = (32, 32), None

        def images(self, images):
            values = [[image[:30].mean() - image[30:].mean(), 1] for image in images]
            return np.array(values) / np.linalg.norm(values, axis=1, keepdims=True)

        def texts(self, texts):
            return np.array([[1.0, 0]] * len(texts))

    monkeypatch.setattr(rendered, 'load_pixels', lambda file: (
        PICTURE if int(file.stem) % 2 else PICTURE[::-1]))
    pairs = [Pair(Path(f'{i}.png'), 'a') for i in range(20)]
    positive = np.arange(20)[:, None] % 2 == 1
    task = Task('', 'all', np.arange(20), [()], ['bright'], positive, np.zeros(20, int), [[]])
    one, cache = ask(task, pairs, {}, {THIS: positive * 1.0}), Cache()
    table = fits_table(Model(), pairs, one, cache, 'key')
    assert [row[0] for row in table['rows']] == ['colour, as it is', 'grey', 'FITS']
    assert [row[2] for row in table['rows']] == [1, 1, 1]
    assert [row[-1] for row in table['rows']] == ['', *['+0.000 (+0.000 to +0.000)'] * 2]
    monkeypatch.setattr(rendered, 'ONE_OF', 1)  # other images: not what was kept of those before
    monkeypatch.setattr(rendered, 'OF_A_CLASS', 3)
    assert fits_table(Model(), pairs, one, cache, 'key')['text'].startswith('20 images')
    monkeypatch.setattr(rendered, 'ONE_OF', 100)
    again = fits_table(Model(), pairs, one, cache, 'key')
    assert again['text'].startswith('6 images')
    assert [row[2] for row in again['rows']] == [1, 1, 1]
