"""The result file: a job's metrics as OpenAI's CSV, one line per step."""

import csv
import io

from sqlalchemy import select

from models.database import Database
from models.files import RESULTS, Files
from models.settings import Settings
from train.tables import FineTuningEventRow

COLUMNS = ("step", "train_loss", "train_accuracy", "valid_loss", "valid_mean_token_accuracy")


def store_results(settings: Settings, database: Database, job_id: str) -> str:
    """Stores the file and returns its id. Cells of metrics that were not measured are empty."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    query = select(FineTuningEventRow.data).where(
        FineTuningEventRow.job == job_id, FineTuningEventRow.type == "metrics"
    )
    with database.read() as session:
        for data in session.scalars(query.order_by(FineTuningEventRow.step)):
            row = data or {}
            train = row.get("train_mean_token_accuracy", row.get("train_reward_accuracy", ""))
            valid = row.get("valid_mean_token_accuracy", row.get("valid_reward_accuracy", ""))
            writer.writerow([row["step"], row["train_loss"], train, row.get("valid_loss", ""), valid])
    return Files(settings, database).store("step_metrics.csv", out.getvalue().encode(), RESULTS).id
