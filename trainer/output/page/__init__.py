"""The page of a run or of a comparison: one HTML file with its own style, script and pictures (SVG)."""
