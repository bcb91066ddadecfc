"""Benchmarks of invnet against other libraries and against plain PyTorch; `python -m benchmarks` lists them."""
