"""One thread: on tiny tensors more threads only wait for each other, for minutes on a busy machine."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
