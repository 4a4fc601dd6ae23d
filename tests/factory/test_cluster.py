"""Work that is shared: the same pack, bit for bit, as of one process, also when workers are lost in the middle."""

import os
import shutil
import signal
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch

from crowd_imi.errors import FactoryError
from crowd_imi.factory import shards
from crowd_imi.factory.cluster.bench import Place
from crowd_imi.factory.cluster.processes import Processes
from crowd_imi.factory.render import Options, hired, render
from crowd_imi.pack import Pack
from crowd_imi.study import Study
from tests.factory.conftest import STUDY_TOML
from tests.tiny import write_study

TOML = STUDY_TOML.replace("[tasks]", "[recording]\nbatch = 16\n\n[tasks]")


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


def test_two_processes_give_the_bits_of_one_and_tell_how_far_they_are(one, tmp_path):
    study = like(one, tmp_path)
    watched = Watched("", 0, None)
    render(study, watched, Options(devices=("cpu", "cpu")))
    assert same(study, one)
    assert watched.totals["recording net"] == watched.seen["recording net"] == 132
    assert watched.totals["visualising"] == watched.seen["visualising"] == 2
    assert not list(study.recordings.glob("*/*/shards"))


@pytest.fixture(scope="module")
def cluster():
    """Two Ray nodes on this machine, whose addresses are its own and that tell nobody of themselves."""
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory(prefix="ray", dir="/tmp") as folder:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")  # else Ray takes 127.0.0.1 for this machine's outer address
        from ray.cluster_utils import Cluster

        node = {"num_cpus": torch.get_num_threads(), "object_store_memory": 80 * 2**20, "node_ip_address": "127.0.0.1"}
        head = {**node, "include_dashboard": False, "temp_dir": folder}  # short: sockets lie below it
        cluster = Cluster(initialize_head=True, head_node_args=head)
        try:
            yield cluster, cluster.add_node(**node)
        finally:
            cluster.shutdown()


def test_two_ray_nodes_give_the_bits_of_one_process_also_when_one_is_killed_in_the_middle(one, cluster, tmp_path, caplog):
    ray, node = cluster
    study = like(one, tmp_path)
    watched = Watched("recording net", 40, lambda: ray.remove_node(node, allow_graceful=False))
    render(study, watched, Options(cluster=ray.address))
    assert same(study, one)
    assert watched.seen["recording net"] == 132 and watched.seen["visualising"] == 2
    (said,) = [record.message for record in caplog.records if "of the cluster is lost" in record.message]
    assert "recording images" in said and "is done by another" in said
