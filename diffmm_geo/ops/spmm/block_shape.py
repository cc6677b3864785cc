VECTOR_BYTES = 16
BLOCK_BYTES = 4096
MAX_ROWS = 128


def block_shape(
    num_channels: int,
    element_size: int,
    block_bytes: int = BLOCK_BYTES,
) -> tuple[int, int]:
    r"""How many rows and channels a block of threads holds at a time. Fixed,
    not searched for: what decides is known beforehand.

    - A row is read 16 bytes a lane, by 8, 16 or 32 lanes: whole cache lines,
      and several rows an instruction. Of these widths, the one that leaves
      the fewest lanes idle (192 channels in single precision are three times
      64, not one and a half times 128), and of equal ones the widest, as
      every block of channels reads the indices again.
    - As many rows as give each of 128 lanes eight sums (in single precision,
      of four entries at a time: 64 to 128 bytes in flight a lane). So
      compiled, a lane needs 40 to 80 registers on Hopper, which leaves room
      for six to twelve blocks, 70 to 100 KB in flight, on a multiprocessor:
      several times what the latency of its L2 cache asks for.
    """
    vector = VECTOR_BYTES // element_size
    widths = [lanes * vector for lanes in (32, 16, 8)]
    if num_channels <= widths[-1]:
        width = 1 << (num_channels - 1).bit_length()
    else:
        width = min(widths, key=lambda w: -(-num_channels // w) * w)
    rows = block_bytes // (width * max(4, element_size))
    return min(rows, MAX_ROWS), width
