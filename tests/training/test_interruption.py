"""Signals during training: raised at once as long as nothing is lost by it, then only remembered."""

import os
import signal

import pytest

from ablate.training.interruption import Interrupted, Interruption

NUMBERS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def send(number):
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", NUMBERS)
def test_at_first_a_signal_ends_what_is_under_way(number):
    before = signal.getsignal(number)
    with pytest.raises(Interrupted), Interruption() as interruption:
        send(number)
        pytest.fail("it goes on")
    assert interruption.signal == number and signal.getsignal(number) is before


@pytest.mark.parametrize("number", NUMBERS)
def test_once_deferred_it_is_remembered_and_the_first_counts(number):
    with Interruption() as interruption:
        interruption.deferred = True
        send(number)
        send(signal.SIGTERM)
        assert interruption.signal == number
        with pytest.raises(KeyboardInterrupt):
            send(signal.SIGINT)


def test_a_first_ctrl_c_waits_for_the_checkpoint():
    with Interruption() as interruption:
        interruption.deferred = True
        send(signal.SIGINT)
        assert interruption.signal == signal.SIGINT
