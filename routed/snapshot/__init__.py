"""The shared-memory route table: writer, LC-trie, records, compaction."""
