"""routed: the RIB, its decision, the LC-trie and the shared-memory snapshot of it."""
