"""Tables: a grid of adaptations from one file, the runs that are missing, and the page that shows the results."""
