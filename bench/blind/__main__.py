"""Searches for anything that reveals to a rater which model wrote an answer: names in the bytes, and times, counts and
sizes.

    python -m bench.blind [--battles 500] [--raters 50] [--seed 0] [--json]

Two hosted models draw their answers from the same texts and differ in name, speed and chunking. Raters come by invites
and vote over HTTP through a real gateway and page; all bytes that they receive are kept, those of every other address
that they can reach included. `names_found` counts responses with a name in them. A classifier guesses the model at the
left from what a browser can observe; 0.5 is chance. `upstream_accuracy` is the same classifier's on the models' own
seconds: what a page that shows each answer as soon as it is ready would reveal. Exit status 1 if a name was found, the
classifier is above chance, or one model is at the left too often.
"""

import argparse
import asyncio
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from bench.blind.battles import CAMPAIGN, VoteTraces, left_models, observed_features, vote_all
from bench.blind.canaries import CANARIES, CanaryServer, canary_server, count_names, encodings
from bench.blind.classifier import accuracy, wilson
from bench.rater_page import RaterPage
from evals.campaigns.campaign import NewCampaign, PromptSource
from evals.campaigns.invites import NewInvite, create_invite, sign_invite
from evals.votes.prompts import add_prompts
from models.home.page_secret import page_secret


def main(arguments: list[str] | None = None) -> int:
    """Runs the benchmark; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m bench.blind", description=__doc__.splitlines()[0])
    parser.add_argument("--battles", type=int, default=500)
    parser.add_argument("--raters", type=int, default=50, help="people who vote at the same time, at most 50")
    parser.add_argument("--seed", type=int, default=0, help="seed of the texts and votes")
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="parley-blind-") as folder:
        result = run(Path(folder), options.battles, min(options.raters, options.battles, 50), options.seed)
    print(json.dumps(result) if options.json else "\n".join(f"{name:20} {value}" for name, value in result.items()))
    fair = result["left_low"] <= 0.5 <= result["left_high"]
    return int(bool(result["names_found"]) or result["classifier_low"] > 0.5 or not fair)


def run(folder: Path, battles: int, raters: int, seed: int) -> dict[str, Any]:
    """Votes on this many pairs; returns the JSON object."""
    began = time.monotonic()
    with canary_server(seed) as canaries, RaterPage(folder / "home", canaries.upstreams()) as page:
        # Each pair has a prompt of its own, so that both models are asked while the rater waits.
        add_prompts(page.database, [{"prompt": f"Where is order {number}?"} for number in range(battles)], "bench")
        models = [canary.name for canary in CANARIES]
        page.open_campaign(NewCampaign(CAMPAIGN, models, PromptSource(stored="all"), reveal="never"))
        secret = page_secret(page.settings.home)
        invites = [create_invite(page.database, NewInvite(CAMPAIGN, f"Rater {n}")) for n in range(raters)]
        group = create_invite(page.database, NewInvite(CAMPAIGN, "Team", is_group=True))
        links = [f"/vote/i/{sign_invite(secret, invite.id)}" for invite in [*invites, group]]
        traces = asyncio.run(vote_all(page.settings.page_port, links[:-1], links[-1], battles, seed))
        left = left_models(page.database, traces.battles)
        faults = page.page_log().count("Traceback")
    is_first = np.array([model == CANARIES[0].name for model in left])
    return {
        "battles": len(traces.battles),
        "raters": raters,
        **_names(traces),
        **_guesses(traces, canaries, is_first, left),
        "faults": faults,
        "seconds": round(time.monotonic() - began, 1),
    }


def _names(traces: VoteTraces) -> dict[str, Any]:
    forms = encodings(tuple(name for canary in CANARIES for name in (canary.name, canary.upstream)))
    leaks = [exchange.request for exchange in traces.exchanges if count_names(exchange.raw, forms)]
    return {
        "responses": len(traces.exchanges),
        "bytes": sum(len(exchange.raw) for exchange in traces.exchanges),
        "names_found": len(leaks),
        "names_hidden": sum(battle.pair.raw.count(b"[name hidden]") for battle in traces.battles),
        "leaks": sorted(set(leaks)),
    }


def _guesses(traces: VoteTraces, canaries: CanaryServer, is_first: np.ndarray, left: list[str]) -> dict[str, Any]:
    groups = np.array([battle.rater for battle in traces.battles])
    guessed = accuracy(observed_features(traces.battles), is_first, groups)
    upstream = accuracy(_upstream_features(traces, canaries, left), is_first, groups)
    share = wilson(float(is_first.mean()), len(is_first))
    return {
        "classifier_accuracy": round(guessed.accuracy, 4),
        "classifier_low": round(guessed.low, 4),
        "classifier_high": round(guessed.high, 4),
        "upstream_accuracy": round(upstream.accuracy, 4),
        "left_share": round(share.accuracy, 4),
        "left_low": round(share.low, 4),
        "left_high": round(share.high, 4),
    }


def _upstream_features(traces: VoteTraces, canaries: CanaryServer, left: list[str]) -> np.ndarray:
    """(battles, 2): the seconds of the left and of the right model for this pair's prompt."""
    names = [canary.name for canary in CANARIES]
    rows = []
    for battle, model in zip(traces.battles, left, strict=True):
        prompt = battle.pair.json()["battle"]["messages"][-1]["text"]
        (other,) = (name for name in names if name != model)
        rows.append([canaries.seconds[model, prompt], canaries.seconds[other, prompt]])
    return np.array(rows)


if __name__ == "__main__":
    sys.exit(main())
