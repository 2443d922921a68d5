"""Small convex problems and update rules that several methods share."""
