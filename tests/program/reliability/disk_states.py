# SPDX-License-Identifier: MIT
"""What a disk may hold after a power loss, made from a record of what was done to it (record_writes.c).

What was synced is there. Of what was written to a file since its last sync each page may be there or not.
Names that were made, changed or removed since the last sync of their folder are there up to some moment, and
not after it: either one moment for all folders, as in a file system with one log, or one for each. So a file
may be there with its data and no name, or with its name and no data.
"""
import copy
import json
import os
import random
import shutil
from pathlib import Path

from disk_record import (CREATE, EXCHANGE, LINK, MKDIR, RENAME, RESERVE, RMDIR, SYMLINK, SYNC, TRUNCATE, UNLINK, WRITE,
                         birth_of)

PAGE = 4096


class File:
    is_folder = False

    def __init__(self, content=b"", birth=None):
        self.synced = bytes(content)
        self.pending = []  # (operation, offset, length or data), in order
        self.birth = birth

    def sync(self):
        self.synced = self.content()
        self.pending = []

    def content(self, keeps=lambda: True):
        """The bytes if of each change that was not synced `keeps` tells whether it is there."""
        content = bytearray(self.synced)

        def grow(size):
            content.extend(bytes(max(0, size - len(content))))
        for operation, offset, what in self.pending:
            if operation == TRUNCATE:
                if keeps():
                    del content[offset:]
                    grow(offset)
            elif operation == RESERVE:
                if keeps():
                    grow(offset + what)
            else:
                at = 0
                while at < len(what):
                    end = min(len(what), at + PAGE - (offset + at) % PAGE)
                    if keeps():
                        grow(offset + end)
                        content[offset + at:offset + end] = what[at:end]
                    at = end
        return bytes(content)


class Folder:
    is_folder = True

    def __init__(self, birth=None):
        self.entries = {}  # at the beginning
        self.birth = birth


class Link:
    is_folder = False
    birth = None

    def __init__(self, target):
        self.target = target


class Change:
    """Names that change in one step: (folder, name, what it is then or None) of each."""

    def __init__(self, *steps):
        self.steps = steps
        self.is_synced = False


def scan(path):
    """What is there, all of it synced."""
    folder = Folder(birth_of(path))
    for entry in Path(path).iterdir():
        if entry.is_symlink():
            folder.entries[entry.name] = Link(os.readlink(entry))
        elif entry.is_dir():
            folder.entries[entry.name] = scan(entry)
        else:
            folder.entries[entry.name] = File(entry.read_bytes(), birth_of(entry))
    return folder


class History:
    """What was done to a folder, up to some entry of the record."""

    def __init__(self, root, path):
        """`root`: what scan() found there before. `path`: where."""
        self.root = copy.deepcopy(root)  # since it changes
        self.path = os.path.normpath(path)
        self.changes = []
        self.now = {}  # names as the processes see them, by folder
        self.by_inode = {}
        self.read(self.root)

    def read(self, node):
        if node.birth:
            self.by_inode[node.birth[0]] = node
        if node.is_folder:
            self.now[node] = dict(node.entries)
            for inner in node.entries.values():
                self.read(inner)

    def place(self, path):
        """(folder, name) of a path."""
        words = os.path.relpath(os.path.normpath(path), self.path).split("/")
        folder = self.root
        for word in words[:-1]:
            folder = self.now[folder][word]
        return folder, words[-1]

    def change(self, *steps):
        self.changes.append(Change(*steps))
        for folder, name, node in steps:
            if node is None:
                self.now[folder].pop(name, None)
            else:
                self.now[folder][name] = node

    def at(self, path):
        folder, name = self.place(path)
        return self.now[folder].get(name)

    def apply(self, entry):
        operation = entry.operation
        if operation in (CREATE, MKDIR):
            node = File(birth=entry.birth) if operation == CREATE else Folder(entry.birth)
            if node.is_folder:
                self.now[node] = {}
            self.by_inode[entry.inode] = node
            self.change((*self.place(entry.path), node))
        elif operation in (UNLINK, RMDIR):
            self.change((*self.place(entry.path), None))
        elif operation == RENAME:
            one, other = self.place(entry.path), self.place(entry.other)
            moved, there = self.at(entry.path), self.at(entry.other)
            self.change((*one, there if entry.flags & EXCHANGE else None), (*other, moved))
        elif operation == LINK:
            self.change((*self.place(entry.other), self.at(entry.path)))
        elif operation == SYMLINK:
            self.change((*self.place(entry.other), Link(entry.path)))
        elif operation == WRITE:
            self.by_inode[entry.inode].pending.append((WRITE, entry.offset, entry.data[:entry.length]))
        elif operation in (TRUNCATE, RESERVE):
            self.by_inode[entry.inode].pending.append((operation, entry.offset, entry.length))
        elif operation == SYNC:
            node = self.by_inode.get(entry.inode)
            if node is None:
                return
            if not node.is_folder:
                node.sync()
                return
            for change in self.changes:
                change.is_synced |= any(folder is node for folder, _, _ in change.steps)

    def kept_changes(self, rng, how, one_log):
        """Which changes of names are there."""
        if how == "all":
            return self.changes
        if one_log:
            last = max((i for i, change in enumerate(self.changes) if change.is_synced), default=-1) + 1
            return self.changes[:last if how == "none" else rng.randint(last, len(self.changes))]
        # Folders between which something moves that was not synced have one moment.
        group = {}

        def of(folder):
            while folder in group:
                folder = group[folder]
            return folder
        waiting = [change for change in self.changes if not change.is_synced]
        for change in waiting:
            first = of(change.steps[0][0])
            for folder, _, _ in change.steps[1:]:
                if of(folder) is not first:
                    group[of(folder)] = first
        counts = {}
        for change in waiting:
            key = of(change.steps[0][0])
            counts[key] = counts.get(key, 0) + 1
        left = {key: 0 if how == "none" else rng.randint(0, count) for key, count in counts.items()}
        kept = []
        for change in self.changes:
            if not change.is_synced:
                key = of(change.steps[0][0])
                if left[key] == 0:
                    continue
                left[key] -= 1
            kept.append(change)
        return kept

    def state(self, rng, names, data, one_log=True):
        """What may be there now: {name: bytes, {…} or Link}, and {path: birth} as it was recorded.
        `names`: none, all or some of what was not synced; `data` the same."""
        entries = {folder: dict(folder.entries) for folder in self.now}
        for change in self.kept_changes(rng, names, one_log):
            for folder, name, node in change.steps:
                if node is None:
                    entries[folder].pop(name, None)
                else:
                    entries[folder][name] = node
        births = {}
        seen = {}

        def freeze(node, path):
            if node.birth:
                births[path] = node.birth
            if isinstance(node, Link):
                return node
            if node.is_folder:
                inside = sorted(entries[node].items())
                return {name: freeze(inner, f"{path}/{name}") for name, inner in inside}
            if node not in seen:
                odds = rng.choice((0.1, 0.5, 0.9))
                seen[node] = node.content({"none": lambda: False, "all": lambda: True,
                                           "some": lambda: rng.random() < odds}[data])
            return seen[node]
        return freeze(self.root, ""), births

    def live(self):
        return self.state(random.Random(0), "all", "all")[0]


def build(tree, births, path):
    """Makes the folder `path` hold that. A birth that is written down somewhere becomes the new one."""
    path = Path(path)
    for entry in path.iterdir():
        shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()
    reborn = {}

    def names(inner, place, key):
        if key in births and place != path:
            old, new = births[key], birth_of(place)
            reborn[b"%d %d.%09d" % old] = b"%d %d.%09d" % new

    def make(inner, place, key):
        if isinstance(inner, Link):
            os.symlink(inner.target, place)
        elif isinstance(inner, dict):
            if place != path:
                place.mkdir()
            names(inner, place, key)
            for name, more in inner.items():
                make(more, place / name, f"{key}/{name}")
        else:
            place.write_bytes(inner)
            names(inner, place, key)
    make(tree, path, "")
    for place in path.rglob("*"):
        if place.is_file() and not place.is_symlink() and place.stat().st_size < 1 << 20:
            content = replaced = place.read_bytes()
            for old, new in reborn.items():
                replaced = replaced.replace(old, new)
            if replaced != content:
                with open(place, "r+b") as file:
                    file.truncate(0)
                    file.write(replaced)


def freeze(path):
    """What is there, in the form of History.state()."""
    history = History(scan(path), path)
    return history.live()


def undated(tree):
    """An output in the form of History.state(), without what differs between two runs of one job: a whole report."""
    if not isinstance(tree, dict) or "lox_report.json" not in tree:
        return tree
    try:
        report = json.loads(tree["lox_report.json"])
        return tree | {"lox_report.json": report["job"]}
    except (KeyError, ValueError):
        return tree


def choose_points(rng, entries, count):
    """Lengths of prefixes: most end just before or after a sync or a change of names."""
    steps = (SYNC, RENAME, UNLINK, RMDIR, MKDIR, LINK)
    special = [i for i, entry in enumerate(entries) if entry.operation in steps]
    late = special[-max(1, len(special) // 3):]
    points = []
    for _ in range(count):
        way = rng.random()
        if way < 0.25 or not special:
            points.append(rng.randint(0, len(entries)))
        else:
            points.append(rng.choice(late if way < 0.6 else special) + rng.randint(0, 1))
    return points
