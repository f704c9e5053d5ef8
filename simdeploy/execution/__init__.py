"""Doing: how a plan is carried out on real hosts, and how what happened is written down."""
