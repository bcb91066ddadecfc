"""Memory and speed of a training step on this machine: what `invnet bench` measures. `import invnet` does not import
it.
"""
