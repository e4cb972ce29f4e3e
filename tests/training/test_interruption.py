"""Signals that end a run: which are heard, and what several processes make of them."""

import os
import signal

import pytest

from amplify_motion_tokenizer.training.interruption import Interruption, read_requests


def test_a_second_ctrl_c_stops_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a launcher passes on in the same moment is the first one again."""
    now = 100.0
    monkeypatch.setattr("amplify_motion_tokenizer.training.interruption.time.monotonic", lambda: now)
    monkeypatch.setattr(os, "write", lambda *_: 0)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # it may be ignored here
    try:
        interruption = Interruption(None)
        with interruption.listening():
            assert read_requests(interruption.requests().tolist()) == (None, False)
            os.kill(os.getpid(), signal.SIGINT)
            now += 0.5
            os.kill(os.getpid(), signal.SIGINT)
            assert read_requests(interruption.requests().tolist()) == (signal.SIGINT, False)
            now += 1
            with pytest.raises(KeyboardInterrupt):
                os.kill(os.getpid(), signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)


def test_an_ignored_signal_stays_ignored() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with Interruption(None).listening():
            assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_one_process_stops_all() -> None:
    assert read_requests([0.0, 0.0, 2.0]) == (None, True)
    assert read_requests([1.0, 0.0, 0.0]) == (signal.SIGTERM, False)
    assert read_requests([0.0, 3.0, 1.0]) == (signal.SIGINT, True)
