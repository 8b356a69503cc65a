"""Each thing that can be wrong with a machine has its message, and its remedy."""

from __future__ import annotations

from dataclasses import replace

import pytest

from nlpkit_doctor.facts import Driver, Facts, Gpu, Torch
from nlpkit_doctor.judge import judge

H100 = Gpu(name="H100", memory=85 * 10**9, capability=(9, 0))
TORCH = Torch(
    version="2.7.1+cu128",
    cuda="12.8",
    available=True,
    cudnn="9.7.1",
    nccl="2.26.2",
    architectures=("sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120", "compute_120"),
    gpus=(H100,),
    current=0,
    matmul={"fp32": 51.0, "bf16": 780.0},
    rates={"copy": 2900.0},
)
WELL = Facts(
    system="Linux 6.1, x86_64",
    python="3.11.7, /opt/nlpkit/bin/python",
    packages={"torchvision": "0.22.1", "torchaudio": "2.7.1"},
    devices=True,
    module="550.54.15",
    driver=Driver(version="550.54.15", gpus=(H100,)),
    torch=TORCH,
    cores=(8, 8),
    memory=(64 * 10**9, 64 * 10**9),
    shared=(8 * 10**9, 8 * 10**9),
    disks=(("runs", "/runs", 100 * 10**9),),
    files=(65_536, 65_536),
    plugins=(10, ()),
)


def wrong(facts):
    return [finding for finding in judge(facts) if finding.state != "ok"]


def only(facts):
    (finding,) = wrong(facts)
    assert finding.meaning
    assert finding.remedy
    return finding


def gpu(**changes):
    return replace(WELL, torch=replace(TORCH, gpus=(replace(H100, **changes),)))


def test_a_good_machine_has_nothing_wrong_and_tells_what_it_has():
    assert wrong(WELL) == []
    shown = {finding.topic: finding.value for finding in judge(WELL)}
    assert shown["torch"] == "2.7.1+cu128, built for CUDA 12.8"
    assert shown["cuDNN"] == "9.7.1"
    assert shown["NCCL"] == "2.26.2"
    assert shown["torchvision"] == "0.22.1"
    assert shown["matrix product"] == "fp32 51, bf16 780 TFLOP/s on the GPU"
    assert shown["copy"] == "2.9e+03 GB/s"


@pytest.mark.parametrize(
    ("driver", "cuda", "floor", "image"),
    [
        ("470.256.02", "12.8", "525", "2.7.1-cuda11.8"),
        ("449.0", "11.8", "450", None),
        ("550.54.15", "13.0", "580", "2.7.1-cuda12.8"),
    ],
)
def test_a_driver_that_is_too_old_names_the_floor_and_an_image(driver, cuda, floor, image):
    old = replace(
        WELL,
        driver=Driver(version=driver, gpus=(H100,)),
        torch=replace(TORCH, available=False, gpus=(), cuda=cuda),
    )
    found = wrong(old)
    assert [finding.topic for finding in found] == ["NVIDIA driver", "GPUs"]
    assert found[0].state == "failure"
    assert f"needs {floor} or newer" in found[0].meaning
    assert (f"pytorch/pytorch:{image}" if image else f"from {floor} on") in found[0].remedy


@pytest.mark.parametrize("driver", ["525.60.13", "580.65.06"])
def test_a_driver_at_the_floor_is_new_enough(driver):
    assert wrong(replace(WELL, driver=Driver(version=driver, gpus=(H100,)))) == []


@pytest.mark.parametrize(
    ("capability", "image"),
    [((7, 0), "2.7.1-cuda12.6"), ((6, 1), "2.7.1-cuda12.6"), ((3, 7), None)],
)
def test_an_architecture_that_is_missing_names_the_image_that_has_it(capability, image):
    found = only(gpu(capability=capability))
    assert found.state == "failure"
    assert found.value == "compute capability {}.{}".format(*capability)
    assert "sm_75" in found.meaning
    assert (f"pytorch/pytorch:{image}" if image else "a newer GPU") in found.remedy


def test_a_new_gpu_under_an_old_image_is_sent_to_the_new_one():
    blackwell = gpu(capability=(12, 0))
    old = replace(blackwell.torch, architectures=("sm_50", "sm_80", "sm_90"))
    assert "cuda12.8" in only(replace(blackwell, torch=old)).remedy


@pytest.mark.parametrize("capability", [(7, 5), (8, 9), (12, 1), (13, 0)])
def test_kernels_run_on_later_minor_versions_and_ptx_on_all_later_ones(capability):
    assert wrong(gpu(capability=capability)) == []


def test_a_small_gpu_gets_settings_to_try():
    found = only(gpu(memory=6 * 10**9))
    assert found.state == "warning"
    assert "train.micro_batch_size=4" in found.remedy


def test_a_container_without_the_gpus_of_its_machine_is_a_failure():
    container = replace(WELL, container=True, devices=False, driver=None)
    found = only(replace(container, torch=replace(TORCH, available=False, gpus=())))
    assert found.state == "failure"
    assert "--gpus all" in found.remedy
    assert "NVIDIA container toolkit" in found.remedy


@pytest.mark.parametrize(
    ("place", "remedy"),
    [
        ({}, "install NVIDIA's driver"),
        ({"container": True}, "--gpus all"),
        ({"wsl": True}, "driver for Windows"),
    ],
)
def test_no_gpu_at_all_is_a_warning(place, remedy):
    torch = Torch(version="2.7.1+cpu")
    found = only(replace(WELL, driver=None, module="", devices=False, torch=torch, **place))
    assert found.state == "warning"
    assert remedy in found.remedy


def test_a_mac_has_no_cuda_and_nothing_is_wrong_with_that():
    mac = replace(
        WELL, system="Darwin 24.0, arm64", driver=None, module="", devices=False, shared=None
    )
    assert wrong(replace(mac, torch=Torch(version="2.7.1"))) == []


def test_a_driver_that_does_not_answer_is_a_failure_in_its_own_words():
    said = "nvidia-smi: Failed to initialize NVML: Driver/library version mismatch"
    mute = replace(WELL, driver=None, driver_fault=said)
    found = only(replace(mute, torch=replace(TORCH, available=False, gpus=())))
    assert (found.topic, found.state, found.meaning) == ("GPUs", "failure", said)
    assert "restart" in found.remedy


def test_a_driver_of_unknown_version_is_shown_as_it_is():
    unknown = replace(WELL, driver=Driver(version="[N/A]", gpus=(H100,)))
    assert wrong(unknown) == []


@pytest.mark.parametrize(
    ("change", "torch", "said"),
    [
        ({}, Torch(version="2.13.0+cpu"), "has no CUDA"),
        ({"hidden": "0"}, Torch(version="2.13.0+cpu"), "has no CUDA"),
        ({"hidden": ""}, replace(TORCH, available=False, gpus=()), "CUDA_VISIBLE_DEVICES"),
        ({"hidden": "0"}, replace(TORCH, available=False, gpus=()), "torch cannot use CUDA"),
        ({}, replace(TORCH, available=False, gpus=()), "torch cannot use CUDA"),
    ],
)
def test_gpus_that_torch_does_not_use_are_a_failure(change, torch, said):
    found = only(replace(WELL, torch=torch, **change))
    assert found.state == "failure"
    assert said in found.meaning


def test_without_torch_predicting_is_all_that_is_left():
    found = only(replace(WELL, torch=None))
    assert (found.topic, found.state) == ("torch", "warning")
    assert "nlpkit-sdk[train]" in found.remedy


def test_a_torch_that_crashes_is_a_failure():
    found = only(replace(WELL, torch=None, torch_fault="ended with signal 4: it said nothing"))
    assert (found.topic, found.state) == ("torch", "failure")


def test_a_kernel_that_does_not_run_is_a_failure():
    fault = "matmul: CUDA error: no kernel image is available for execution on the device"
    found = only(replace(WELL, torch=replace(TORCH, faults=(fault,))))
    assert (found.state, found.value) == ("failure", fault)


@pytest.mark.parametrize(
    "driver",
    [
        Driver(version="550.1", gpus=(H100,), processes=((4711, 3 * 10**9),)),
        Driver(version="550.1", gpus=(replace(H100, used=40 * 10**9),)),
    ],
)
def test_gpus_in_use_by_others_are_a_warning(driver):
    found = only(replace(WELL, driver=driver))
    assert (found.topic, found.state) == ("in use", "warning")
    assert "40.0 GB of 85.0 GB" in found.value or "process 4711: 3.0 GB" in found.value


@pytest.mark.parametrize(
    ("shared", "remedy"),
    [((64 * 2**20, 64 * 2**20), "--shm-size=2g"), ((8 * 10**9, 10**6), "df /dev/shm")],
)
def test_little_shared_memory_is_a_warning(shared, remedy):
    found = only(replace(WELL, shared=shared))
    assert "bus error" in found.meaning
    assert remedy in found.remedy


@pytest.mark.parametrize(
    ("change", "topic", "state", "value", "remedy"),
    [
        ({"threads": "16"}, "CPU cores", "warning", "8", "unset OMP_NUM_THREADS"),
        (
            {"memory": (2 * 10**9, 64 * 10**9)},
            "memory",
            "warning",
            "2.0 GB of 64.0 GB",
            "--memory",
        ),
        (
            {"disks": (("runs", "/runs", 5 * 10**9),)},
            "disk for runs",
            "warning",
            "5.0 GB free at /runs",
            "NLPKIT_RUNS",
        ),
        (
            {"disks": (("token store", "/c", 10**8),)},
            "disk for token store",
            "failure",
            "0.1 GB free at /c",
            "NLPKIT_CACHE",
        ),
        ({"files": (1024, 524_288)}, "open files", "warning", "1,024", "ulimit -n 65536"),
        (
            {"plugins": (9, ("echo (echo 1.0): no hook",))},
            "plugins",
            "failure",
            "echo (echo 1.0): no hook",
            "NLPKIT_DISABLED_PLUGINS",
        ),
        (
            {"ray": ("http://head:8265", "does not answer (refused)")},
            "Ray",
            "failure",
            "http://head:8265 does not answer (refused)",
            "RAY_ADDRESS",
        ),
        (
            {"ray": ("http://head:8265", "wants another token")},
            "Ray",
            "failure",
            "http://head:8265 wants another token",
            "RAY_AUTH_TOKEN",
        ),
    ],
)
def test_what_else_can_be_wrong(change, topic, state, value, remedy):
    found = only(replace(WELL, **change))
    assert (found.topic, found.state, found.value) == (topic, state, value)
    assert remedy in found.remedy
