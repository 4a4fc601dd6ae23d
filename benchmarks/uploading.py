"""Uploading sprites in parallel against one after another, to a storage behind a network that takes 50 ms.

For ``benchmarks.publish``, whose figure ``upload_ratio`` this is. moto's server runs in a process of its own, so that both
sides find it equally quick.
"""

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
import numpy as np
from botocore.config import Config

from crowd_imi.publisher.hosting import WORKERS, File, upload

DELAY_SECONDS = 0.05
SPRITES = 45
"""Of one task."""
SPRITE_BYTES = 120_000
ROUNDS = 5
BUCKET = "lab"


def upload_ratio(rounds: int = ROUNDS, sprites: int = SPRITES, workers: int = WORKERS) -> float:
    """How many times as fast sprites are uploaded by several workers as by one.

    Both sides take turns, each round into keys of its own; of either, the median counts.

    Args:
        rounds: turns of each side.
        sprites: uploaded in a turn.
        workers: of the parallel side.
    """
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder, _storage() as url:
        paths = [Path(folder) / f"{number}.avif" for number in range(sprites)]
        for path in paths:
            path.write_bytes(rng.bytes(SPRITE_BYTES))
        client = _client(url)
        client.create_bucket(Bucket=BUCKET)
        upload(client, BUCKET, [File("warm/" + path.name, path) for path in paths], workers)  # connections are opened, too
        taken: dict[int, list[float]] = {1: [], workers: []}
        for turn in range(rounds):
            for many, seconds in taken.items():
                begin = time.perf_counter()
                upload(client, BUCKET, [File(f"{turn}-{many}/{path.name}", path) for path in paths], many)
                seconds.append(time.perf_counter() - begin)
        client.close()
    return statistics.median(taken[1]) / statistics.median(taken[workers])


def _client(url: str) -> Any:  # noqa: ANN401 (boto3 has no types)
    config = Config(max_pool_connections=2 * WORKERS, request_checksum_calculation="when_required")
    secrets = {"aws_access_key_id": "AKIABENCHMARK0000000", "aws_secret_access_key": "nothing"}
    return boto3.Session().client("s3", endpoint_url=url, region_name="us-east-1", config=config, **secrets)


@contextmanager
def _storage() -> Iterator[str]:
    server = subprocess.Popen([sys.executable, "-m", "benchmarks.uploading"], stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        url = server.stdout.readline().strip()
        if not url:
            raise RuntimeError("moto's server didn't start; is it installed (crowd-imi[test])?")
        yield url
    finally:
        server.terminate()
        server.wait(10)
        if server.stdout is not None:
            server.stdout.close()


def _serve() -> None:
    """Run moto's server, every answer of which is late; says where it is."""
    import logging

    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import WSGIRequestHandler, make_server

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    moto = DomainDispatcherApplication(create_backend_app)

    def late(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        time.sleep(DELAY_SECONDS)
        answer: Iterable[bytes] = moto(environ, start_response)
        return answer

    WSGIRequestHandler.protocol_version = "HTTP/1.1"  # as S3, which keeps connections
    server = make_server("127.0.0.1", 0, late, threaded=True)
    sys.stdout.write(f"http://127.0.0.1:{server.server_port}\n")
    sys.stdout.flush()
    server.serve_forever()


if __name__ == "__main__":
    _serve()
