"""The values that the stages exchange, and what the stages expect of each other; imports no other package of ours."""
