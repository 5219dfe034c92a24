"""A Prometheus in memory: it answers range selectors for a fleet that has a steady load.

A program, so that what it takes to make answers is not part of what is measured:
`python memory_prometheus.py SERVERS REPLICAS` says its port on standard output.
"""

from __future__ import annotations

import json
import random
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "cluster"))

from memory_cluster import MADE_AT, NAMESPACE, all_pods
from testbed.exposition import FINISHED_REASONS, ITL_NAME

SCRAPE_S = 30.0
SAMPLES = 5
RATE_RPS = 16.0
"""Of each pod; what it is sized for serves that in time."""


def _amounts() -> dict[str, tuple[dict[str, str], float, bool]]:
    """Metric (and reason): labels, what a request adds or the level, and whether it counts."""
    found: dict[str, tuple[dict[str, str], float, bool]] = {
        f"vllm:request_success_total/{reason}": (
            {"finished_reason": reason},
            1.0 if reason == "length" else 0.0,
            True,
        )
        for reason in FINISHED_REASONS
    }
    found["vllm:num_requests_running"] = {}, 9.0, False
    found["vllm:num_requests_waiting"] = {}, 0.0, False
    for name, each, times in (
        ("vllm:request_prompt_tokens", 128.0, 1.0),
        ("vllm:request_generation_tokens", 64.0, 1.0),
        ("vllm:time_to_first_token_seconds", 0.011, 1.0),
        (ITL_NAME, 0.63, 63.0),
    ):
        found[f"{name}_sum"] = {}, each, True
        found[f"{name}_count"] = {}, times, True
    return found


def answer(query: str, now: float, servers: int, replicas: int) -> str:
    """What Prometheus answers to a range selector of one or several metrics."""
    wanted = {
        key: value for key, value in _amounts().items() if f"{key.partition('/')[0]}" in query
    }
    series = []
    for at, (_, pod) in enumerate(all_pods(servers, replicas)):
        offset_s = random.Random(at).uniform(0.0, SCRAPE_S)
        newest = now - (now - offset_s) % SCRAPE_S
        times = [round(newest - SCRAPE_S * back, 3) for back in reversed(range(SAMPLES))]
        for key, (labels, amount, counts) in wanted.items():
            metric = {
                "__name__": key.partition("/")[0],
                "engine": "0",
                "instance": f"10.0.{at // 250}.{at % 250}:8000",
                "job": "servers",
                "model_name": "llama-8b",
                "namespace": NAMESPACE,
                "pod": pod,
                **labels,
            }
            values = [
                [time, f"{amount * int((time - MADE_AT) * RATE_RPS) if counts else amount:.9g}"]
                for time in times
            ]
            series.append({"metric": metric, "values": values})
    found = {"status": "success", "data": {"resultType": "matrix", "result": series}}
    return json.dumps(found, separators=(",", ":"))


def serve(servers: int, replicas: int) -> None:
    """Answer queries on a free port, which is said on standard output."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            asked = parse_qs(urlsplit(self.path).query)
            body = b'{"status":"success","data":{"resultType":"matrix","result":[]}}'
            if "time" in asked:
                now = float(asked["time"][0])
                body = answer(asked["query"][0], now, servers, replicas).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
            """No line for each query."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    print(server.server_port, flush=True)
    server.serve_forever()


if __name__ == "__main__":
    serve(int(sys.argv[1]), int(sys.argv[2]))
