"""Third stage: other graphs for the same network: projected to fewer dimensions, fp16, int8."""
