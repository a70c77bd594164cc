"""Data sets of our own making, that nobody tuned for: street scenes, nuclei, volumes and lines of text.

    python -m benchmarks.made streets|nuclei|hippocampus|lines --seed 0 --out FOLDER

They have the formats of the recipes' real data, so that a recipe runs on them with another ``data.path`` and nothing
else. They are drawn from random textures, shapes and the fonts that matplotlib brings; nothing is copied from the real
sets. A seed always gives the same files on the same versions of NumPy, SciPy, Pillow and the fonts, and a share of a set
is its beginning.
"""
