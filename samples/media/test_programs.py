"""Tests of the programs of this sample: what a label can and cannot do."""

import glob
import importlib.util
import os
import sys
import tempfile
import unittest
from importlib.machinery import SourceFileLoader

PROGRAMS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "namespaces", "studio", "programs")
sys.dont_write_bytecode = True      # nothing is left beside the programs, which are copied as they are


def program(name):
    loader = SourceFileLoader(name, os.path.join(PROGRAMS, name))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(name, loader))
    loader.exec_module(module)
    return module


def read(name):
    with open(name, encoding="utf-8") as file:
        return file.read()


WRITE, COMPOSE = program("write"), program("compose")


def context(label, facts=("One.", "Two."), seconds=12):
    return {
        "initiation": {"label": label, "metadata": {"field": "Physics", "facts": list(facts)}},
        "instruction": {"constraints": {"seconds_max": seconds}},
        "profile": {"style_vector": {"width": 1080, "height": 1920}},
    }


class Write(unittest.TestCase):
    def test_the_text(self):
        long = ["word " * 20 + "end."] * 5
        cases = [
            (context("Why?"), "Why?\nOne.\nTwo.\n"),
            (context("A fact"), "A fact.\nOne.\nTwo.\n"),
            (context("Caf\u00e9 \u2019s\nend"), "Cafe 's end.\nOne.\nTwo.\n"),
            (context("Long", long, seconds=1), "Long.\n" + long[0] + "\n"),
        ]
        for given, expected in cases:
            with self.subTest(given["initiation"]["label"]):
                self.assertEqual(WRITE.narration(given), expected)


class Compose(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.addCleanup(os.chdir, os.getcwd())
        os.chdir(folder.name)
        self.addCleanup(os.environ.pop, "FONT", None)
        os.environ["FONT"] = "/font.ttf"

    def test_a_label_is_never_part_of_the_filters(self):
        hostile = "%{pts}':;[v],drawtext=textfile=/etc/passwd"
        graph = COMPOSE.filters(context(hostile))
        self.assertEqual("".join(map(read, sorted(glob.glob("title*.txt")))), hostile)
        self.assertEqual(graph, COMPOSE.filters(context("x" * len(hostile))))

    def test_a_title_fits(self):
        for label in ("Short", "x" * 4000, "word " * 200, "", "\u65e5\u672c\u8a9e " * 40):
            with self.subTest(label[:10]):
                lines, size = COMPOSE.title_lines(label, 1080)
                columns = int((1080 - 2 * COMPOSE.MARGIN) / (size * COMPOSE.GLYPH))
                self.assertLessEqual(len(lines), COMPOSE.TITLE_LINES_MAX)
                self.assertLessEqual(max(map(len, lines)), columns)


if __name__ == "__main__":
    unittest.main()
