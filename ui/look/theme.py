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
    "#eef6f4", "#d7ebe7", "#b1d8d1", "#84bfb5", "#5bb8a9", "#2c8a7e",
    "#1d6f66", "#185a53", "#144843", "#103a36", "#0a2623", name="pine",
)  # fmt: skip
_STONE = colors.Color(
    "#faf8f4", "#f6f4ef", "#e3ded3", "#cfc8ba", "#a39c8f", "#78756d",
    "#5b5a55", "#3b4247", "#2c3338", "#1c2125", "#14181b", name="stone",
)  # fmt: skip
SANS = ("Inter", "ui-sans-serif", "system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif")
MONO = ("ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "monospace")
# Theme variables with their values in light and in dark mode.
_SHADES = {
    "body_background_fill": (PAPER, NIGHT),
    "body_text_color": (INK, CHALK),
    "body_text_color_subdued": ("#6a6c68", "#9aa3a3"),
    "background_fill_primary": ("#ffffff", "#1c2125"),
    "background_fill_secondary": ("#faf8f4", "#181d20"),
    "border_color_primary": (LINE, SEAM),
    "block_background_fill": ("#ffffff", "#1c2125"),
    "block_border_color": (LINE, SEAM),
    "block_label_background_fill": ("transparent", "transparent"),
    "block_label_text_color": ("#6a6c68", "#9aa3a3"),
    "block_title_text_color": ("#6a6c68", "#9aa3a3"),
    "input_background_fill": ("#ffffff", "#181d20"),
    "input_border_color": (LINE, SEAM),
    "input_border_color_focus": ("*primary_500", "*primary_400"),
    "input_shadow_focus": ("0 0 0 3px rgba(44, 138, 126, .18)", "0 0 0 3px rgba(91, 184, 169, .22)"),
    "panel_background_fill": ("transparent", "transparent"),
    "button_primary_background_fill": (PINE, "#2c8a7e"),
    "button_primary_background_fill_hover": ("#185a53", "#37a093"),
    "button_primary_text_color": ("#ffffff", "#ffffff"),
    "button_secondary_background_fill": ("#ffffff", "#232a2e"),
    "button_secondary_background_fill_hover": ("#f1ede4", "#2c353a"),
    "button_secondary_border_color": (LINE, SEAM),
    "link_text_color": ("*primary_600", "*primary_400"),
    "table_even_background_fill": ("#ffffff", "#1c2125"),
    "table_odd_background_fill": ("#faf8f4", "#181d20"),
    "code_background_fill": ("#f1ede4", "#232a2e"),
}


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
    shades = {name: light for name, (light, _) in _SHADES.items()}
    dark_shades = {f"{name}_dark": dark for name, (_, dark) in _SHADES.items()}
    return theme.set(
        **shades,
        **dark_shades,
        block_border_width="1px",
        block_radius="16px",
        container_radius="16px",
        input_radius="11px",
        block_shadow="none",
        block_label_border_width="0px",
        block_title_text_size="*text_sm",
        block_title_text_weight="500",
        input_border_width="1px",
        panel_border_width="0px",
        button_border_width="1px",
        button_large_radius="12px",
        button_medium_radius="10px",
        button_small_radius="9px",
        button_large_text_weight="550",
        button_medium_text_weight="550",
        button_transition="background .15s ease, border-color .15s ease, transform .06s ease",
        slider_color="*primary_500",
    )


def style(name: str = "style.css") -> str:
    """A style sheet; by default that of all three apps."""
    return files("ui.look").joinpath(name).read_text(encoding="utf-8")


def script(name: str = "page.js") -> str:
    """A script as an element for the page's head."""
    return f"<script>{files('ui.look').joinpath(name).read_text(encoding='utf-8')}</script>"


def mark() -> str:
    """Parley's mark as inline SVG."""
    return files("ui.look").joinpath("mark.svg").read_text(encoding="utf-8").strip()


def header(subtitle: str, *, links: str = "", logo: str = "") -> str:
    """The bar at the top of an app as HTML: mark, name, subtitle, links and the light/dark button.

    Args:
        logo: the URL of an image that replaces Parley's mark and name.
    """
    brand = f'<span class="mark">{mark()}</span><span class="name">Parley</span>'
    if logo:
        brand = f'<img class="logo" src="{logo}" alt="">'
    return (
        f'<header class="bar">{brand}'
        f'<span class="sub">{subtitle}</span><span class="grow"></span>{links}'
        '<button class="shade" type="button" data-parley="shade" aria-label="Light or dark" '
        'title="Light or dark"><i></i></button></header>'
    )
