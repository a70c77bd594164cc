"""From readers to checked samples and batches."""
