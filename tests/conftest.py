import logging
import os
import signal
import sys

sys.path.insert(0, os.path.dirname(__file__))

# A shell has what it puts in the background ignore Ctrl-C, and so would the processes that tests start and send one to.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Whether kernels are compiled in a test depends on those before it.
logging.getLogger("invnet.compile").setLevel(logging.ERROR)
