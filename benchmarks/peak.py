"""invnet/bench/peak.py for all contenders of these benchmarks: `python -m benchmarks.peak normflows --hidden 64
...`.
"""

from invnet.bench import peak

from .contenders import CONTENDERS

if __name__ == "__main__":
    peak.main(CONTENDERS)
