"""The engine's side of kernel programming: desired routes and their acknowledgements."""
