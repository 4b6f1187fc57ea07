"""The values that the stages exchange and the protocols between them; imports no other package of ours."""
