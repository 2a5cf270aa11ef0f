"""The export stage: every format of the asset, in metres where the scale is known."""
