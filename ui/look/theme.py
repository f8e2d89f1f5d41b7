"""Parley's Gradio theme (colours and shapes) and access to the style sheets, scripts and mark beside this file.

System fonts only: the page fetches nothing from other hosts.
"""

from importlib.resources import files

import gradio as gr
from gradio.themes.utils import colors, sizes

# Named here and in style.css, which cannot read Python.
PAPER, INK, LINE = "#f6f4ef", "#20262a", "#e3ded3"
NIGHT, CHALK, SEAM = "#14181b", "#e9e6df", "#2c3338"
PINE, PINE_DARK = "#1d6f66", "#5bb8a9"

_PINE = colors.Color(
    name="pine",
    c50="#eef6f4",
    c100="#d7ebe7",
    c200="#b1d8d1",
    c300="#84bfb5",
    c400="#5bb8a9",
    c500="#2c8a7e",
    c600="#1d6f66",
    c700="#185a53",
    c800="#144843",
    c900="#103a36",
    c950="#0a2623",
)
_STONE = colors.Color(
    name="stone",
    c50="#faf8f4",
    c100="#f6f4ef",
    c200="#e3ded3",
    c300="#cfc8ba",
    c400="#a39c8f",
    c500="#78756d",
    c600="#5b5a55",
    c700="#3b4247",
    c800="#2c3338",
    c900="#1c2125",
    c950="#14181b",
)
SANS = ("Inter", "ui-sans-serif", "system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif")
MONO = ("ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "monospace")


def parley_theme() -> gr.themes.Base:
    """The theme of all three apps."""
    theme = gr.themes.Base(
        primary_hue=_PINE,
        secondary_hue=_PINE,
        neutral_hue=_STONE,
        radius_size=sizes.radius_lg,
        text_size=sizes.text_md,
        spacing_size=sizes.spacing_md,
        font=SANS,
        font_mono=MONO,
    )
    theme.name = "parley"
    return theme.set(
        body_background_fill=PAPER,
        body_background_fill_dark=NIGHT,
        body_text_color=INK,
        body_text_color_dark=CHALK,
        body_text_color_subdued="#6a6c68",
        body_text_color_subdued_dark="#9aa3a3",
        background_fill_primary="#ffffff",
        background_fill_primary_dark="#1c2125",
        background_fill_secondary="#faf8f4",
        background_fill_secondary_dark="#181d20",
        border_color_primary=LINE,
        border_color_primary_dark=SEAM,
        block_background_fill="#ffffff",
        block_background_fill_dark="#1c2125",
        block_border_color=LINE,
        block_border_color_dark=SEAM,
        block_border_width="1px",
        block_radius="16px",
        container_radius="16px",
        input_radius="11px",
        block_shadow="none",
        block_label_background_fill="transparent",
        block_label_background_fill_dark="transparent",
        block_label_border_width="0px",
        block_label_text_color="#6a6c68",
        block_label_text_color_dark="#9aa3a3",
        block_title_text_color="#6a6c68",
        block_title_text_color_dark="#9aa3a3",
        block_title_text_size="*text_sm",
        block_title_text_weight="500",
        input_background_fill="#ffffff",
        input_background_fill_dark="#181d20",
        input_border_color=LINE,
        input_border_color_dark=SEAM,
        input_border_color_focus="*primary_500",
        input_border_color_focus_dark="*primary_400",
        input_border_width="1px",
        input_shadow_focus="0 0 0 3px rgba(44, 138, 126, .18)",
        input_shadow_focus_dark="0 0 0 3px rgba(91, 184, 169, .22)",
        panel_background_fill="transparent",
        panel_background_fill_dark="transparent",
        panel_border_width="0px",
        button_primary_background_fill=PINE,
        button_primary_background_fill_hover="#185a53",
        button_primary_background_fill_dark="#2c8a7e",
        button_primary_background_fill_hover_dark="#37a093",
        button_primary_text_color="#ffffff",
        button_primary_text_color_dark="#ffffff",
        button_secondary_background_fill="#ffffff",
        button_secondary_background_fill_hover="#f1ede4",
        button_secondary_background_fill_dark="#232a2e",
        button_secondary_background_fill_hover_dark="#2c353a",
        button_secondary_border_color=LINE,
        button_secondary_border_color_dark=SEAM,
        button_border_width="1px",
        button_large_radius="12px",
        button_medium_radius="10px",
        button_small_radius="9px",
        button_large_text_weight="550",
        button_medium_text_weight="550",
        button_transition="background .15s ease, border-color .15s ease, transform .06s ease",
        slider_color="*primary_500",
        link_text_color="*primary_600",
        link_text_color_dark="*primary_400",
        table_even_background_fill="#ffffff",
        table_even_background_fill_dark="#1c2125",
        table_odd_background_fill="#faf8f4",
        table_odd_background_fill_dark="#181d20",
        code_background_fill="#f1ede4",
        code_background_fill_dark="#232a2e",
    )


def style() -> str:
    """The style sheet of all three apps."""
    return files("ui.look").joinpath("style.css").read_text(encoding="utf-8")


def script(name: str = "page.js") -> str:
    """A script as an element for the page's head."""
    return f"<script>{files('ui.look').joinpath(name).read_text(encoding='utf-8')}</script>"


def mark() -> str:
    """Parley's mark as inline SVG."""
    return files("ui.look").joinpath("mark.svg").read_text(encoding="utf-8").strip()


def header(subtitle: str, *, links: str = "") -> str:
    """The bar at the top of an app as HTML: mark, name, subtitle, links and the light/dark button."""
    return (
        f'<header class="bar"><span class="mark">{mark()}</span><span class="name">Parley</span>'
        f'<span class="sub">{subtitle}</span><span class="grow"></span>{links}'
        '<button class="shade" type="button" data-parley="shade" aria-label="Light or dark" '
        'title="Light or dark"><i></i></button></header>'
    )
