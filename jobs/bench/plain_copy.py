# SPDX-License-Identifier: MIT
"""The least that anyone must do: read all checkpoints, write the last, sync it.  plain_copy.py [BASE] ALIGNED OUTPUT"""
import os
import sys
from pathlib import Path

*others, aligned, output = map(Path, sys.argv[1:])
buffer = bytearray(32 << 20)
view = memoryview(buffer)
for other in others:
    for path in sorted(other.glob("*.safetensors")):
        with open(path, "rb", buffering=0) as source:
            while source.readinto(buffer):
                pass
output.mkdir()
for path in sorted(aligned.glob("*.safetensors")):
    with open(path, "rb", buffering=0) as source, open(output / path.name, "wb", buffering=0) as target:
        while count := source.readinto(buffer):
            target.write(view[:count])
        os.fsync(target.fileno())
