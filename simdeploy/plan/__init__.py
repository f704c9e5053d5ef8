"""What shall be done, and what it means: steps, order, effects, state, trace and metrics."""
