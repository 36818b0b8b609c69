# SPDX-License-Identifier: MIT
"""The least that anyone must do: read both checkpoints, write one, sync it.  plain_copy.py BASE ALIGNED OUTPUT"""
import os
import sys
from pathlib import Path

base, aligned, output = map(Path, sys.argv[1:])
buffer = bytearray(32 << 20)
view = memoryview(buffer)
for path in sorted(base.glob("*.safetensors")):
    with open(path, "rb", buffering=0) as source:
        while source.readinto(buffer):
            pass
output.mkdir()
for path in sorted(aligned.glob("*.safetensors")):
    with open(path, "rb", buffering=0) as source, open(output / path.name, "wb", buffering=0) as target:
        while count := source.readinto(buffer):
            target.write(view[:count])
        os.fsync(target.fileno())
