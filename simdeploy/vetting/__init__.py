"""Vetting: what holds of a plan for every timing, with no clock, no chance and no sampling."""
