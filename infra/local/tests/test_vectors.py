"""The token vectors that the Rust and TypeScript tests share are what their generator makes."""

import subprocess
import sys

import settings

FOLDER = settings.ROOT / "testdata" / "callback"


def test_the_vectors_are_what_their_generator_makes():
    made = subprocess.run([sys.executable, FOLDER / "vectors.py"], check=True, capture_output=True).stdout
    assert made == (FOLDER / "vectors.json").read_bytes()
