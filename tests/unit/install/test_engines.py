"""What an engine takes, and what policies are told of its model."""

from __future__ import annotations

import pytest

from bundler.install.engines import quantization_bits


@pytest.mark.parametrize(("name", "bits"), [
    ("F16", 16), ("BF16", 16), ("F32", 32), ("Q8_0", 8), ("Q4_K_M", 4), ("IQ2_XS", 2), ("IQ1_S", 1), ("TQ2_0", 2),
    ("x", 1),
])  # fmt: skip
def test_bits_of_a_weight(name: str, bits: int) -> None:
    assert quantization_bits(name) == bits
