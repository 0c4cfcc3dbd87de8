"""Keyed noise: the published generator, and the independence that its keys promise."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from langevin import randomness
from langevin.randomness import Keys, Noise, philox

WORD = 2**32 - 1
KNOWN_ANSWERS = [  # Random123, kat_vectors: philox4x32 10: counter, key, result
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((WORD,) * 4, (WORD,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]


def reference(counter: tuple[int, ...], key: tuple[int, ...]) -> tuple[int, ...]:
    """Philox4x32-10 in Python's integers. Salmon et al. 2011, section 3.3."""
    (c0, c1, c2, c3), (k0, k1) = counter, key
    for _ in range(10):
        high0, low0 = divmod(0xD2511F53 * c0, 2**32)
        high1, low1 = divmod(0xCD9E8D57 * c2, 2**32)
        c0, c1, c2, c3 = high1 ^ c1 ^ k0, low1, high0 ^ c3 ^ k1, low0
        k0, k1 = (k0 + 0x9E3779B9) & WORD, (k1 + 0xBB67AE85) & WORD
    return c0, c1, c2, c3


@pytest.mark.parametrize(("counter", "key", "result"), KNOWN_ANSWERS)
def test_the_reference_gives_the_published_answers(
    counter: tuple[int, ...], key: tuple[int, ...], result: tuple[int, ...]
) -> None:
    assert reference(counter, key) == result


def test_philox_gives_the_published_answer() -> None:
    assert tuple(philox(0, torch.zeros(1, dtype=torch.int64), 1)[0].tolist()) == KNOWN_ANSWERS[0][2]


@settings(max_examples=60, deadline=None)
@given(
    key=st.integers(0, 2**64 - 1),
    ordinals=st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=3),
    blocks=st.integers(1, 4),
)
def test_philox_is_the_reference(key: int, ordinals: list[int], blocks: int) -> None:
    """The counter is (block, 0, ordinal's low word, its high word), the key's low word comes first."""
    found = philox(key, torch.tensor(ordinals, dtype=torch.int64), blocks)
    for row, ordinal in zip(found.tolist(), ordinals, strict=True):
        words = (ordinal & WORD, (ordinal >> 32) & WORD)
        expected = [reference((block, 0, *words), (key & WORD, key >> 32)) for block in range(blocks)]
        assert row == [word for four in expected for word in four]


def of(seed: int, ordinals: list[int] | range) -> Noise:
    return Noise(Keys(seed, torch.tensor(list(ordinals), dtype=torch.int64)))


def normal(noise: Noise, stream: str, like: Tensor) -> Tensor:
    return noise.normal(stream, like)


def uniform(noise: Noise, stream: str, like: Tensor) -> Tensor:
    return noise.uniform(stream, like)


BOTH = pytest.mark.parametrize("draw", [normal, uniform])
Draw = Callable[[Noise, str, Tensor], Tensor]


@BOTH
@pytest.mark.parametrize("shape", [(), (3,), (2, 3, 5)])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_a_samples_noise_does_not_depend_on_its_batch(draw: Draw, shape: tuple[int, ...], dtype: torch.dtype) -> None:
    ordinals = [7, 0, 2**40 + 3, 12, 5]
    whole = draw(of(1, ordinals), "forward", torch.zeros(5, *shape, dtype=dtype))
    assert (whole.shape, whole.dtype) == ((5, *shape), dtype)
    for batch in ([0], [4, 2], [3, 1, 0], [1, 2, 3, 4, 0]):
        part = draw(of(1, [ordinals[i] for i in batch]), "forward", torch.zeros(len(batch), *shape, dtype=dtype))
        assert torch.equal(part, whole[batch])


@BOTH
def test_noise_is_a_pure_function(draw: Draw) -> None:
    like = torch.zeros(3, 4)
    before = torch.get_rng_state()
    first = draw(of(1, range(3)), "forward", like)
    torch.manual_seed(123)
    assert torch.equal(first, draw(of(1, range(3)), "forward", like))
    torch.set_rng_state(before)


@BOTH
def test_seeds_streams_scopes_and_samples_are_independent(draw: Draw) -> None:
    """No correlation, nor of the squares, between any two uses of one number of samples."""
    like = torch.zeros(4000, dtype=torch.float64)
    base = of(0, range(4000))
    uses = {
        "base": draw(base, "forward", like),
        "seed": draw(of(1, range(4000)), "forward", like),
        "negative seed": draw(of(-1, range(4000)), "forward", like),
        "stream": draw(base, "timestep", like),
        "scope": draw(base.within("step/1"), "forward", like),
        "next scope": draw(base.within("step/2"), "forward", like),
        "nested": draw(base.within("step/1").within("step/2"), "forward", like),
        "nested otherwise": draw(base.within("step/2").within("step/1"), "forward", like),
        "next samples": draw(of(0, range(4000, 8000)), "forward", like),
        "far samples": draw(of(0, range(2**32, 2**32 + 4000)), "forward", like),
        "neighbours": draw(of(0, range(1, 4001)), "forward", like),
    }
    table = torch.stack(list(uses.values()))
    for values in (table, (table - table.mean()) ** 2):
        correlation = torch.corrcoef(values)
        off = correlation - torch.diag(torch.diag(correlation))
        assert float(off.abs().max()) < 4.5 / 4000**0.5


@BOTH
def test_elements_of_a_sample_are_independent(draw: Draw) -> None:
    numbers = draw(of(0, range(6000)), "forward", torch.zeros(6000, 9, dtype=torch.float64))
    for values in (numbers, (numbers - numbers.mean()) ** 2):
        correlation = torch.corrcoef(values.T)
        off = correlation - torch.diag(torch.diag(correlation))
        assert float(off.abs().max()) < 4.5 / 6000**0.5


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_numbers_are_their_words_to_the_last_digit(dtype: torch.dtype) -> None:
    """Box & Muller 1958 for pairs of words; 27 and 26 bits of two words, or 24 of one, for the uniform ones."""
    key = int.from_bytes(hashlib.blake2b(b"5/step/1/forward", digest_size=8).digest(), "little")
    words = [word for block in range(3) for word in reference((block, 0, 9, 0), (key & WORD, key >> 32))]
    noise, like = of(5, [9]).within("step/1"), torch.zeros(1, 6, dtype=dtype)
    pairs = zip(words[0:6:2], words[1:6:2], strict=True)
    radii = [(math.sqrt(-2 * math.log((a + 1) / 2**32)), 2 * math.pi * b / 2**32) for a, b in pairs]
    expected = [radius * turn(angle) for radius, angle in radii for turn in (math.cos, math.sin)]
    rounding = 1e-12 if dtype == torch.float64 else 1e-6
    torch.testing.assert_close(
        normal(noise, "forward", like), torch.tensor([expected], dtype=dtype), rtol=rounding, atol=rounding
    )
    if dtype == torch.float64:
        pairs = zip(words[0:12:2], words[1:12:2], strict=True)
        uniforms = [((a >> 5) * 2**26 + (b >> 6)) / 2**53 for a, b in pairs]
    else:
        uniforms = [(word >> 8) / 2**24 for word in words[:6]]
    assert uniform(noise, "forward", like).tolist() == [uniforms]


@pytest.mark.parametrize("word", [0, WORD])
def test_the_generators_ends_are_finite(monkeypatch: pytest.MonkeyPatch, word: int) -> None:
    """The words 0 and 2^32 - 1, which chance brings once in four thousand million numbers."""
    monkeypatch.setattr(
        randomness, "philox", lambda key, ordinals, blocks: torch.full((len(ordinals), 4 * blocks), word)
    )
    for dtype in (torch.float64, torch.float32):
        like = torch.zeros(2, 4, dtype=dtype)
        assert float(normal(of(0, range(2)), "forward", like).abs().max()) < 6.7
        u = uniform(of(0, range(2)), "forward", like)
        assert 0 <= float(u.min()) <= float(u.max()) < 1


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_normal_numbers_are_normal(dtype: torch.dtype) -> None:
    count = 200_000
    z = normal(of(0, range(count // 100)), "forward", torch.zeros(count // 100, 100, dtype=dtype)).double().flatten()
    error = 1 / math.sqrt(count)
    moments = [float((z**power).mean()) for power in (1, 2, 3, 4, 6)]
    spread = [math.sqrt(variance) for variance in (1, 2, 15, 96, 10170)]  # of z^p: E z^2p - (E z^p)^2
    for moment, expected, deviation in zip(moments, [0, 1, 0, 3, 15], spread, strict=True):
        assert abs(moment - expected) < 4 * deviation * error
    ordered = torch.special.ndtr(z).sort().values
    steps = torch.arange(1, count + 1) / count
    assert float((ordered - steps).abs().max()) < 1.63 * error + 1 / count  # Kolmogorov-Smirnov at 1 %
    assert bool(torch.isfinite(z).all())
    assert 4 < float(z.abs().max()) < 6.7


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_uniform_numbers_are_uniform(dtype: torch.dtype) -> None:
    u = uniform(of(0, range(2000)), "timestep", torch.zeros(2000, 50, dtype=dtype)).double().flatten()
    assert 0 <= float(u.min()) < 1e-4
    assert 1 - 1e-4 < float(u.max()) < 1
    ordered, steps = u.sort().values, torch.arange(1, 100_001) / 100_000
    assert float((ordered - steps).abs().max()) < 1.63 / math.sqrt(100_000) + 1e-5


def test_float64_numbers_use_all_their_bits() -> None:
    u = uniform(of(0, range(500)), "timestep", torch.zeros(500, 4, dtype=torch.float64))
    assert torch.equal((u * 2**53).round(), u * 2**53)
    last_bits = (u * 2**53).long() % 2**20
    assert len(last_bits.unique()) > 1990  # of 2000 draws from a million
    single = uniform(of(0, range(500)), "timestep", torch.zeros(500, 4))
    assert torch.equal((single * 2**24).round(), single * 2**24)


def test_float32_noise_is_float64_noise_rounded() -> None:
    """The precision of the images does not choose other noise."""
    like = torch.zeros(50, 7)
    double = normal(of(0, range(50)), "forward", like.double())
    assert torch.equal(normal(of(0, range(50)), "forward", like), double.float())


def test_keys_name_the_samples_of_one_batch() -> None:
    keys = Keys.range(3, 5, 9)
    assert (keys.seed, keys.ordinals.tolist(), len(keys)) == (3, [5, 6, 7, 8], 4)
    assert keys.to("cpu").ordinals.tolist() == [5, 6, 7, 8]
    with pytest.raises(ValueError, match="4 keys cannot name the samples of a batch of 3"):
        Noise(keys).normal("forward", torch.zeros(3, 2))


@pytest.mark.gpu
def test_a_gpu_has_the_same_noise() -> None:
    keys = Keys.range(3, 0, 4096)
    like = torch.zeros(4096, 33)
    words = philox(2**63 + 5, keys.ordinals, 3)
    assert torch.equal(philox(2**63 + 5, keys.ordinals.to("cuda"), 3).cpu(), words)
    there = Noise(keys.to("cuda"))
    assert torch.equal(there.uniform("forward", like.to("cuda")).cpu(), Noise(keys).uniform("forward", like))
    found, expected = there.normal("forward", like.to("cuda")).cpu(), Noise(keys).normal("forward", like)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)
