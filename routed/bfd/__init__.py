"""Bidirectional Forwarding Detection (RFC 5880, 5881, 5882, 5883), sans-IO."""
