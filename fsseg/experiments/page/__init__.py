"""The page of a table: tables, charts, cases, papers beside ours."""
