"""Memory that runs out: one step down at a time, each said, and the same result at the end."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import network_phantom as phantom
import numpy as np
import pytest

from strokeseg.errors import MemoryLimitError
from strokeseg.events import Monitor
from strokeseg.predict import Asked, Prediction, predict

SHAPE = (96, 64, 48)
CHANNELS = phantom.noise(2, *SHAPE)


def network(channels: Any) -> Any:
    """Sees single voxels: every way to run it gives the same."""
    return channels[:1] - channels[1:]


def run(used: Any, asked: Asked | None = None, on_cpu: Any = None, **card: Any) -> tuple[Prediction, list[str]]:
    monitor = Monitor()
    found = predict(phantom.prepared(CHANNELS), phantom.card(**card), used, monitor, asked, on_cpu=on_cpu)
    expected = 1 / (1 + np.exp(-np.clip(network(CHANNELS)[0], -8, 8)))
    np.testing.assert_allclose(found.probability, expected, atol=1e-5)
    assert {w.code for w in monitor.warnings} <= {"memory_short"}
    return found, [w.message for w in monitor.warnings]


def test_enough_memory_needs_no_warning() -> None:
    found, said = run(phantom.OnDevice(network))
    assert (found.strategy, said) == ("whole", [])


def test_windows_are_halved_until_they_fit() -> None:
    runtime: Any = phantom.OnDevice(network, batch_voxels=32**3)
    found, said = run(runtime)
    assert [s[2:] for s in runtime.tried[:2]] == [(96, 64, 48), (48, 32, 32)]
    assert set(runtime.seen) == {(1, 2, 32, 32, 32)}
    assert (found.strategy, found.runtime) == ("windows", runtime)
    assert runtime.added_on_device
    assert [s.split("; ")[1] for s in said] == [
        "it is run by windows of 48x32x32 voxels.",
        "it is run by windows of 32x32x32 voxels.",
    ]
    assert all("'cuda:0' was not enough" in s for s in said)
    assert "32x32x32" in found.reason


def test_windows_stay_multiples_of_what_the_network_halves() -> None:
    runtime = phantom.OnDevice(network, batch_voxels=48**3)
    run(runtime, multiple=48)
    assert [s[2:] for s in dict.fromkeys(runtime.tried)] == [(96, 64, 48), (48, 48, 48)]


def test_a_map_that_does_not_fit_is_added_up_in_the_computers_memory_and_the_windows_stay() -> None:
    runtime = phantom.OnDevice(network, map_voxels=1000)
    found, said = run(runtime, Asked(window=(48, 32, 48)))
    assert {s[2:] for s in runtime.seen} == {(48, 32, 48)}
    assert len(said) == 1
    assert "computer's memory" in said[0]
    assert not runtime.added_on_device
    assert found.runtime is runtime


def test_a_batch_of_windows_becomes_single_windows_where_they_cannot_be_smaller() -> None:
    runtime = phantom.OnDevice(network, batch_voxels=32**3)
    _, said = run(runtime, Asked(window=(32, 32, 32)))
    assert runtime.tried[0][0] > 1
    assert {s[0] for s in runtime.seen} == {1}
    assert len(said) == 1
    assert "one at a time" in said[0]


def test_slices_are_run_one_at_a_time() -> None:
    runtime = phantom.OnDevice(network, batch_voxels=96 * 64)
    found, said = run(runtime, strategy="slices")
    assert set(runtime.seen) == {(1, 2, 96, 64, 1)}
    assert found.strategy == "slices"
    assert "slices are run one at a time" in said[0]


def test_a_network_of_one_size_keeps_its_windows() -> None:
    runtime = phantom.OnDevice(network, batch_voxels=48**3)
    run(runtime, input_shape=(48, 48, 48))
    assert {s[2:] for s in runtime.tried} == {(48, 48, 48)}


def test_the_cpu_comes_last_and_runs_the_models_own_way() -> None:
    runtime, cpu = phantom.OnDevice(network, batch_voxels=10), phantom.Fake(network)
    found, said = run(runtime, on_cpu=lambda: cpu)
    assert runtime.seen == []
    assert cpu.seen == [(1, 2, *SHAPE)]
    assert found.runtime is cpu
    assert found.strategy == "whole"
    assert [s.split("; ")[1] for s in said] == [
        "it is run by windows of 48x32x32 voxels.",
        "it is run by windows of 32x32x32 voxels.",
        "logits are added up in the computer's memory.",
        "the model is run on the CPU.",
    ]


def cpu_without_memory() -> Any:
    runtime = phantom.OnDevice(network, batch_voxels=10)
    runtime.device = "cpu"
    return runtime


@pytest.mark.parametrize("on_cpu", [None, cpu_without_memory])
def test_nothing_left_to_try_is_an_error_in_words(on_cpu: Any) -> None:
    with pytest.raises(MemoryLimitError) as caught:
        run(phantom.OnDevice(network, batch_voxels=10), on_cpu=on_cpu)
    assert caught.value.exit_code == 6
    assert caught.value.next_step


def test_a_cpu_without_memory_tries_smaller_windows_but_not_itself() -> None:
    runtime = cpu_without_memory()
    with pytest.raises(MemoryLimitError):
        run(runtime, on_cpu=lambda: pytest.fail("it is the CPU"))
    assert list(dict.fromkeys(s[2:] for s in runtime.tried)) == [SHAPE, (48, 32, 32), (32, 32, 32)]


def test_a_rule_is_never_cut_into_windows() -> None:
    runtime = phantom.OnDevice(network, batch_voxels=10)
    with pytest.raises(MemoryLimitError):
        run(runtime, runtime="threshold")
    assert runtime.tried == [(1, 2, *SHAPE)]


def test_what_a_failed_pass_held_is_free_before_the_next_one() -> None:
    held: list[weakref.ref[Any]] = []

    class Holding(phantom.OnDevice):  # type: ignore[misc]  # made at run time
        def run(self, batch: Any) -> Any:
            alive = [ref() is not None for ref in held]
            assert not any(alive)
            features = np.zeros(10)
            if not held:
                held.append(weakref.ref(features))
                try:
                    raise RuntimeError("CUDA out of memory")
                except RuntimeError as error:
                    raise MemoryLimitError("Full.", "x", "y") from error
            return super().run(batch)

    gc.disable()
    try:
        run(Holding(network))
    finally:
        gc.enable()
    assert held


def test_a_plan_with_too_little_memory_is_said_before_anything_runs() -> None:
    runtime = phantom.Fake(network, free_bytes=180 * 10**6)
    found, said = run(runtime)
    assert found.strategy == "windows"
    assert {s[2:] for s in runtime.seen} == {(48, 48, 48)}
    assert len(said) == 1
    assert "in parts" in said[0]
    assert "only 0.1 GB" in said[0]
