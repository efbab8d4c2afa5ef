#!/usr/bin/python3
"""The Merkle tree of RFC 6962 and RFC 9162, for checking an exported log without ORBIT.

Written from the text of the RFCs and slow on purpose: every function is the definition that it names. Needs nothing but Python.

    orbit log export NAMESPACE | rfc6962.py root                  size and root, as in a checkpoint
    orbit log export NAMESPACE | rfc6962.py root SIZE             the same of the first SIZE records
    orbit log export NAMESPACE | rfc6962.py inclusion POSITION SIZE
    orbit log export NAMESPACE | rfc6962.py consistency OLD NEW   a hash a line, lowest first
    rfc6962.py leaf TEXT                                          the hash of a leaf
    rfc6962.py check-inclusion POSITION SIZE LEAF_HASH ROOT [HASH...]
    rfc6962.py check-consistency OLD NEW OLD_ROOT NEW_ROOT [HASH...]

Hashes are in base64. A check exits with 0 if the proof holds and with 1 if it does not; wrong use exits with 2.
"""

import base64
import binascii
import hashlib
import json
import sys


class WrongUse(Exception):
    """What was asked for cannot be done, or the input is no export."""


def sha256(data):
    return hashlib.sha256(data).digest()


def leaf_hash(leaf):
    """RFC 6962, section 2.1: MTH({d(0)}) = SHA-256(0x00 || d(0))."""
    return sha256(b"\x00" + leaf)


def node_hash(left, right):
    """RFC 6962, section 2.1: SHA-256(0x01 || left || right)."""
    return sha256(b"\x01" + left + right)


def split(n):
    """The largest power of two that is smaller than n."""
    k = 1
    while k * 2 < n:
        k *= 2
    return k


def root(hashes):
    """RFC 6962, section 2.1: the Merkle tree hash, over the hashes of the leaves."""
    n = len(hashes)
    if n == 0:
        return sha256(b"")
    if n == 1:
        return hashes[0]
    k = split(n)
    return node_hash(root(hashes[:k]), root(hashes[k:]))


def inclusion(m, hashes):
    """RFC 6962, section 2.1.1: PATH(m, D[n])."""
    n = len(hashes)
    if not 0 <= m < n:
        raise WrongUse(f"position {m} is not in a tree of {n} leaves")
    if n == 1:
        return []
    k = split(n)
    if m < k:
        return inclusion(m, hashes[:k]) + [root(hashes[k:])]
    return inclusion(m - k, hashes[k:]) + [root(hashes[:k])]


def consistency(m, hashes):
    """RFC 6962, section 2.1.2: PROOF(m, D[n]). Nothing has to be proven of an empty tree."""
    if not 0 <= m <= len(hashes):
        raise WrongUse(f"a tree of {m} leaves is not the beginning of one of {len(hashes)}")
    return subproof(m, hashes, True) if m > 0 else []


def subproof(m, hashes, whole):
    """RFC 6962, section 2.1.2: SUBPROOF(m, D[n], b)."""
    n = len(hashes)
    if m == n:
        return [] if whole else [root(hashes)]
    k = split(n)
    if m <= k:
        return subproof(m, hashes[:k], whole) + [root(hashes[k:])]
    return subproof(m - k, hashes[k:], False) + [root(hashes[:k])]


def inclusion_holds(position, size, leaf, tree_root, path):
    """RFC 9162, section 2.1.3.2, step by step."""
    if position >= size:
        return False
    fn, sn = position, size - 1
    r = leaf
    for p in path:
        if sn == 0:
            return False
        if fn % 2 == 1 or fn == sn:
            r = node_hash(p, r)
            while not (fn % 2 == 1 or fn == 0):
                fn, sn = fn >> 1, sn >> 1
        else:
            r = node_hash(r, p)
        fn, sn = fn >> 1, sn >> 1
    return sn == 0 and r == tree_root


def consistency_holds(first, second, first_hash, second_hash, path):
    """RFC 9162, section 2.1.4.2, step by step; and what holds without a proof."""
    if first > second:
        return False
    if first == second:
        return path == [] and first_hash == second_hash
    if first == 0:
        return path == [] and first_hash == root([])
    if path == []:
        return False
    if first & (first - 1) == 0:
        path = [first_hash] + path
    fn, sn = first - 1, second - 1
    while fn % 2 == 1:
        fn, sn = fn >> 1, sn >> 1
    fr = sr = path[0]
    for c in path[1:]:
        if sn == 0:
            return False
        if fn % 2 == 1 or fn == sn:
            fr, sr = node_hash(c, fr), node_hash(c, sr)
            while not (fn % 2 == 1 or fn == 0):
                fn, sn = fn >> 1, sn >> 1
        else:
            sr = node_hash(sr, c)
        fn, sn = fn >> 1, sn >> 1
    return fr == first_hash and sr == second_hash and sn == 0


def read_export(lines):
    """The hashes of the leaves of an export, which has every position from 0 on its own line."""
    hashes = []
    for number, line in enumerate(lines, 1):
        try:
            record = json.loads(line)
            position, leaf = record["position"], record["leaf"]
        except (ValueError, KeyError, TypeError) as error:
            raise WrongUse(f"line {number}: not a record of an export: {error}") from error
        if position != len(hashes):
            raise WrongUse(f"line {number}: position {position}, expected {len(hashes)}")
        hashes.append(leaf_hash(leaf.encode("utf-8")))
    return hashes


def text(digest):
    return base64.b64encode(digest).decode("ascii")


def digest(given):
    try:
        found = base64.b64decode(given, validate=True)
    except (binascii.Error, ValueError) as error:
        raise WrongUse(f"`{given}` is not a hash in base64") from error
    if len(found) != 32:
        raise WrongUse(f"`{given}` has {len(found)} bytes, a hash has 32")
    return found


def count(given):
    if not given.isascii() or not given.isdigit():
        raise WrongUse(f"`{given}` is not a number")
    return int(given)


def first(size, hashes):
    if size > len(hashes):
        raise WrongUse(f"the export has {len(hashes)} records, fewer than {size}")
    return hashes[:size]


def run(arguments, lines):
    """What is printed, or whether a proof holds."""
    match arguments:
        case ["root"]:
            hashes = read_export(lines)
            return f"{len(hashes)}\n{text(root(hashes))}\n"
        case ["root", size]:
            return f"{count(size)}\n{text(root(first(count(size), read_export(lines))))}\n"
        case ["inclusion", position, size]:
            path = inclusion(count(position), first(count(size), read_export(lines)))
        case ["consistency", old, new]:
            path = consistency(count(old), first(count(new), read_export(lines)))
        case ["leaf", leaf]:
            path = [leaf_hash(leaf.encode("utf-8"))]
        case ["check-inclusion", position, size, leaf, tree_root, *path]:
            path = [digest(hash) for hash in path]
            return inclusion_holds(count(position), count(size), digest(leaf), digest(tree_root), path)
        case ["check-consistency", old, new, old_root, new_root, *path]:
            path = [digest(hash) for hash in path]
            return consistency_holds(count(old), count(new), digest(old_root), digest(new_root), path)
        case _:
            raise WrongUse(__doc__.strip())
    return "".join(f"{text(hash)}\n" for hash in path)


def main():
    try:
        result = run(sys.argv[1:], sys.stdin)
    except WrongUse as error:
        print(f"rfc6962: {error}", file=sys.stderr)
        return 2
    if isinstance(result, bool):
        print("holds" if result else "does not hold")
        return 0 if result else 1
    sys.stdout.write(result)
    return 0


if __name__ == "__main__":
    sys.exit(main())
