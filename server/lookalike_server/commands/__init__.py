"""The commands of `lookalike-server`, each imported only when it is called, as some are called every few seconds."""
