"""What happens around every call, outermost first: access log, gate, errors, auth, deadline, reading the request."""
