"""Whatever bytes arrive: the code that reads them before anybody is trusted."""
