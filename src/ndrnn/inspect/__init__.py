"""What a layer costs, how healthy it is, and whether it computes what it should."""
