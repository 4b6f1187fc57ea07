"""The Lookalike API's messages and stubs, generated from proto/lookalike; `make proto` writes them."""
