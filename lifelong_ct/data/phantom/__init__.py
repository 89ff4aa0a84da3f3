"""Drawn abdominal CT: anatomy in mm, a scanner, a contrast phase. Synthetic; for tests, demos and debugging."""
