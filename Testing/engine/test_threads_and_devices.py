"""Threads from what the process may use, devices from nvidia-smi, precisions from the processor's own flags."""

import os
import platform
import stat
import sys
from importlib import util
from types import SimpleNamespace

import psutil
import pytest

from strokeseg.errors import DependencyError, InputError
from strokeseg.models import ModelStore
from strokeseg.runtime import devices as rooms
from strokeseg.runtime import open_runtime
from strokeseg.runtime.cgroup import cpu_quota, memory_left_bytes
from strokeseg.runtime.precision import cpu_precision, native_precisions
from strokeseg.runtime.threads import usable_threads

MB = 2**20


def machine(tmp_path, own, mounts, files):
    """A folder with ``proc`` and control groups as on a Linux machine."""
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text(own)
    (tmp_path / "proc/self/mountinfo").write_text(mounts)
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


V2 = "31 23 0:28 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup rw\n"
V1_CPU = "32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n"
V1_MEMORY = "35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"


def test_version_2_takes_the_least_quota_of_all_nested_groups(tmp_path):
    files = {
        "sys/fs/cgroup/job/cpu.max": "150000 100000",
        "sys/fs/cgroup/job/step/cpu.max": "max 100000",
        "sys/fs/cgroup/job/step/task/cpu.max": "800000 200000",
    }
    assert cpu_quota(machine(tmp_path, "0::/job/step/task\n", V2, files)) == 1.5


def test_version_2_without_limit_has_no_quota(tmp_path):
    assert cpu_quota(machine(tmp_path, "0::/job\n", V2, {"sys/fs/cgroup/job/cpu.max": "max 100000"})) is None


def test_version_1_takes_the_least_quota_of_all_nested_groups(tmp_path):
    files = {
        "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "-1",
        "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000",
        "sys/fs/cgroup/cpu,cpuacct/docker/cpu.cfs_quota_us": "300000",
        "sys/fs/cgroup/cpu,cpuacct/docker/cpu.cfs_period_us": "100000",
        "sys/fs/cgroup/cpu,cpuacct/docker/abc/cpu.cfs_quota_us": "-1",
        "sys/fs/cgroup/cpu,cpuacct/docker/abc/cpu.cfs_period_us": "100000",
    }
    assert cpu_quota(machine(tmp_path, "3:cpu,cpuacct:/docker/abc\n0::/\n", V1_CPU, files)) == 3.0


def test_a_container_that_sees_its_outer_path_finds_its_own_group(tmp_path):
    mount = "32 31 0:29 /docker/abc /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n"
    files = {"sys/fs/cgroup/cpu/cpu.cfs_quota_us": "200000", "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000"}
    assert cpu_quota(machine(tmp_path, "3:cpu:/docker/abc\n", mount, files)) == 2.0


def test_a_path_of_another_name_space_leads_to_the_mount_itself(tmp_path):
    files = {"sys/fs/cgroup/cpu.max": "200000 100000", "sys/fs/other/cpu.max": "1 100000"}
    assert cpu_quota(machine(tmp_path, "0::/../../other\n", V2, files)) == 2.0


def test_a_system_without_control_groups_has_no_limits(tmp_path):
    assert cpu_quota(tmp_path) is None
    assert memory_left_bytes(tmp_path) is None


def test_torn_control_group_files_are_no_limits(tmp_path):
    root = machine(tmp_path, "nonsense\n::\n0::/job\n", "x\n" + V2, {"sys/fs/cgroup/job/cpu.max": "many 0 1"})
    assert cpu_quota(root) is None


def test_memory_left_is_the_limit_less_what_cannot_be_given_back(tmp_path):
    files = {
        "sys/fs/cgroup/job/memory.max": str(1000 * MB),
        "sys/fs/cgroup/job/memory.current": str(700 * MB),
        "sys/fs/cgroup/job/memory.stat": f"anon {400 * MB}\ninactive_file {200 * MB}\n",
    }
    assert memory_left_bytes(machine(tmp_path, "0::/job\n", V2, files)) == 500 * MB


def test_version_1_writes_no_memory_limit_as_a_huge_one(tmp_path):
    files = {
        "sys/fs/cgroup/memory/a/memory.limit_in_bytes": "9223372036854771712",
        "sys/fs/cgroup/memory/a/memory.usage_in_bytes": "1",
    }
    assert memory_left_bytes(machine(tmp_path, "4:memory:/a\n", V1_MEMORY, files)) is None


@pytest.mark.parametrize(
    ("processors", "bound_to", "quota", "threads"),
    [
        (16, 16, None, 15),
        (4, 4, None, 3),
        (3, 3, None, 3),
        (1, 1, None, 1),
        (16, 2, None, 2),
        (16, 16, "250000 100000", 2),
        (16, 16, "50000 100000", 1),
        (16, 16, "800000 100000", 7),
    ],
)
def test_threads_are_the_least_of_all_limits_and_one_less_from_four_on(
    tmp_path, monkeypatch, processors, bound_to, quota, threads
):
    monkeypatch.delenv("STROKESEG_THREADS", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: processors)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(bound_to)), raising=False)
    files = {"sys/fs/cgroup/job/cpu.max": quota} if quota else {}
    assert usable_threads(machine(tmp_path, "0::/job\n", V2, files)) == threads


def test_the_environment_overrides_the_threads(tmp_path, monkeypatch):
    monkeypatch.setenv("STROKESEG_THREADS", " 5 ")
    assert usable_threads(tmp_path) == 5


@pytest.mark.parametrize("word", ["0", "-1", "two", "1.5", "99999"])
def test_threads_that_are_no_number_are_refused(monkeypatch, word):
    monkeypatch.setenv("STROKESEG_THREADS", word)
    with pytest.raises(InputError, match=word):
        usable_threads()


# --- devices


def nvidia_smi(tmp_path, monkeypatch, script):
    """Nothing on PATH but an nvidia-smi of our own; `script` None: not even that."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if script is not None:
        if sys.platform == "win32":
            pytest.skip("the program is a shell script")
        path = folder / "nvidia-smi"
        path.write_text("#!/bin/sh\n" + script)
        path.chmod(path.stat().st_mode | stat.S_IXUSR)


def printing(*lines):
    return "".join(f"echo '{line}'\n" for line in lines)


TWO = printing(
    "0, GPU-aaaa-1, 81559, 80994, NVIDIA H100 80GB HBM3", "1, GPU-bbbb-2, 24564, 20000, NVIDIA GeForce RTX 4090, Ti"
)


def test_without_nvidia_smi_there_is_only_the_cpu(tmp_path, monkeypatch):
    nvidia_smi(tmp_path, monkeypatch, None)
    monkeypatch.setattr(platform, "system", lambda: "Linux")
    (cpu,) = rooms.devices()
    assert (cpu.name, cpu.kind) == ("cpu", "cpu")
    assert cpu.memory_total_mb == psutil.virtual_memory().total // MB
    assert 0 < cpu.memory_free_mb <= cpu.memory_total_mb


def test_gpus_are_named_with_their_memory(tmp_path, monkeypatch):
    nvidia_smi(tmp_path, monkeypatch, TWO)
    gpus = rooms.nvidia_gpus()
    assert gpus == [
        rooms.Device("cuda:0", "cuda", "NVIDIA H100 80GB HBM3", 81559, 80994),
        rooms.Device("cuda:1", "cuda", "NVIDIA GeForce RTX 4090, Ti", 24564, 20000),
    ]
    assert [d["name"] for d in rooms.describe_devices()][:3] == ["cpu", "cuda:0", "cuda:1"]


@pytest.mark.parametrize(
    ("visible", "titles"),
    [
        ("1", ["NVIDIA GeForce RTX 4090, Ti"]),
        ("1,0", ["NVIDIA GeForce RTX 4090, Ti", "NVIDIA H100 80GB HBM3"]),
        ("GPU-aaaa", ["NVIDIA H100 80GB HBM3"]),
        ("", []),
        ("-1", []),
        ("0,7,1", ["NVIDIA H100 80GB HBM3"]),
    ],
)
def test_gpus_are_counted_as_cuda_counts_them(tmp_path, monkeypatch, visible, titles):
    nvidia_smi(tmp_path, monkeypatch, TWO)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    gpus = rooms.nvidia_gpus()
    assert [g.title for g in gpus] == titles
    assert [g.name for g in gpus] == [f"cuda:{i}" for i in range(len(titles))]


def test_memory_that_a_gpu_does_not_tell_is_not_known(tmp_path, monkeypatch):
    nvidia_smi(tmp_path, monkeypatch, printing("0, GPU-1, [N/A], [N/A], Orin"))
    assert rooms.nvidia_gpus() == [rooms.Device("cuda:0", "cuda", "Orin", None, None)]


@pytest.mark.parametrize(
    "script",
    [
        "echo 'Failed to initialize NVML: Driver/library version mismatch'\nexit 18\n",
        printing("No devices were found"),
        printing("", ",,,,", "x, y"),
        r"printf '\377\376\000\001'" + "\n",
    ],
)
def test_an_nvidia_smi_that_fails_means_no_gpu(tmp_path, monkeypatch, script):
    nvidia_smi(tmp_path, monkeypatch, script)
    assert rooms.nvidia_gpus() == []


def test_an_nvidia_smi_that_hangs_is_not_waited_for(tmp_path, monkeypatch):
    nvidia_smi(tmp_path, monkeypatch, "exec /bin/sleep 60\n")
    monkeypatch.setattr(rooms, "_NVIDIA_SMI_SECONDS", 0.2)
    assert rooms.nvidia_gpus() == []


@pytest.mark.parametrize(("spec", "names"), [(SimpleNamespace(), ["cpu", "mps"]), (None, ["cpu"])])
def test_an_apple_gpu_is_listed_where_pytorch_is_installed(tmp_path, monkeypatch, spec, names):
    nvidia_smi(tmp_path, monkeypatch, None)
    monkeypatch.setattr(platform, "system", lambda: "Darwin")
    monkeypatch.setattr(platform, "machine", lambda: "arm64")
    monkeypatch.setattr(util, "find_spec", lambda name: spec)
    assert [d.name for d in rooms.devices()] == names


def test_runtimes_at_hand_are_those_whose_library_is_installed(monkeypatch):
    monkeypatch.setattr(util, "find_spec", lambda name: SimpleNamespace() if name == "openvino" else None)
    assert rooms.runtimes_at_hand() == ["threshold", "openvino"]


def test_a_gpu_for_the_rule_is_refused_as_a_missing_device():
    with pytest.raises(DependencyError, match="a rule without network") as caught:
        open_runtime(ModelStore().card("adc-threshold"), "cuda:0")
    assert caught.value.exit_code == 5


# --- precision


@pytest.mark.parametrize(
    ("flags", "native"),
    [
        ("flags\t\t: fpu avx2 avx512f", {"fp32"}),
        ("flags\t\t: avx512f avx512_bf16", {"fp32", "bf16"}),
        ("flags\t\t: amx_bf16 amx_tile avx512_fp16", {"fp32", "bf16", "fp16"}),
        ("Features\t: fp asimd asimdhp", {"fp32", "fp16"}),
    ],
)
def test_precisions_come_from_the_flags_of_the_processor(tmp_path, flags, native):
    table = tmp_path / "cpuinfo"
    table.write_text(f"processor\t: 0\nmodel name\t: bf16 amx_bf16\n{flags}\n")
    assert native_precisions(["BF16", "FP16"], table) == native


def test_where_the_system_does_not_tell_the_runtime_is_believed(tmp_path):
    assert native_precisions(["FP32", "BF16", "INT8"], tmp_path / "none") == {"fp32", "bf16"}
    assert native_precisions((), tmp_path / "none") == {"fp32"}


def test_a_precision_that_the_processor_lacks_becomes_fp32_and_is_said():
    assert cpu_precision("bf16", frozenset({"fp32", "bf16"})) == ("bf16", ())
    used, (note,) = cpu_precision("fp16", frozenset({"fp32", "bf16"}))
    assert used == "fp32"
    assert note.code == "precision_not_native"
    assert "fp16" in note.message
    assert "AVX512-FP16" in note.message
