"""Work that is shared: the same pack, bit for bit, as of one process, also when workers are lost in the middle."""

import multiprocessing
import os
import pickle
import shutil
import signal
import tempfile
from collections import deque
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from crowd_imi.cli.app import app
from crowd_imi.errors import FactoryError
from crowd_imi.factory.cluster.crew import Crew, Done, Failed, Lost
from crowd_imi.factory.cluster.processes import Processes
from crowd_imi.factory.groups import Group
from crowd_imi.factory.render import Options, hired, render
from crowd_imi.factory.visualize import Diverged
from crowd_imi.pack import Pack
from crowd_imi.study import Study
from tests.factory.conftest import STUDY_TOML
from tests.tiny import write_study

TOML = STUDY_TOML.replace("[tasks]", "[recording]\nbatch = 16\n\n[tasks]")
TOML = TOML.replace("units = 2\nnull = 1", "units = 5\nnull = 1").replace("steps = 2", "steps = 2\nat_once = 1")
VISUALISED = 5
"""Units, each a group of its own."""


@pytest.fixture(scope="module", autouse=True)
def quiet_ray():
    """Read by Ray when it is first imported: it tells nobody that it is used, and 127.0.0.1 stays what it is."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
        yield


@pytest.fixture(scope="module")
def one(rendered, tmp_path_factory) -> Study:
    """A study whose pack one process has made, in batches of 16: 132 files are nine shards."""
    study = like(rendered, tmp_path_factory.mktemp("one"))
    render(study)
    return study


def like(study: Study, folder: Path) -> Study:
    made = write_study(folder, TOML)
    shutil.copytree(study.images, made.images, copy_function=shutil.copy2)
    return made


def recordings(study: Study) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in study.recordings.glob("*/*/*") if path.name != "state.npz"}


def same(study: Study, one: Study) -> bool:
    return Pack(study.pack).digest == Pack(one.pack).digest and recordings(study) == recordings(one)


class Watched:
    """A ``track`` that does something once, when so many things of a step have come."""

    def __init__(self, what: str, when: int, then) -> None:
        self.what, self.when, self.then = what, when, then
        self.seen: dict[str, int] = {}
        self.totals: dict[str, int | None] = {}

    def __call__(self, things, what, total=None):
        self.totals[what] = total
        for done, thing in enumerate(things, 1):
            yield thing
            self.seen[what] = done
            if what == self.what and done == self.when:
                self.then()


def kill_one():
    multiprocessing.active_children()[0].kill()


def test_two_processes_give_the_bits_of_one_also_when_one_is_killed_in_the_middle(one, tmp_path, caplog):
    study = like(one, tmp_path)
    watched = Watched("recording net", 40, kill_one)
    render(study, watched, Options(devices=("cpu", "cpu")))
    assert same(study, one)
    assert watched.totals["recording net"] == watched.seen["recording net"] == 132
    assert watched.totals["visualising"] == watched.seen["visualising"] == VISUALISED
    assert not list(study.recordings.glob("*/*/shards")) and not multiprocessing.active_children()
    assert [record.message for record in caplog.records if " on cpu ended (exit status -9)" in record.message]


@pytest.fixture
def visualised(monkeypatch):
    """Workers in the order in which they are given groups. None is given a piece before both are ready."""
    begin, give, workers = Processes._begin, Processes._give, []

    def begin_and_wait(crew):
        count = begin(crew)
        assert all(worker.pipe.poll(100) for worker in crew._workers)
        return count

    def note_and_give(crew, worker, piece, attempt):
        if isinstance(piece, Group):
            workers.append(worker)
        give(crew, worker, piece, attempt)

    monkeypatch.setattr(Processes, "_begin", begin_and_wait)
    monkeypatch.setattr(Processes, "_give", note_and_give)
    return workers


def test_two_processes_share_visualising_also_when_one_is_killed_in_the_middle_of_it(
    one, tmp_path, monkeypatch, caplog, visualised
):
    study = like(one, tmp_path)
    with hired(study, Options(devices=("cpu", "cpu"))) as crew:
        monkeypatch.setattr("crowd_imi.factory.render.hired", lambda *_: nullcontext(crew))  # one crew for both renders
        render(study)
        assert same(study, one) and set(visualised) == {0, 1} and len(visualised) == VISUALISED

        visualised.clear()
        shutil.rmtree(study.pack)

        def kill_who_is_at_work():
            (worker,) = crew._there.difference(crew._idle)
            crew._workers[worker].process.kill()

        watched = Watched("visualising", 1, kill_who_is_at_work)
        render(study, watched)
    assert same(study, one) and set(visualised) == {0, 1} and len(visualised) == VISUALISED + 1
    assert watched.totals["visualising"] == watched.seen["visualising"] == VISUALISED
    assert "recording net" not in watched.seen  # it was whole: 132 images, of which the last shard has fewer than the others
    (said,) = [record.message for record in caplog.records if " on cpu ended (exit status -9)" in record.message]
    assert "; visualising net/" in said and said.endswith(" is done by another")


@dataclass(frozen=True)
class Number:
    """A piece of work for a crew that only pretends."""

    number: int

    @property
    def name(self) -> str:
        return f"number {self.number}"

    def work(self, bench, attempt):
        return self.number


class Pretended(Crew):
    """Two workers that answer at once; a script says who is lost, or fails, over which piece at which attempt."""

    kind = "cpu"

    def __init__(self, script):
        super().__init__()
        self.script, self.given, self.workers = script, [], []
        self.answers = deque()

    def close(self):
        pass

    def _begin(self):
        self.answers.extend((worker, Done(None)) for worker in range(2))
        return 2

    def _give(self, worker, piece, attempt):
        self.given.append((piece.number, attempt))
        self.workers.append(worker)
        self.answers.append((worker, self.script.get((piece.number, attempt), Done(piece.number))))

    def _next(self):
        return self.answers.popleft()

    def _called(self, worker):
        return f"worker {worker}"


def test_a_lost_workers_piece_is_done_by_another_as_a_later_attempt(caplog):
    crew = Pretended({(1, 0): Lost("is lost")})
    assert sorted(crew.do([Number(number) for number in range(4)])) == [(number, number) for number in range(4)]
    assert crew.given.count((1, 0)) == crew.given.count((1, 1)) == 1 and len(crew.given) == 5
    (said,) = [record.message for record in caplog.records]
    assert said.endswith(" is lost; number 1 is done by another")
    # The next pieces go to who is left.
    assert list(crew.do([Number(7)])) == [(0, 7)]


def test_a_worker_that_is_lost_while_it_waits_is_given_nothing_more():
    crew = Pretended({})
    assert list(crew.do([Number(0)])) == [(0, 0)]
    lost = crew.workers[0]
    crew._idle.sort(key=lambda worker: worker == lost)  # the other one is given the next piece
    crew.answers.append((lost, Lost("is lost")))
    assert list(crew.do([Number(1)])) == [(0, 1)]
    assert len(list(crew.do([Number(2), Number(3)]))) == 2
    assert lost not in crew.workers[1:]


def test_without_workers_a_run_ends_and_says_how_to_go_on():
    crew = Pretended({(0, 0): Lost("is lost"), (0, 1): Lost("is lost"), (1, 0): Lost("is lost")})
    with pytest.raises(FactoryError, match="is lost, and it was the last; run the same command again to go on"):
        list(crew.do([Number(0), Number(1)]))


def test_what_a_piece_raises_is_raised_here():
    crew = Pretended({(0, 0): Failed(FactoryError("the disk is full"))})
    with pytest.raises(FactoryError, match="the disk is full"):
        list(crew.do([Number(0)]))


def test_a_visualisation_without_numbers_comes_back_from_a_worker_as_it_was_raised():
    error = pickle.loads(pickle.dumps(Diverged("a/1, max: its visualisation gives NaN", "a", 1)))
    assert (str(error), error.layer, error.channel) == ("a/1, max: its visualisation gives NaN", "a", 1)


def test_a_cluster_that_is_not_there_is_said_at_once(one):
    for address, said in (("127.0.0.1:9", "Connection refused"), ("somewhere", "this is no HOST:PORT")):
        with pytest.raises(FactoryError, match=f"--cluster {address}: no Ray cluster can be joined there .*{said}"):
            render(one, options=Options(cluster=address))


def test_a_gpu_that_is_not_there_is_named(one):
    with pytest.raises(FactoryError, match=r"--devices cuda:90,cuda:91: this machine has .* GPUs, and so no cuda:90"):
        render(one, options=Options(devices=("cuda:90", "cuda:91")))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--devices", "gpu"), "write cpu or cuda:N"),
        (("--devices", "cpu,cuda:0"), "take one kind"),
        (("--devices", "cuda:0,cuda:0"), "name every GPU once"),
        (("--devices", "cpu,cpu", "--cluster", "auto"), "used together"),
    ],
)
def test_devices_that_make_no_sense_are_a_mistake_of_the_caller(one, options, said):
    done = CliRunner().invoke(app, ["render", str(one.folder), *options])
    assert done.exit_code == 2 and said in done.output


@pytest.fixture(scope="module")
def cluster():
    """Three Ray nodes on this machine: the head, and two that may be lost."""
    from ray.cluster_utils import Cluster

    with tempfile.TemporaryDirectory(prefix="ray", dir="/tmp") as folder, pytest.MonkeyPatch.context() as patched:
        patched.setenv("RAY_TMPDIR", folder)  # else it notes its address in /tmp/ray
        Path(folder, "ray").mkdir()  # and makes no folder for it
        node = {"num_cpus": torch.get_num_threads(), "object_store_memory": 80 * 2**20, "node_ip_address": "127.0.0.1"}
        head = {**node, "include_dashboard": False, "temp_dir": folder}  # short: sockets lie below it
        cluster = Cluster(initialize_head=True, head_node_args=head)
        try:
            yield cluster, [cluster.add_node(**node) for _ in range(2)]
        finally:
            cluster.shutdown()


@pytest.fixture
def working(monkeypatch):
    """Node → the process of its worker. None is given a piece before all are ready: one could do everything before that."""
    import ray

    from crowd_imi.factory.cluster.on_ray import OnRay

    begin, processes = OnRay._begin, {}

    def begin_and_wait(crew):
        count = begin(crew)
        ready, _ = ray.wait(list(crew._answers), num_returns=count, timeout=100)
        assert len(ready) == count == 3
        processes.update(ray.get([worker.__ray_call__.remote(whereabouts) for worker in crew._workers], timeout=60))
        return count

    monkeypatch.setattr(OnRay, "_begin", begin_and_wait)
    return processes


def whereabouts(_):
    import ray

    return ray.get_runtime_context().get_node_id(), os.getpid()


def test_a_run_that_loses_the_last_worker_of_a_cluster_says_so_and_the_next_goes_on(one, cluster, monkeypatch, tmp_path):
    import ray

    from crowd_imi.factory.cluster.on_ray import OnRay

    begin, workers = OnRay._begin, []

    def begin_with_one(crew):
        crew._count = 1
        begin(crew)
        workers.extend(crew._workers)
        return 1

    def kill_it():
        ray.kill(workers[0])

    monkeypatch.setattr(OnRay, "_begin", begin_with_one)
    study = like(one, tmp_path)
    with pytest.raises(FactoryError, match=r"worker 0 of the cluster is lost .* it was the last; run the same command again"):
        render(study, Watched("recording net", 40, kill_it), Options(cluster=cluster[0].address))
    assert not (study.pack / "manifest.json").exists()
    again = Watched("nothing", 0, None)
    render(study, again)
    assert same(study, one) and not list(study.recordings.glob("*/*/shards"))
    assert again.seen["recording net"] == again.totals["recording net"] <= 132 - 2 * 16  # two batches were kept, or three


def test_workers_that_never_come_are_not_waited_for_for_ever(one, cluster, monkeypatch, tmp_path):
    from crowd_imi.factory.cluster import on_ray

    begin = on_ray.OnRay._begin

    def begin_without_room(crew):  # as after a machine has gone, whose processors were counted
        crew._cpus = 10_000
        return begin(crew)

    monkeypatch.setattr(on_ray.OnRay, "_begin", begin_without_room)
    monkeypatch.setattr(on_ray, "COMING_SECONDS", 1)
    with pytest.raises(FactoryError, match="of the cluster didn't come within 1 s, and it was the last; run the same command"):
        render(like(one, tmp_path), options=Options(cluster=cluster[0].address))


def test_ray_nodes_give_the_bits_of_one_process_also_when_one_is_killed_while_recording_and_one_while_visualising(
    one, cluster, working, tmp_path, caplog
):
    ray, (first, second) = cluster

    def end(node):
        ray.remove_node(node, allow_graceful=False)
        with suppress(ProcessLookupError):  # without its node a worker goes on for seconds
            os.kill(working[node.node_id], signal.SIGKILL)

    study = like(one, tmp_path)
    # When a group has come, each of the two workers that are left has one in hand, or is about to be given the next.
    recorded = Watched("recording net", 40, lambda: end(first))
    visualised = Watched("visualising", 1, lambda: end(second))
    render(
        study,
        lambda things, what, total=None: visualised(recorded(things, what, total), what, total),
        Options(cluster=ray.address),
    )
    assert same(study, one)
    assert visualised.seen["recording net"] == 132
    assert visualised.totals["visualising"] == visualised.seen["visualising"] == VISUALISED
    lost = [record.message for record in caplog.records if "of the cluster is lost" in record.message]
    assert len(lost) == 2 and all(said.endswith(" is done by another") for said in lost)
    assert "; recording images" in lost[0] and "; visualising net/" in lost[1]
