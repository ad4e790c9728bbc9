"""Each cell of docs/endings.md is what happens."""

import unittest

import endings


class Endings(unittest.TestCase):
    maxDiff = None

    def test_the_table_is_what_happens(self):
        written = endings.TABLE.read_text()
        self.assertEqual(written, endings.table(), "if that is right, run tests/clients/endings.py, which writes it")


if __name__ == "__main__":
    unittest.main()
