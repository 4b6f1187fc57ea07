"""Fourth stage: compare graphs with Keras and with each other, and decide whether they are good enough."""
