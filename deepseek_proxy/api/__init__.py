"""The Flask side: one blueprint per dialect, the catalogue and the operator's routes.

HTTP in and out, nothing of what the bytes mean: that is `translate`'s.
"""
