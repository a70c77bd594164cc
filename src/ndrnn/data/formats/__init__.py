"""File formats: images, volumes, tables, archives."""
