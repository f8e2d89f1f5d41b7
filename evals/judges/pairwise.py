"""A judge compares two models: both orders, constrained JSON, canaries, resumable. `report` does the arithmetic."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from evals.campaign_tables import OPEN_CAMPAIGN
from evals.judges.answer_pairs import AnswerPair, collect_answer_pairs, select_prompts
from evals.judges.canaries import PAIRWISE_CALLS, CanaryTrial, pairwise_results, pairwise_trials
from evals.judges.human_agreement import agreement_by_category
from evals.judges.judge import BOTH_ORDERS, Judge, Judgment, mean_scores
from evals.judges.judgment_store import Judgments, JudgmentStore, Key
from evals.judges.labelled_pairs import load_labelled_pairs, load_votes
from evals.judges.report import JudgedPair, JudgedRun, JudgeReport, Outcome, build_report, combine_orders
from evals.judges.request import JudgeRequest
from evals.judges.rubric import store_rubric
from evals.request_pool import ReportProgress, RequestPool
from models.chat.messages import Completer
from models.database import Database
from models.errors import Invalid


async def judge_models(
    database: Database,
    completer_for: Callable[[str], Completer],
    request: JudgeRequest,
    report: ReportProgress | None = None,
) -> JudgeReport:
    """Has a judge compare two models' answers in both orders; the report is on the second model against the first.

    Stored answers and judgments are reused, the rest is requested. A judgment that could not be parsed is requested
    again.

    Args:
        request: its judge and models are ids, not aliases: what is stored belongs to one immutable version.

    Raises:
        Invalid: the number of samples is not 1 to 32.
        NotFound: there are no such prompts.
        Unavailable: no answer, or no judgment, could be obtained; the message says why.
    """
    judge = Judge(request.judge, completer_for(request.judge), request.rubric, request.samples, request.references)
    chosen = select_prompts(database, request.prompts)
    warning = await asyncio.to_thread(store_rubric, database, request.rubric)
    pool = RequestPool(len(chosen) * 3 + PAIRWISE_CALLS, report, request.concurrency)
    pairs = await collect_answer_pairs(database, completer_for, request.models, chosen, pool)
    pool.skip((len(chosen) - len(pairs)) * 2)
    notes = [*request.notes, *([warning] if warning else [])]
    comparison = Comparison(request.models, pairs, notes=notes, campaign=request.campaign)
    return await compare(JudgmentStore(database, judge), comparison, pool)


@dataclass(frozen=True)
class Comparison:
    """The pairs to judge. `unanswered` are rows without both answers; `turns` is each pair's turn by its id.

    `campaign`: the one whose votes the judge is compared with.
    """

    models: tuple[str, str]
    pairs: Sequence[AnswerPair]
    unanswered: Sequence[JudgedPair] = ()
    turns: Mapping[str, int] = field(default_factory=dict)
    notes: Sequence[str] = ()
    campaign: str = OPEN_CAMPAIGN


async def compare(store: JudgmentStore, comparison: Comparison, pool: RequestPool) -> JudgeReport:
    """The report on these pairs: judgments in both orders, canaries, and the judge's agreement with people.

    Args:
        pool: counts two requests for each pair and `canaries.PAIRWISE_CALLS`.

    Raises:
        ParleyError: there is no judgment at all; the last error.
    """
    judge, pairs = store.judge, comparison.pairs
    judgments = await store.collect(pairs, BOTH_ORDERS, pool, "judging")
    # A judge that refuses every question gives a report without verdicts; one that cannot be reached gives an error.
    if not judgments.by_key and any(not isinstance(error, Invalid) for error in pool.failures):
        raise pool.failures[-1]

    async def try_canary(trial: CanaryTrial) -> Judgment:
        return await judge.judge_answers(trial.pair, trial.answers, "12")

    trials = pairwise_trials(pairs)
    tried = await pool.map(trials, try_canary, "testing the judge")
    votes = await asyncio.to_thread(load_votes, store.database, [pair.id for pair in pairs], comparison.campaign)
    labelled = await asyncio.to_thread(
        load_labelled_pairs, store.database, judge.model, judge.rubric.hash, comparison.campaign
    )
    reversed_ = comparison.models[0] > comparison.models[1]  # stored in sorted order, reported in the requested one
    rows = [
        replace(
            _row(pair, judgments.by_key, [score for _, score in votes.get(pair.id, ())], reversed_),
            turn=comparison.turns.get(pair.id, 1),
            null=_missing_verdict(pair, judgments),
        )
        for pair in pairs
    ]
    return build_report(
        JudgedRun(
            judge=judge.model,
            models=comparison.models,
            rubric=judge.rubric.name,
            rubric_hash=judge.rubric.hash,
            rubric_version=judge.rubric.version,
            samples=judge.samples,
            rows=[*rows, *comparison.unanswered],
            canaries=pairwise_results(trials, tried),
            unparsed=sum(judgment.verdict is None for judgment in judgments.by_key.values()),
            failed=len(pool.failures),
            weighed=sum(judgment.expected is not None for judgment in judgments.by_key.values()),
            people=agreement_by_category(labelled),
            campaign=comparison.campaign,
            notes=comparison.notes,
        )
    )


def _missing_verdict(pair: AnswerPair, judgments: Judgments) -> str | None:
    """Why there is no verdict in both orders; None if there is one."""
    for order in BOTH_ORDERS:
        judgment = judgments.by_key.get((pair.id, order))
        if judgment is None:
            return f"the judge did not answer: {judgments.errors.get((pair.id, order), 'no reason was given')}"
        if judgment.verdict is None:
            return "the judge's answer could not be parsed"
    return None


def _row(pair: AnswerPair, judgments: Mapping[Key, Judgment], votes: Sequence[float], reversed_: bool) -> JudgedPair:
    """The pair as the report shows it: a is model_1, or model_2 if `reversed_`. `votes` are scores of model_1."""
    names: dict[int | None, Outcome | None] = {
        0: "tie", 1: "b" if reversed_ else "a", 2: "a" if reversed_ else "b", None: None
    }  # fmt: skip
    orders = [judgments.get((pair.id, order)) for order in BOTH_ORDERS]
    outcomes = [names[judgment.verdict] if judgment else None for judgment in orders]
    # "12" shows model_1 first, which is b if the report has the models the other way round.
    a_first, b_first = reversed(outcomes) if reversed_ else outcomes
    outcome, consistent = combine_orders(a_first, b_first)
    vote_share = sum(votes) / len(votes) if votes else None
    majority = None if vote_share is None else 0 if vote_share == 0.5 else 1 if vote_share > 0.5 else 2
    sides = ("2", "1") if reversed_ else ("1", "2")
    answers = {"1": pair.answer_1, "2": pair.answer_2}
    scores = mean_scores([judgment.scores for judgment in orders if judgment and judgment.scores])
    judge_share = None if outcome is None else sum(judgment.share for judgment in orders if judgment) / len(orders)
    return JudgedPair(
        pair_id=pair.id,
        prompt_id=pair.cluster or pair.prompt.id,
        question=pair.prompt.question,
        category=pair.prompt.category,
        answer_a=answers[sides[0]],
        answer_b=answers[sides[1]],
        a_first=a_first,
        b_first=b_first,
        outcome=outcome,
        consistent=consistent,
        scores_a=scores.get(sides[0], {}),
        scores_b=scores.get(sides[1], {}),
        reasons=next((judgment.reasons for judgment in orders if judgment and judgment.reasons), "") or "",
        people=names[majority],
        people_share=_share_of_b(vote_share, reversed_),
        share=_share_of_b(judge_share, reversed_),
        before_a=pair.history(sides[0]),
        before_b=pair.history(sides[1]),
    )


def _share_of_b(share: float | None, reversed_: bool) -> float | None:
    """Model_1's share of a win as b's."""
    return share if share is None or reversed_ else 1 - share
