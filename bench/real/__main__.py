"""A real base, end to end: data, plan, LoRA beside TRL, merge, real engines, held-out questions, DPO, parity.

    python -m bench.real [--base FOLDER] [--folder FOLDER] [--fresh] [--quick] [--until STAGE] [--json]

Each stage is stored in `--folder` when it ends. The same command continues a stopped run, and a training from its
last checkpoint. Exit status 2 without the data (../shared/data/bitext) or the base.
"""

import json
import signal
import sys
import tempfile
from pathlib import Path

from bench.evals import bitext
from bench.progress import print_progress
from bench.real.options import Options, parse_options, require_data
from bench.real.parts import split_requests
from bench.real.report import missed_goals, summarise, table
from bench.real.stages import Stages, Stopped, open_stages
from bench.support import conversations
from models.errors import Invalid, ParleyError

STAGES = ("data", "plan", "compare", "train", "serve", "score", "dpo")


def run_stages(options: Options, stages: Stages) -> dict[str, dict]:
    """Runs all stages, or those that are not stored yet; returns their results by name."""
    from bench.real.comparison import build_job, compare_training, with_end_of_text
    from bench.real.served_models import score_models, serve_and_ask
    from bench.real.training import Place, check_data, plan_training, train_adapter, train_preferences
    from models.database import open_database, upgrade
    from models.settings.settings import load_settings

    settings = load_settings(home=options.folder / "home", port=options.port, device="cpu")
    upgrade(settings)
    database = open_database(settings)
    parts = split_requests(bitext.read_requests(), options.sizes, options.seed)
    place = Place(options, settings, database, parts)

    def compare() -> dict:
        validation = conversations(parts.validation)[:2]
        with tempfile.TemporaryDirectory(prefix="parley-bench-") as folder:
            base = with_end_of_text(options.base, Path(folder) / "base")
            job, rows = build_job(
                conversations(parts.training), validation, base, options.sizes, options.threads
            )  # fmt: skip
            return compare_training(job, rows)

    try:
        results = {
            "data": stages.run("data", lambda: check_data(place)),
            "plan": stages.run("plan", lambda: plan_training(place)),
            "compare": stages.run("compare", compare),
            "train": stages.run("train", lambda: train_adapter(place)),
            "serve": stages.run("serve", lambda: serve_and_ask(place)),
        }
        answers = results["serve"]["answers"]
        results["score"] = stages.run("score", lambda: score_models(place, answers))
        rejected = answers["rejected"]["answers"]
        return results | {"dpo": stages.run("dpo", lambda: train_preferences(place, rejected))}
    finally:
        database.dispose()


def main(arguments: list[str] | None = None) -> int:
    """Runs the benchmark; returns the exit status: 2 without data or base."""
    options, output = parse_options(arguments, str(__doc__).splitlines()[0])
    try:
        require_data(options)
        if output.until not in (None, *STAGES):
            raise Invalid(f"there is no stage {output.until!r}: use one of {', '.join(STAGES)}.")
        stages = open_stages(options.folder, options.fingerprint(), fresh=output.fresh, until=output.until)
    except Invalid as error:
        print(f"bench.real: {error}", file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that Parley is stopped too
    try:
        result = summarise(run_stages(options, stages))
    except Stopped:
        print_progress(f"stopped after {output.until}: run the same command again to continue")
        return 0
    except ParleyError as error:
        print(f"bench.real: {error}", file=sys.stderr)
        return error.exit_code
    print(table(result))
    for line in missed_goals(result):
        print_progress(f"goal missed: {line}")
    if output.json:
        print(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
