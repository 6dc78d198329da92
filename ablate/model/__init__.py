"""What is ablated: one file for each idea the field has a name for."""
