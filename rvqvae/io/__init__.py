"""From paths to arrays to tables: sources, decoding, duplicates, the manifest."""
