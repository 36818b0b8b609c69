# SPDX-License-Identifier: MIT
"""The record of what was done to a disk, as record_writes.c writes it."""
import ctypes
import mmap
import os
import struct
from pathlib import Path

RECORD_BYTES = 1 << 30  # sparse
(CREATE, TRUNCATE, WRITE, RESERVE, RENAME, UNLINK, MKDIR, RMDIR, LINK, SYMLINK, SYNC, UNKNOWN) = range(1, 13)
NAMES = ("", "create", "truncate", "write", "reserve", "rename", "unlink", "mkdir", "rmdir", "link",
         "symlink", "sync", "unknown")
FIRST_ENTRY = 4096
ENTRY = struct.Struct("<IHHIIQQQQQII")
DONE = 2
EXCHANGE = 2


class Statx(ctypes.Structure):
    _fields_ = [("head", ctypes.c_uint32 * 8), ("inode", ctypes.c_uint64), ("middle", ctypes.c_uint64 * 5),
                ("born", ctypes.c_int64), ("born_nanos", ctypes.c_uint32), ("rest", ctypes.c_uint8 * 256)]


LIBC = ctypes.CDLL(None, use_errno=True)


def birth_of(path):
    """(inode, seconds, nanoseconds): no two things that ever were have the same."""
    found = Statx()
    if LIBC.statx(-100, os.fsencode(path), 0x100, 0x800 | 0x100, ctypes.byref(found)) != 0:
        raise OSError(ctypes.get_errno(), str(path))
    return found.inode, found.born, found.born_nanos


class Entry:
    def __init__(self, fields, path, other, data):
        (_, self.operation, self.state, self.process, self.flags, self.inode, seconds, nanos, self.offset,
         self.length, _, _) = fields
        self.birth = (self.inode, seconds, nanos)
        self.path, self.other, self.data = path, other, data

    def __repr__(self):
        names = " ".join(filter(None, (self.path, self.other)))
        return f"{self.process} {NAMES[self.operation]} {names} {self.offset}+{self.length}"


class Record:
    """The file that processes record into."""

    def __init__(self, path):
        self.path = Path(path)
        self.path.unlink(missing_ok=True)
        with open(self.path, "wb") as file:
            file.truncate(RECORD_BYTES)

    def environment(self, library, folder, without=""):
        return {"LD_PRELOAD": str(library), "LOX_RECORD_FOLDER": str(folder),
                "LOX_RECORD_FILE": str(self.path), "LOX_RECORD_NO_SYNC": without}

    def entries(self):
        found = []
        with open(self.path, "rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as raw:
            _, end, _, _ = struct.unpack_from("<QQQQ", raw)
            at = FIRST_ENTRY
            while at < end:
                fields = ENTRY.unpack_from(raw, at)
                names = at + ENTRY.size
                path, other = fields[-2], fields[-1]
                data = names + path + other
                written = raw[data:data + fields[9]] if fields[1] == WRITE else b""
                entry = Entry(fields, os.fsdecode(raw[names:names + path]),
                              os.fsdecode(raw[names + path:data]), written)
                if entry.operation == UNKNOWN:
                    raise AssertionError(f"a call that cannot be recorded: {entry.path}")
                if entry.state == DONE:
                    found.append(entry)
                at += fields[0]
        return found
