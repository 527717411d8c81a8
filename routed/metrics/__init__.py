"""Numbers for Prometheus: the text form, the histogram, and the endpoint that serves them."""
