"""An answer's figures as a line of HTML: time to the first token, tokens a second, number of tokens."""

from ui.backend.streaming import StreamedAnswer
from ui.look.markup import notice


def figures_html(answer: StreamedAnswer) -> str:
    """The figures so far; a notice if the answer failed or is empty."""
    if answer.error:
        return notice(answer.error, "bad")
    if answer.first_s is None:
        waiting = '<div class="speed">Waiting for the first token…</div>'
        return notice("The answer is empty.") if answer.done else waiting
    rate = answer.tokens_per_second
    first = f"{answer.first_s * 1000:.0f} ms" if answer.first_s < 1 else f"{answer.first_s:.1f} s"
    parts = [
        f"<span><b>{first}</b> to first token</span>",
        f"<span><b>{rate:.0f}</b> tokens/s</span>" if rate else "",
        f"<span><b>{answer.tokens}</b> tokens</span>",
    ]
    return f'<div class="speed">{"".join(parts)}</div>'
