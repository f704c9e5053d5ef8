"""Questions that need makers and judges together: which strategy, and where its cost comes from."""
