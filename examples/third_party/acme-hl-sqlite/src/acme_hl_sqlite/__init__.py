"""Read-only queries on one SQLite file, for hyperlight sandboxes."""
