"""How drawings of nets look, on light pages and on dark ones."""

NET_STYLE = """
.net { color: inherit; background: none; width: auto; height: auto; max-width: none; }
.net text { fill: currentColor; font: 12px system-ui, sans-serif; text-anchor: middle; }
.net text.title { font-weight: 600; }
.net text.fact, .net text.name { opacity: 0.8; font-size: 11px; }
.net text.name, .net text.times { text-anchor: start; }
.net text.times { font-weight: 600; font-size: 12px; }
.net text.sign { font-size: 15px; }
.net .shape { stroke: currentColor; stroke-opacity: 0.55; fill: #7d8590; fill-opacity: 0.1; }
.net .convolution .shape { stroke: #2f81f7; stroke-opacity: 1; fill: #2f81f7; fill-opacity: 0.16; }
.net .transposed .shape { stroke: #d4731a; stroke-opacity: 1; fill: #d4731a; fill-opacity: 0.18; }
.net .linear .shape { stroke: #9a6be5; stroke-opacity: 1; fill: #9a6be5; fill-opacity: 0.18; }
.net .recurrent .shape { stroke: #2da44e; stroke-opacity: 1; fill: #2da44e; fill-opacity: 0.16; }
.net .attention .shape { stroke: #d05a9d; stroke-opacity: 1; fill: #d05a9d; fill-opacity: 0.16; }
.net .fixed .shape { stroke-dasharray: 3 2; }
.net .frame .shape { stroke-dasharray: 6 4; fill-opacity: 0.05; }
.net .wire { fill: none; stroke: currentColor; stroke-opacity: 0.7; stroke-width: 1.2; }
.net .head, .net .dot { fill: currentColor; fill-opacity: 0.8; }
@media print { .net { max-width: 100%; } }
"""
"""For a page that holds drawings; colours are see-through, so that they do on any ground."""

ALONE = """
svg { color: #1b1f24; background: #ffffff; }
@media (prefers-color-scheme: dark) { svg { color: #e6edf3; background: #0d1117; } }
"""
"""What a drawing in a file of its own needs besides."""
