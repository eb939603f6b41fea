"""Random words as a function of key and counter: Philox-4x32 with 10 rounds, the same bits on every
device.

Source: Salmon et al. 2011, Parallel random numbers: as easy as 1, 2, 3, doi
10.1145/2063384.2063405.
"""

LOW = 0xFFFFFFFF


def words(seed, c0, c1, c2, c3):
    """Four words, each 0..2**32-1, of a counter of four such words; the key is ``seed``, 64 bits.

    For int64 tensors, and for int64 scalars in numba. The multipliers are the published ones minus
    2**32, so that no product leaves 64 signed bits: its high word lacks just the other factor.
    """
    k0, k1 = seed & LOW, (seed >> 32) & LOW
    for _ in range(10):
        # both products of a round before any word is replaced, as published
        a, b = -0x2DAEE0AD * c0, -0x326172A9 * c2  # 0xD2511F53 and 0xCD9E8D57
        high_a, high_b = (a >> 32) + c0, (b >> 32) + c2
        c0, c1, c2, c3 = high_b ^ c1 ^ k0, b & LOW, high_a ^ c3 ^ k1, a & LOW
        k0, k1 = (k0 + 0x9E3779B9) & LOW, (k1 + 0xBB67AE85) & LOW
    return c0, c1, c2, c3
