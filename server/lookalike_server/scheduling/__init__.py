"""Fair queues in front of the resources that the stages share."""
