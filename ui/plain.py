"""Pages that need no Gradio: the sign-in form, «no such bot», «not here». One look, no script, nothing fetched."""

from importlib.resources import files

from starlette.responses import HTMLResponse

_STYLE = """
:root{color-scheme:light dark;--paper:#f6f4ef;--card:#fff;--ink:#20262a;--soft:#6a6c68;--line:#e3ded3;--pine:#1d6f66;--bad:#a8442a}
@media (prefers-color-scheme:dark){:root{--paper:#14181b;--card:#1c2125;--ink:#e9e6df;--soft:#9aa3a3;--line:#2c3338;--pine:#2c8a7e;--bad:#e79a7c}}
*{box-sizing:border-box}body{margin:0;min-height:100vh;display:grid;place-items:center;padding:20px;background:var(--paper);
color:var(--ink);font:16px/1.55 Inter,ui-sans-serif,system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
main{width:100%;max-width:420px;background:var(--card);border:1px solid var(--line);border-radius:18px;padding:32px}
.who{display:flex;align-items:center;gap:10px;font-weight:650;font-size:18px;letter-spacing:-.01em;margin-bottom:22px}
.who svg{width:30px;height:30px}h1{font-size:22px;line-height:1.25;letter-spacing:-.015em;margin:0 0 8px}p{margin:0 0 16px;color:var(--soft)}
label{display:block;font-size:14px;font-weight:550;margin:20px 0 6px}
input{width:100%;font:inherit;padding:11px 13px;border-radius:10px;border:1px solid var(--line);background:var(--paper);color:var(--ink)}
input:focus{outline:3px solid rgba(44,138,126,.28);border-color:var(--pine)}
button,.go{display:block;width:100%;margin:16px 0;padding:12px;border:0;border-radius:12px;background:var(--pine);color:#fff;
font:inherit;font-weight:600;text-align:center;text-decoration:none;cursor:pointer}
.wrong{color:var(--bad);margin:10px 0 0}.fine{font-size:14px;margin:0}a{color:var(--pine)}code{font-size:.92em}
"""


def plain_page(title: str, body: str, status: int = 200) -> HTMLResponse:
    """A small page of ours. `body` is HTML that the caller has made safe."""
    mark = files("ui").joinpath("mark.svg").read_text(encoding="utf-8")
    return HTMLResponse(
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title} · Parley</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<link rel="icon" href="/brand/mark.svg"><style>{_STYLE}</style></head>'
        f'<body><main><div class="who">{mark}Parley</div>{body}</main></body></html>',
        status_code=status,
        headers={"cache-control": "no-store"},
    )
