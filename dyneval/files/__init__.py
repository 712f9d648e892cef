"""Files by what they are: tables, JSONL stores, images, parts of a run. Each kind has one reader and one writer here.

Files of users are read strictly and within limits, and an error names the file and the line. Our own files survive a
kill: rows are only appended, and what another step reads is written under another name first and then renamed.
"""
