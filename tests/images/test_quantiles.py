# Licensed under a 3-clause BSD style license - see LICENSE.rst
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from astroclip_search.images.quantiles import median, medians, percentiles

numbers = st.floats(-1e6, 1e6, width=32)


@given(arrays.arrays(np.float64, st.integers(1, 40), elements=numbers),
       st.lists(st.sampled_from([0, 1, 16, 50, 75, 99, 99.85, 100]), min_size=1).map(sorted))
def test_percentiles(values, percents):
    before = values.copy()
    assert percentiles(values, percents) == pytest.approx(np.percentile(values, percents))
    assert median(values) == pytest.approx(np.median(values))
    assert (values == before).all()


@given(arrays.arrays(np.float64, st.tuples(st.integers(1, 6), st.integers(1, 12)),
                     elements=numbers))
def test_medians(values):
    assert medians(values) == pytest.approx(np.median(values, axis=1))


def test_no_values():
    assert np.isnan(median(np.array([])))
