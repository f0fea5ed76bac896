import sys

import pytest

from pipelines.common.timing import cost_of
from rvqvae.errors import InputError


def test_what_a_process_takes():
    code = "import time; print('first'); time.sleep(.3); sum(range(3_000_000)); print('last')"
    cost = cost_of([sys.executable, "-c", code])
    assert cost.first < cost.seconds - 0.3
    assert 0 < cost.cpu < cost.seconds - 0.2  # Asleep, it does not compute.


def test_a_process_that_fails():
    with pytest.raises(InputError, match=r"exit\('why'\) failed: why"):
        cost_of([sys.executable, "-c", "exit('why')"])
