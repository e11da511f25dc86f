"""Long-context questions made here, with answers that are known: one file a family of kinds."""
