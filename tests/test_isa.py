"""One result at every instruction set, and no code of a newer one where an older one could run it."""

import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from hashfold.errors import NativeExtensionError
from hashfold.hashing import FAMILIES, make_family
from hashfold.kernels import native
from hashfold.sparse import CsrBatch

OBJECTS = sorted((Path(__file__).parent.parent / "build").glob("**/kernels_*.dir/**/*.o"))


def test_levels_can_be_forced_and_are_restored():
    before = native.isa()
    assert native.isa_levels()[0] == "baseline"
    for level in native.isa_levels():
        with native.isa_forced(level):
            assert native.isa() == level
    assert native.isa() == before
    with pytest.raises(NativeExtensionError, match="must be one of baseline"):
        native.force_isa("sse9")


@pytest.mark.parametrize("hashes", [(3, 5), (16, 9), (7, 7)])
@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_same_seed_same_codes_at_every_level(name, hashes):
    x = np.abs(np.random.default_rng(0).standard_normal((131, 100), dtype=np.float32))
    x[:, ::2] *= np.random.default_rng(1).random((131, 50)) < 0.2
    found = []
    for level in native.isa_levels():
        family = make_family(name, 100, *hashes, seed=11)  # a new one: what it draws is compared too
        with native.isa_forced(level):
            found += [family.buckets(rows) for rows in (x, CsrBatch.from_scipy(x))]
    for other in found[1:]:
        assert np.array_equal(found[0], other)


def test_products_are_rounded_before_they_are_summed():
    """a * b - b * a is zero, so the code is 0; a fused multiply-add would leave a rounding error."""
    family = make_family("simhash", 2, 10, 10, seed=1)
    x = np.stack([family.projection[1], -family.projection[0]], axis=1)
    for level in native.isa_levels():
        with native.isa_forced(level):
            for rows in (x, CsrBatch.from_scipy(x)):
                assert not family.codes(rows).diagonal().any(), level


@pytest.mark.skipif(not OBJECTS, reason="no kernel objects in build/")
@pytest.mark.skipif(not shutil.which("nm"), reason="nm is not installed")
def test_kernel_objects_share_no_function_between_levels():
    """The linker keeps one copy of a weak function; it could be one that this machine cannot run."""
    for path in OBJECTS:
        level = re.search(r"kernels_(\w+)\.dir", str(path)).group(1)
        lines = subprocess.run(
            ["nm", "--demangle", "--defined-only", str(path)], capture_output=True, text=True, check=True
        ).stdout.splitlines()
        symbols = [line.split(maxsplit=2)[1:] for line in lines]
        weak = [name for kind, name in symbols if kind in "WVu" and f"hashfold::{level}::" not in name]
        assert not weak, f"{path.name} at {level} exports {weak}"
        assert any(kind == "T" for kind, _ in symbols)
