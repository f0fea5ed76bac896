import sys

import pytest

from pipelines.common.timing import cost_of, cpu_to_first_output
from rvqvae.errors import InputError


def test_what_a_process_takes():
    cost = cost_of([sys.executable, "-c", "import time; time.sleep(.3); sum(range(3_000_000))"])
    assert 0 < cost.cpu < cost.seconds - 0.2  # Asleep, it does not compute.


def test_the_first_output():
    first = cpu_to_first_output([sys.executable, "-uc", "print('first'); sum(range(10**12))"])
    assert 0 < first < 10  # It has not waited for the end.
    with pytest.raises(InputError, match="said nothing"):
        cpu_to_first_output([sys.executable, "-c", ""])


def test_a_process_that_fails():
    with pytest.raises(InputError, match=r"exit\('why'\) failed: why"):
        cost_of([sys.executable, "-c", "exit('why')"])
