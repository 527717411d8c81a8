"""Probes: attempts, their answers, and the states that follow from them, sans-IO."""
