"""One command that trains several methods on the same data and shows which way pays."""
