"""Several processes train as one with a larger batch, see no sample twice, and none of them outlives a run."""

import csv
import json
import os
import runpy
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

torch = pytest.importorskip("torch", reason="training needs torch, which is not installed")
pytest.importorskip("lightning", reason="training needs lightning, which is not installed")

from lightning.fabric.plugins.environments import SLURMEnvironment, TorchElasticEnvironment  # noqa: E402

from strokeseg.errors import InputError, MemoryLimitError  # noqa: E402
from strokeseg.networks import build  # noqa: E402
from strokeseg_training.bank_writing import write_bank  # noqa: E402
from strokeseg_training.fit.batches import TrainingBatches  # noqa: E402
from strokeseg_training.fit.checkpoints import latest, load_checkpoint  # noqa: E402
from strokeseg_training.fit.course import Limits  # noqa: E402
from strokeseg_training.fit.launch import together  # noqa: E402
from strokeseg_training.fit.memory import estimate, refuse_too_much  # noqa: E402
from strokeseg_training.fit.module import TrainingModule  # noqa: E402
from strokeseg_training.fit.ranks import Ranks, find_environment, refuse_differences  # noqa: E402
from strokeseg_training.fit.run import Start, fit  # noqa: E402
from strokeseg_training.fit.sources import Sources  # noqa: E402
from strokeseg_training.recipe import recipe_of  # noqa: E402

phantom = SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("fit_phantom.py"))))
CPU = torch.device("cpu")
STEPS = 6
# A rank that ends like this has no chance to say anything.
PROGRAM = """
import os, signal
import typer
from strokeseg_training.cli_fit import fit
from strokeseg_training.fit.batches import TrainingBatches

usual = TrainingBatches.__getitem__

def deadly(self, number):
    if os.environ.get("DIES") == os.environ.get("LOCAL_RANK") and number == 5:
        os.kill(os.getpid(), signal.SIGKILL)
    return usual(self, number)

TrainingBatches.__getitem__ = deadly
typer.run(fit)
"""


def recipe(bank, **changes):
    """A network that normalises each sample alone, in crops of one size, so that no sample knows of another one."""
    data = {
        "data": {"bank": str(bank), "workers": 0, "flips": True},
        "preparation": {
            "spacing_mm": [4, 4, 4], "margin_voxels": 1, "multiple": 32, "channels": ["dwi_ratio", "adc"],
        },
        # Adam divides by the size of gradients: of those near 0 it would make a step of their rounding.
        "optimiser": {"lr": 0.01, "eps": 1e-4},
        "validation": {"every": 3, "bank": str(bank)},
        "checkpoint": {"every": 2},
        # The tissue is not weighed later on: its weights get no gradient then.
        "stages": [{"steps": 4}, {"steps": 2, "loss": {"tissue": 0}}],
    }  # fmt: skip
    return recipe_of(phantom.recipe_data(**{**data, **changes}), "test")


@pytest.fixture(scope="module")
def bank(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bank") / "bank"
    write_bank((phantom.patient(s) for s in range(1, 6)), folder, about={}, shard_size=2)
    return folder


@pytest.fixture(scope="module")
def program(tmp_path_factory, bank):
    folder = tmp_path_factory.mktemp("program")
    (folder / "program.py").write_text(PROGRAM)
    (folder / "r.yaml").write_text(recipe(bank).to_yaml())
    return folder


def start(program, out, *options, runner=(), **variables):
    """Run the program to its end with all its processes; none of them is left, whatever happens."""
    command = [sys.executable, *runner, "program.py", "--recipe", "r.yaml", "--out", str(out), "--device", "cpu"]
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("SLURM_", "TORCHELASTIC_"))}
    process = subprocess.Popen(
        [*command, "--devices", "2", *options], cwd=program, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True, env={**environment, "OMP_NUM_THREADS": "1", **variables},
    )  # fmt: skip
    session = process.pid
    try:
        said, errors = process.communicate(timeout=600)
        # Whose output has ended may still be ending.
        _, left = psutil.wait_procs(members(session), timeout=20)
    finally:
        for member in members(session):
            member.kill()
    return process.returncode, said, errors, left


def members(session):
    """Processes of a session that are alive."""
    found = []
    for process in psutil.process_iter():
        try:
            if os.getsid(process.pid) == session and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (ProcessLookupError, psutil.NoSuchProcess):
            continue
    return found


def rows(folder, name="train.csv"):
    with (folder / name).open() as file:
        return list(csv.DictReader(file))


def written(folder, name):
    """What must not depend on how often a run was interrupted, digit for digit."""
    return [{k: v for k, v in r.items() if k not in ("seconds_per_step", "waiting_share")} for r in rows(folder, name)]


def curve(folder, name="train.csv"):
    return [{k: float(v) for k, v in r.items()} for r in written(folder, name)]


def weights(folder):
    return load_checkpoint(latest(folder)[1]).weights


@pytest.fixture(scope="module")
def pair(program, tmp_path_factory):
    """A whole run of two processes that torchrun started."""
    out = tmp_path_factory.mktemp("pair") / "run"
    torchrun = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    code, said, errors, left = start(program, out, "--format", "json", runner=torchrun)
    assert code == 0, errors
    assert not left
    return out, said


# --- one curve


posix = pytest.mark.skipif(sys.platform == "win32", reason="sessions and signals of POSIX")


@posix
def test_two_processes_have_the_curve_of_one_with_a_double_batch(pair, bank, tmp_path):
    alone = fit(recipe(bank, batch=2), tmp_path / "alone", device="cpu")
    for name in ("train.csv", "validation.csv"):
        both, one = curve(pair[0], name), curve(alone.folder, name)
        assert len(both) == len(one) == (STEPS if name == "train.csv" else 2)
        for first, second in zip(both, one, strict=True):
            assert first == pytest.approx(second, abs=1e-5, nan_ok=True)
    ours, theirs = weights(pair[0]), load_checkpoint(alone.checkpoint).weights
    for name, value in theirs.items():
        torch.testing.assert_close(ours[name], value, rtol=0, atol=1e-4)


@posix
def test_only_the_first_process_speaks_and_counts_for_all(pair):
    out, said = pair
    result = json.loads(said)
    assert (result["step"], result["stopped_by"]) == (STEPS, "")
    assert result["loss"] == curve(out)[-1]["loss"]
    card = json.loads((out / "checkpoints" / f"step-{STEPS:08d}" / "card.json").read_text())["origin"]
    assert (card["steps"], card["processes"], card["patients_seen"]) == (STEPS, 2, 2 * STEPS)


@posix
@pytest.mark.parametrize("dies", ["1", "0"])
def test_a_killed_process_ends_all_and_the_run_goes_on_to_the_same_curve(pair, program, tmp_path, dies):
    code, _, errors, left = start(program, tmp_path / "run", DIES=dies)
    assert not left
    assert code == (-signal.SIGKILL if dies == "0" else 1)
    assert "Another process of the training was lost." in errors
    assert ("SIGKILL" if dies == "1" else "first process has ended") in " ".join(errors.split())
    # Four steps were done, and every second is saved; the last may have been in the making.
    step, checkpoint = latest(tmp_path / "run")
    assert step in (2, 4)
    load_checkpoint(checkpoint)
    if dies == "0":
        return
    code, said, errors, left = start(program, tmp_path / "run", "--resume")
    assert code == 0, errors
    assert not left
    assert said.count("Complete: step 6 of 6") == 1
    for name in ("train.csv", "validation.csv"):
        assert written(tmp_path / "run", name) == written(pair[0], name)
    mine, theirs = weights(tmp_path / "run"), weights(pair[0])
    assert all(torch.equal(mine[name], theirs[name]) for name in theirs)


@posix
def test_a_run_of_two_does_not_go_on_alone(pair, program, bank, tmp_path):
    shutil.copytree(pair[0], tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "checkpoints" / f"step-{STEPS:08d}")
    with pytest.raises(InputError, match="another number of processes"):
        fit(recipe(bank), tmp_path / "run", device="cpu", start=Start(resume=True))


# --- who does what


class Told(Ranks):
    """One of several processes; what the others would say is given."""

    def __init__(self, number, world, others=()):
        super().__init__()
        self.number, self.world, self._others = number, world, others

    def gather(self, mine):
        return [mine, *self._others]


@pytest.mark.parametrize("batch", [1, 2])
def test_samples_are_shared_without_repeats_and_together_are_a_larger_batch(bank, batch):
    def batches(size, share):
        given = recipe(bank, batch=size, loss={"tissue": 0.2})
        return TrainingBatches(given, CPU, Sources(), share)[1]

    whole = batches(3 * batch, (0, 1))
    parts = [batches(batch, (n, 3)) for n in range(3)]
    assert torch.equal(torch.cat([p.channels for p in parts]), whole.channels)
    assert torch.equal(torch.cat([p.target.lesion for p in parts]), whole.target.lesion)


class Place:
    """Of a module in a process: what Lightning's trainer says of it."""

    def __init__(self, rank):
        self.global_rank, self.optimizers = rank, [SimpleNamespace(param_groups=[{"lr": 0.0}])]


def test_each_process_drops_out_other_channels_and_the_same_again_after_a_resume():
    network = {"name": "attention-unet-3d", "arguments": {"features": 4, "levels": 2, "dropout": 0.2}}
    given = recipe("no bank", network=network, loss={}, stages=[{"steps": 6}])
    image = torch.rand(1, 2, 16, 16, 16, generator=torch.Generator().manual_seed(1))

    def shown(rank, step, first=0):
        module, place = TrainingModule(given, first_batch=first), Place(rank)
        module.trainer = place
        for number in range(first, step + 1):
            # Whatever was drawn before.
            torch.manual_seed(17 + first)
            module.batch_number = number
            module.on_train_batch_start(None, number)
            found = module.network.train()(image)
        return found["lesion"] if isinstance(found, dict) else found

    with torch.random.fork_rng(devices=[]):
        one, other = shown(0, 2), shown(1, 2)
        assert not torch.equal(one, other)
        assert not torch.equal(one, shown(0, 1))
        assert torch.equal(other, shown(1, 2, first=2))
        assert torch.equal(one, shown(0, 2, first=1))


def test_each_patient_is_scored_by_one_process_and_comes_back_at_its_place():
    world = [Told(n, 3) for n in range(3)]
    shares = [[*ranks.mine(7)] for ranks in world]
    assert sorted(n for share in shares for n in share) == [*range(7)]
    assert Told(0, 3, shares[1:]).joined(shares[0]) == [*range(7)]
    assert Told(0, 4, [[1], [], []]).joined([0]) == [0, 1]


def test_other_data_on_a_machine_are_named_and_said_once():
    facts = {"recipe": "a" * 64, "training data": "b" * 64}
    other = ("node7", {**facts, "training data": "c" * 64})
    with pytest.raises(InputError, match=r"training data is bbbbbbbbbbbb.* and cccccccccccc.* in process 1 on 'node7'"):
        refuse_differences(Told(0, 2, [other]), facts)
    with pytest.raises(SystemExit):
        refuse_differences(Told(1, 2, [other]), facts)
    refuse_differences(Told(0, 2, [("node7", facts)]), facts)


TORCHRUN = {
    "TORCHELASTIC_RUN_ID": "x", "RANK": "3", "LOCAL_RANK": "1", "GROUP_RANK": "1", "WORLD_SIZE": "4",
}  # fmt: skip
SLURM = {
    "SLURM_NTASKS": "4", "SLURM_NTASKS_PER_NODE": "2", "SLURM_NNODES": "2", "SLURM_PROCID": "3", "SLURM_LOCALID": "1",
    "SLURM_NODEID": "1", "SLURM_JOB_NAME": "train", "SLURM_JOB_ID": "12345",
}  # fmt: skip


@pytest.mark.parametrize(
    ("variables", "kind"), [(TORCHRUN, TorchElasticEnvironment), (SLURM, SLURMEnvironment)], ids=["torchrun", "slurm"]
)
def test_torchrun_and_slurm_say_which_process_this_is(monkeypatch, variables, kind):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    ranks = Ranks(2, 2, find_environment(2, 2))
    assert isinstance(ranks.environment, kind)
    assert (ranks.number, ranks.local, ranks.world, ranks.here) == (3, 1, 4, 2)
    assert not ranks.first
    assert not ranks.starts_others
    # Lightning's own checkpoints would be found again in place of ours.
    assert not getattr(ranks.environment, "auto_requeue", False)
    with pytest.raises(InputError, match="number of processes"):
        find_environment(1, 1)


def test_processes_of_other_machines_are_not_waited_for_where_nobody_starts_them():
    with pytest.raises(InputError, match="torchrun"):
        find_environment(1, 2)


def test_a_notebook_is_refused_and_nothing_is_left_behind(monkeypatch):
    monkeypatch.setattr(sys, "ps1", ">>> ", raising=False)
    with pytest.raises(InputError, match="interactive"), together(Ranks(2)):
        pass
    assert "LOCAL_RANK" not in os.environ


# --- memory


def test_a_run_that_would_not_fit_says_so_before_it_begins_and_what_would(bank, tmp_path):
    network = {"name": "attention-unet-3d", "arguments": {"features": 4, "levels": 2}}
    given = recipe(bank, network=network, batch=4, loss={}, stages=[{"steps": 2}])
    needs = estimate(given, (4, 2, 32, 32, 32)).total
    with pytest.raises(MemoryLimitError, match="would not fit") as caught:
        fit(given, tmp_path / "run", device="cpu", limits=Limits(memory_gb=0.6 * needs / 1e9))
    assert not (tmp_path / "run").exists()
    assert "--set batch=1 --set accumulation=4" in caught.value.next_step
    assert "--set network.arguments.checkpointing=true" in caught.value.next_step
    # What it says is true.
    less = recipe(bank, network=network, batch=1, accumulation=4, loss={}, stages=[{"steps": 1}])
    fit(less, tmp_path / "run", device="cpu", limits=Limits(memory_gb=0.6 * needs / 1e9))


def test_what_helps_for_certain_is_named_first_and_half_precision_with_doubt_where_nothing_else_does():
    def refused(given, limit, shape):
        with pytest.raises(MemoryLimitError) as caught:
            refuse_too_much(given, shape, limit)
        return caught.value.next_step

    network = {"name": "attention-unet-3d", "arguments": {"features": 4, "levels": 2}}
    data = phantom.recipe_data(network=network, batch=2, data={"prepared": "set", "workers": 0}, stages=[{"steps": 2}])
    del data["loss"]
    data["datasets"] = {"layout": "isles22", "classes": [{"name": "lesion"}], "patches": {"size": [32, 32, 32]}}
    given, shape = recipe_of(data, "test"), (2, 2, 32, 32, 32)
    said = refused(given, int(0.8 * estimate(given, shape).total), shape)
    settings = ["batch=1 --set accumulation=2", "datasets.patches.size=[16,16,16]", "network.arguments.checkpointing"]
    places = [said.index(f"--set {text}") for text in settings]
    assert places == sorted(places)
    assert "bf16" not in said
    # One whole brain, and a network without checkpointing.
    alone = recipe("no bank", network={"name": "residual-unet", "arguments": {"channels": [4, 8]}}, batch=1)
    said = refused(alone, int(0.8 * estimate(alone, (1, 2, 32, 32, 32)).total), (1, 2, 32, 32, 32))
    assert said.startswith(
        "Take a smaller network or smaller crops. By the size of its maps alone --set precision=bf16"
    )
    assert "only 3 to 39 % less" in said


def test_a_network_that_cannot_be_played_through_is_no_reason_to_refuse(bank, monkeypatch):
    def counts(*_, **__):
        raise NotImplementedError

    monkeypatch.setattr(torch.nn.Conv3d, "forward", counts)
    assert estimate(recipe(bank), (1, 2, 32, 32, 32)) is None


def test_the_memory_of_a_step_is_counted_as_it_is():
    given = recipe("no bank", network={"name": "residual-unet", "arguments": {"channels": [4, 8]}})
    network = build("residual-unet", channels=[4, 8])
    size = 4 * sum(p.numel() for p in network.parameters())
    small, large = (estimate(given, (n, 2, 32, 32, 32)) for n in (1, 2))
    assert (small.weights, small.averaged, small.optimiser) == (size, size, 2 * size)
    maps = 4 * 32**3
    # Eight maps of the finest level are kept at least: both convolutions, norms and the decoder's block; at most a few
    # dozen are alive at a time.
    assert 32 * maps < small.step < 96 * maps
    # A second patient takes as much as the first, beside the gradients.
    assert large.step - small.step == pytest.approx(small.step - size, rel=0.05)


# --- deep supervision


def test_further_outputs_of_a_network_in_training_come_to_the_loss():
    objective = {"name": "dice-bce", "auxiliary": {"aux2": 0.5}}
    network = {"name": "attention-unet-3d", "arguments": {"features": 2, "levels": 2, "dropout": 0.0}}
    data = {k: v for k, v in phantom.recipe_data().items() if k != "loss"}
    data |= {"objective": objective, "network": network, "stages": [{"steps": 1}], "data": {"bank": "x", "workers": 0}}

    class Fake(Sources):
        def training(self, data, seed, device):
            return phantom.FakeSource()

    data["preparation"] = {**data["preparation"], "multiple": 4}
    given = recipe_of(data, "test")
    module = TrainingModule(given)
    batch = TrainingBatches(given, CPU, Fake())[0]
    with torch.no_grad():
        terms = module.terms(module.network, batch, 0)
    assert float(terms["loss"]) == pytest.approx(float(terms["dice"] + terms["entropy"] + 0.5 * terms["aux2"]))
    scored = module.terms(module.averaged, batch, 0)
    assert "aux2" not in scored
