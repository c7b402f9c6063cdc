"""SQL over a published version of a run: `tokenmill sql`."""
