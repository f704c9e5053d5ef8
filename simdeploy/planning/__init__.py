"""Makers: scenarios, the partitions of their strategies, and the plans that follow from them."""
