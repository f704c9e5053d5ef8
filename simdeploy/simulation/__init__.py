"""Judges by trying: luck by name, the discrete-event engine, replications and what they support."""
