"""RIDE and models made of several."""
