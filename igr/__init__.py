"""The machinery of IGR; it imports helper and itself, and no script of the top level."""
