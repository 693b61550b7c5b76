"""hyperverify: personal face verification on the edge. `toolkit` is the command-line face of it."""

__version__ = "0.1.0"
