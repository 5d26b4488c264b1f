"""BT.601 luma in studio swing, as the field measures it.

Y = 16 + (65.481 R + 128.553 G + 24.966 B) / 255; R, G, B and Y lie in 0..255.
Source: ITU-R Recommendation BT.601.
"""

from __future__ import annotations

LUMA_WEIGHTS = (
    65.481 / 255,
    128.553 / 255,
    24.966 / 255,
)
LUMA_OFFSET = 16.0
