# SPDX-License-Identifier: MIT
"""Recordings (core/record.h) of which something was lost."""
import random
import struct

HEAD = 16  # bytes of the file before the first record
DATA = 1


def without(recording, seed, share):
    """A recording of which that share of the calls was lost, here and there."""
    chance = random.Random(seed)
    out, at = [recording[:HEAD]], HEAD
    while at < len(recording):
        size, kind = struct.unpack_from("=IH", recording, at)
        if kind != DATA or chance.random() >= share:
            out.append(recording[at:at + size])
        at += size
    return b"".join(out)
