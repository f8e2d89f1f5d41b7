"""A gateway and a page as processes over a home of their own, with hosted models and one campaign."""

import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Self

import psutil

from bench.gateway_process import GatewayProcess
from evals.campaigns.campaign import NewCampaign
from evals.campaigns.lifecycle import create_campaign, open_campaign
from models.keys import create_key
from models.registry.registry import Registry
from models.settings.environment import child_environment
from models.spec import ModelSpec, Upstream
from tests.stack import free_ports

_START_S = 120.0
_PAGE_KEY = "pk-of-the-bench-page-0123456789"


class RaterPage(GatewayProcess):
    """Both processes run inside the `with` block. Keys are on, so that raters are not taken for owners."""

    def __init__(self, home: Path, upstreams: Mapping[str, Upstream]) -> None:
        (page_port,) = free_ports(1)
        super().__init__(home, page_port=page_port, page_key=_PAGE_KEY)
        create_key(self.database, name="owner", role="owner")
        for name, upstream in upstreams.items():
            Registry(self.database).register(ModelSpec(id=name, kind="hosted", upstream=upstream))

    def __enter__(self) -> Self:
        super().__enter__()
        with (self.settings.home / "page.log").open("wb") as log:
            self._page = subprocess.Popen(
                [sys.executable, "-m", "parley", "page"], env=child_environment(self.settings),
                stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
            )  # fmt: skip
        deadline = time.monotonic() + _START_S
        while not self._is_answering():
            if self._page.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"The page is not ready: {self.page_log()[-500:]}")
            time.sleep(0.1)
        return self

    def __exit__(self, *_: object) -> None:
        self._page.terminate()
        self._page.wait(20)
        super().__exit__()

    def open_campaign(self, new: NewCampaign) -> None:
        """Creates a campaign and opens it."""
        create_campaign(self.database, new, self.settings.home)
        open_campaign(self.database, new.name)

    def page_log(self) -> str:
        """What the page has logged."""
        return (self.settings.home / "page.log").read_text("utf-8", "replace")

    def page_cpu_s(self) -> float:
        """CPU seconds that the page's process has used so far."""
        times = psutil.Process(self._page.pid).cpu_times()
        return times.user + times.system

    def _is_answering(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.settings.page_url}/health", timeout=5) as response:  # noqa: S310 -- our own page on loopback
                return response.status == 200
        except (urllib.error.URLError, OSError):
            return False
