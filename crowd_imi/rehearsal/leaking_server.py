"""``python -m crowd_imi.rehearsal.leaking_server``: the real server with a planted leak in front of its pages."""

import argparse
import os
from pathlib import Path

from crowd_imi.files import write_atomically
from crowd_imi.pages import places
from crowd_imi.pages.app import create_app
from crowd_imi.pages.server import Site, WsgiApp, listen, serve_sites
from crowd_imi.plan import load_plan
from crowd_imi.platforms.local import LocalPlatform
from crowd_imi.records import Serving
from crowd_imi.rehearsal.leaks import Leaking
from crowd_imi.rehearsal.records import LeakName
from crowd_imi.store import Store
from crowd_imi.store.engine import database_urls
from crowd_imi.study import Study, load_study

LOOPBACK = "127.0.0.1"


def serve(study: Study, name: str, leak: LeakName, ports: tuple[int, int]) -> None:
    """Serve a rehearsal's pages through a leak, and the list of places as it is, until told to stop.

    Args:
        study: that is rehearsed.
        name: of the rehearsal.
        leak: to plant.
        ports: of the pages and of the list of places; 0 lets the system choose.
    """
    folder = study.rehearsal(name)

    def leaking() -> WsgiApp:
        store = Store.open(*database_urls(folder))
        app = create_app(study, store, LocalPlatform(folder / "local.db"), run_folder=folder)
        return Leaking(app, store, leak, load_plan(study.plan).grid)

    sites = (
        Site(leaking, listen(LOOPBACK, ports[0])),
        Site(lambda: places.create_app(LocalPlatform(folder / "local.db")), listen(LOOPBACK, ports[1])),
    )
    serving = Serving(pages=sites[0].address, places=sites[1].address, pid=os.getpid())
    platform = LocalPlatform(folder / "local.db")
    platform.set_base_url(sites[1].address)
    platform.close()
    serve_sites(sites, 1, lambda: write_atomically(folder / "serving.json", serving.model_dump_json().encode()))


def main() -> None:
    """Read the command line, which ``rehearsal.server`` writes."""
    parser = argparse.ArgumentParser(prog="leaking_server")
    parser.add_argument("study", type=Path)
    parser.add_argument("name")
    parser.add_argument("leak", type=LeakName, choices=list(LeakName))
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--places-port", type=int, default=0)
    asked = parser.parse_args()
    serve(load_study(asked.study), asked.name, asked.leak, (asked.port, asked.places_port))


if __name__ == "__main__":
    main()
