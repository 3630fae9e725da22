"""What is made of runs: figures, the report page, tables beside published numbers, comparisons."""
