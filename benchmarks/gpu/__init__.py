"""What the server makes of a card: measured unattended, without a network, and within a given time."""
