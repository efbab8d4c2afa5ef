"""The tree against the leaves, roots and proofs that the Certificate Transparency project publishes, and every proof of small trees."""

import json
import unittest

import rfc6962

LEAVES = [bytes.fromhex(leaf) for leaf in
          ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"]]
ROOTS = [bytes.fromhex(root) for root in [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]]
HASHES = [rfc6962.leaf_hash(leaf) for leaf in LEAVES]


def export(leaves):
    return [json.dumps({"position": position, "leaf": leaf, "body": {}}) + "\n" for position, leaf in enumerate(leaves)]


class Published(unittest.TestCase):
    def test_roots(self):
        for size, root in enumerate(ROOTS):
            self.assertEqual(rfc6962.root(HASHES[:size]), root, size)

    def test_proofs(self):
        def check(path, expected):
            self.assertEqual([hash.hex() for hash in path], expected)

        check(rfc6962.inclusion(5, HASHES), [
            "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
            "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        ])
        check(rfc6962.consistency(6, HASHES), [
            "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
            "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        ])
        check(rfc6962.consistency(2, HASHES[:5]), [
            "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
            "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
        ])


class Proofs(unittest.TestCase):
    HASHES = [rfc6962.leaf_hash(bytes([number])) for number in range(40)]

    def test_every_inclusion(self):
        for size in range(1, len(self.HASHES) + 1):
            hashes = self.HASHES[:size]
            root = rfc6962.root(hashes)
            for position in range(size):
                path = rfc6962.inclusion(position, hashes)
                holds = lambda *changed: rfc6962.inclusion_holds(*changed)
                self.assertTrue(holds(position, size, hashes[position], root, path))
                self.assertFalse(holds(position, size, bytes(32), root, path))
                self.assertFalse(holds(position, size, hashes[position], bytes(32), path))
                self.assertFalse(holds(position, size, hashes[position], root, path + [bytes(32)]))
                self.assertFalse(holds(size, size, hashes[position], root, path))
                for at in range(len(path)):
                    self.assertFalse(holds(position, size, hashes[position], root, path[:at] + [bytes(32)] + path[at + 1:]))
                    self.assertFalse(holds(position, size, hashes[position], root, path[:at] + path[at + 1:]))

    def test_every_consistency(self):
        for new in range(len(self.HASHES) + 1):
            new_root = rfc6962.root(self.HASHES[:new])
            for old in range(new + 1):
                old_root = rfc6962.root(self.HASHES[:old])
                path = rfc6962.consistency(old, self.HASHES[:new])
                holds = rfc6962.consistency_holds
                self.assertTrue(holds(old, new, old_root, new_root, path))
                self.assertFalse(holds(old, new, bytes(32), new_root, path))
                self.assertFalse(holds(old, new, old_root, new_root, path + [bytes(32)]))
                self.assertFalse(holds(new + 1, new, old_root, new_root, path))
                if old > 0:
                    self.assertFalse(holds(old, new, old_root, bytes(32), path))
                for at in range(len(path)):
                    self.assertFalse(holds(old, new, old_root, new_root, path[:at] + [bytes(32)] + path[at + 1:]))
                    self.assertFalse(holds(old, new, old_root, new_root, path[:at] + path[at + 1:]))


class Program(unittest.TestCase):
    EXPORT = export(['{"kind":"one"}', '{"kind":"\u20ac"}', "third"])

    def run_with(self, *arguments, lines=None):
        return rfc6962.run(list(arguments), self.EXPORT if lines is None else lines)

    def test_what_it_prints_is_what_it_checks(self):
        size, root = self.run_with("root").split()
        self.assertEqual(size, "3")
        self.assertEqual(self.run_with("root", "0"), "0\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n")
        leaf = self.run_with("leaf", '{"kind":"\u20ac"}').strip()
        path = self.run_with("inclusion", "1", "3").split()
        self.assertIs(self.run_with("check-inclusion", "1", "3", leaf, root, *path), True)
        self.assertIs(self.run_with("check-inclusion", "0", "3", leaf, root, *path), False)
        old_root = self.run_with("root", "2").split()[1]
        path = self.run_with("consistency", "2", "3").split()
        self.assertIs(self.run_with("check-consistency", "2", "3", old_root, root, *path), True)
        self.assertIs(self.run_with("check-consistency", "2", "3", root, old_root, *path), False)

    def test_what_is_no_export_is_named(self):
        def check(expected, *arguments, lines=None):
            with self.assertRaises(rfc6962.WrongUse) as raised:
                self.run_with(*arguments, lines=lines)
            self.assertIn(expected, str(raised.exception))

        check("line 2: position 2, expected 1", "root", lines=[self.EXPORT[0], self.EXPORT[2]])
        check("line 1: not a record of an export", "root", lines=["{}\n"])
        check("line 1: not a record of an export", "root", lines=["[]\n"])
        check("line 1: not a record of an export", "root", lines=["\n"])
        check("the export has 3 records, fewer than 4", "root", "4")
        check("position 3 is not in a tree of 3 leaves", "inclusion", "3", "3")
        check("a tree of 3 leaves is not the beginning of one of 2", "consistency", "3", "2")
        check("`-1` is not a number", "inclusion", "-1", "3")
        check("`x` is not a hash in base64", "check-inclusion", "0", "1", "x", "x")
        check("`eA==` has 1 bytes, a hash has 32", "check-inclusion", "0", "1", "eA==", "eA==")
        check("orbit log export", "nothing")


if __name__ == "__main__":
    unittest.main()
