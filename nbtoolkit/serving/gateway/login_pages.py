"""HTML pages that need no Gradio: the login form, and the page shown while Gradio starts."""

from __future__ import annotations

from html import escape

_STYLE = """
:root{color-scheme:light dark;--ground:#f5f6f8;--card:#fff;--ink:#171a21;--soft:#5b6472;--line:#d5dae2;
--accent:#2f5bd8;--accent-ink:#fff;--bad:#b3261e;--bad-ground:#fdecea}
@media(prefers-color-scheme:dark){:root{--ground:#101319;--card:#181c24;--ink:#e9ecf2;--soft:#9aa4b4;
--line:#323a47;--accent:#7d9bff;--accent-ink:#0d1220;--bad:#ffb4ab;--bad-ground:#3b1d1b}}
*{box-sizing:border-box}
body{margin:0;min-height:100vh;display:grid;place-items:center;padding:1.5rem;background:var(--ground);
color:var(--ink);font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
main{width:100%;max-width:25rem;padding:2.25rem 2rem 2rem;background:var(--card);border:1px solid var(--line);
border-radius:14px;box-shadow:0 10px 30px rgb(15 23 42/.07)}
.name{margin:0 0 1.5rem;font-size:.9rem;font-weight:600;color:var(--soft)}
h1{margin:0 0 .4rem;font-size:1.45rem;line-height:1.25}
p{margin:0 0 1.4rem;color:var(--soft)}
label{display:block;margin-bottom:.4rem;font-weight:600;font-size:.92rem}
input{width:100%;padding:.7rem .8rem;font:inherit;color:inherit;background:var(--ground);
border:1px solid var(--line);border-radius:9px}
input[aria-invalid]{border-color:var(--bad)}
button{width:100%;margin-top:1.1rem;padding:.72rem;font:inherit;font-weight:600;cursor:pointer;
color:var(--accent-ink);background:var(--accent);border:0;border-radius:9px}
button:hover{filter:brightness(1.08)}
:focus-visible{outline:3px solid var(--accent);outline-offset:2px}
.error{margin:.7rem 0 0;padding:.6rem .8rem;color:var(--bad);background:var(--bad-ground);border-radius:9px;
font-size:.92rem}
code{font-size:.92em}
"""


def login_page(error: str = "") -> str:
    """Return the login form, with an error below the field if there is one."""
    invalid = ' aria-invalid="true" aria-describedby="error"' if error else ""
    note = f'<p class="error" id="error" role="alert">{escape(error)}</p>' if error else ""
    return _page(
        "Log in",
        f"""<h1>Log in</h1>
<p>Chat with the model on this server.</p>
<form method="post" action="login">
<label for="key">API key</label>
<input id="key" name="key" type="password" required autofocus autocomplete="current-password"{invalid}>
{note}<button>Log in</button>
</form>""",
    )


def loading_page(broken: bool) -> str:
    """Return the page shown for the seconds until Gradio has started; it reloads itself."""
    if broken:
        text = (
            "The API of this server works, but the chat page could not be built. See the log for the reason."
        )
        return _page("No page", f"<h1>No chat page</h1><p>{text}</p>")
    return _page(
        "Opening",
        "<h1>Opening the chat</h1><p>The page is being prepared. This takes a few seconds.</p>",
        head='<meta http-equiv="refresh" content="2">',
    )


def _page(title: str, body: str, head: str = "") -> str:
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width,initial-scale=1">
<title>{escape(title)} · nbtoolkit</title>{head}<style>{_STYLE}</style></head>
<body><main><div class="name">nbtoolkit</div>{body}</main></body></html>"""
