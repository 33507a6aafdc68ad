from __future__ import annotations

import pytest

from hashfold.kernels import native


@pytest.fixture(params=[1, 2])
def threads(request):
    """The body runs with one thread and with two."""
    before = native.num_threads()
    native.set_num_threads(request.param)
    yield request.param
    native.set_num_threads(before)


@pytest.fixture
def one_thread():
    before = native.num_threads()
    native.set_num_threads(1)
    yield
    native.set_num_threads(before)


@pytest.fixture(params=native.isa_levels())
def isa(request):
    """The body runs at every instruction set of this machine."""
    with native.isa_forced(request.param):
        yield request.param
