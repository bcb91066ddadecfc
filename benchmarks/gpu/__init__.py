"""The benchmark of a GPU machine: `python -m benchmarks.gpu --out DIR`. __main__.py says what it measures."""
