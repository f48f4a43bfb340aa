"""Generated related tables against held-out families: scores and page."""
