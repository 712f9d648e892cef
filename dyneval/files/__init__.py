"""Files that people bring: one reader for their tables, whatever program wrote them."""
