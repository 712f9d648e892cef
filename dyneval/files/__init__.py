"""Files by what they are: tables, JSONL stores, images, parts of a run; each has one reader and one writer here."""
