"""Look of the page: the system's fonts, because nothing is loaded from elsewhere, and what tables need."""

from __future__ import annotations

import gradio as gr

STYLE = """
.gradio-container { max-width: 1500px !important; }
#head { align-items: end; }
#brand h1 { font-size: 1.25rem; margin: 0 0 0.6rem; }
#line p { margin: 0.2rem 0.4rem 0.4rem; font-size: 0.9rem; overflow-wrap: anywhere; }
table.plain { border-collapse: collapse; font-size: 0.9rem; width: 100%; }
table.plain caption { text-align: left; font-weight: 600; padding: 0.4rem 0; }
table.plain th, table.plain td {
  text-align: left; vertical-align: top; padding: 0.3rem 0.7rem; overflow-wrap: break-word;
  border-top: 1px solid var(--border-color-primary);
}
table.plain td.name { overflow-wrap: anywhere; min-width: 6rem; }
table.plain th.right, table.plain td.right {
  text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap;
}
table.plain tr.differs td { background: var(--background-fill-secondary); font-weight: 600; }
.scroll { overflow-x: auto; }
#takeaway-yaml pre { max-height: 32rem; overflow: auto; font-size: 0.85rem; }
"""


def theme() -> gr.themes.Base:
    """Give the theme, without fonts of a network."""
    return gr.themes.Default(
        primary_hue="blue",
        font=["system-ui", "sans-serif"],
        font_mono=["ui-monospace", "monospace"],
        text_size="sm",
        spacing_size="sm",
    )
