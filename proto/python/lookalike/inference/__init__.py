"""The Open Inference Protocol's messages and stubs, generated from proto/inference; `make proto` writes them."""
