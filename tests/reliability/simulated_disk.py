"""A file system that promises no more than POSIX: what was synced is there after a power cut; of
everything else, any part may be. It is fed with the file operations that a program was seen to do,
and says which folders a crash may leave.

A file's bytes are promised by an fsync of the file, a name by one of its folder; a rename within a
folder is one change. Changes that are not promised may be lost or kept, each by itself.
"""

import itertools
import os

UNSEEN = (".staging", ".trash")  # no reader looks into these: their bytes do not matter


class Node:
    """A file (bytes) or a folder (names); changes are kept in the order in which they were made."""

    def __init__(self, folder):
        self.folder = folder
        self.now = {} if folder else bytearray()
        self.promised = {} if folder else b""
        self.changes = []  # not promised yet: (number, what)
        self.contents = {}  # chosen changes -> bytes

    def apply(self, base, what):
        if self.folder:
            for name, node in what:
                base.pop(name, None)
                if node is not None:
                    base[name] = node
        elif what[0] == "truncate":
            size = what[1]
            del base[size:]
            base.extend(bytes(size - len(base)))
        else:
            offset, data = what[1:]
            base.extend(bytes(max(0, offset - len(base))))
            base[offset:offset + len(data)] = data

    def change(self, number, what):
        self.apply(self.now, what)
        self.changes.append((number, what))

    def sync(self):
        self.promised = dict(self.now) if self.folder else bytes(self.now)
        self.changes, self.contents = [], {}

    def left(self, kept):
        """Names or bytes after a crash that kept these changes."""
        chosen = tuple(number for number, _ in self.changes if number in kept)
        if not self.folder and chosen in self.contents:
            return self.contents[chosen]
        base = dict(self.promised) if self.folder else bytearray(self.promised)
        for number, what in self.changes:
            if number in kept:
                self.apply(base, what)
        if self.folder:
            return base
        self.contents[chosen] = bytes(base)
        return self.contents[chosen]


class Disk:
    def __init__(self, root):
        """With what is under `root` now, all of it promised."""
        self.root, self.top, self.number = str(root), Node(True), 0
        self.named_whole = {}  # path -> contents that it had when it got its name by a rename
        for path in sorted(root.rglob("*")):
            node = Node(path.is_dir())
            if not node.folder:
                node.now = bytearray(path.read_bytes())
            parent, name = self.parent(str(path))
            parent.now[name] = node
            node.sync()
            parent.sync()

    def parent(self, path):
        *folders, name = os.path.relpath(path, self.root).split("/")
        node = self.top
        for folder in folders:
            node = node.now[folder]
        return node, name

    def node(self, path):
        if path == self.root:
            return self.top
        parent, name = self.parent(path)
        return parent.now[name]

    def do(self, operation):
        """Does an operation of a trace; one on a name that is not there is passed over."""
        name, path, other, offset, size, data = operation
        self.number += 1
        try:
            if name in ("create", "mkdir"):
                parent, last = self.parent(path)
                parent.change(self.number, [(last, Node(name == "mkdir"))])
            elif name == "unlink":
                parent, last = self.parent(path)
                parent.change(self.number, [(last, None)])
            elif name == "write":
                self.node(path).change(self.number, ("write", offset, data))
            elif name == "truncate":
                self.node(path).change(self.number, ("truncate", size))
            elif name == "fsync":
                self.node(path).sync()
            elif name in ("rename", "exchange"):
                self.rename(path, other, name == "exchange")
        except KeyError:
            pass

    def rename(self, path, other, exchange):
        (source, a), (target, b) = self.parent(other), self.parent(path)
        node, old = source.now[a], target.now.get(b)
        if source is target:
            source.change(self.number, [(a, old if exchange else None), (b, node)])
        else:
            source.change(self.number, [(a, old if exchange else None)])
            target.change(self.number, [(b, node)])
        for relative, content in self.walk(node, os.path.relpath(path, self.root), None):
            if content is not None:
                self.named_whole.setdefault(relative, set()).add(content)

    def walk(self, node, relative, kept):
        """(path, bytes or None for a folder) of what is there now, or after a crash that kept
        these changes; staging and trash are named without what is in them."""
        if not node.folder:
            yield relative, bytes(node.now) if kept is None else node.left(kept)
            return
        if relative:
            yield relative, None
        if kept is not None and os.path.basename(relative).startswith(UNSEEN):
            return
        names = node.now if kept is None else node.left(kept)
        for name in sorted(names):
            yield from self.walk(names[name], f"{relative}/{name}" if relative else name, kept)

    def pending(self):
        """Numbers of the changes that are not promised and that a reader could see, by node. A
        folder that is only staging or trash cannot be seen, whatever the crash keeps."""
        found, nodes, seen = [], [self.top], set()
        while nodes:
            node = nodes.pop()
            if id(node) in seen:
                continue
            seen.add(id(node))
            if node.changes:
                found.append([number for number, _ in node.changes])
            if node.folder:
                entries = [*node.promised.items(), *node.now.items()]
                entries += [entry for _, what in node.changes for entry in what]
                nodes += [child for name, child in entries
                          if child is not None and not name.startswith(UNSEEN)]
        return found

    def crashes(self, numbers, samples):
        """Sets of changes that a crash now may keep: none, all, all but one, one alone, whole nodes
        with and without, and some at random."""
        groups = self.pending()
        every = frozenset(itertools.chain.from_iterable(groups))
        sets = {frozenset(), every}
        for group in groups:
            sets |= {every - set(group), frozenset(group)}
            for number in group:
                sets |= {every - {number}, frozenset([number])}
        for _ in range(samples if len(every) > 1 else 0):
            sets.add(frozenset(n for n in every if numbers.random() < 0.5))
        return sets

    def state(self, kept):
        return tuple(self.walk(self.top, "", kept))
