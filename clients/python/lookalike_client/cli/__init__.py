"""The `lookalike` command."""

try:
    from lookalike_client.cli.app import main
except ModuleNotFoundError as error:
    missing = (error.name or "").partition(".")[0]
    if missing not in {"click", "rich"}:
        raise
    raise SystemExit(
        f"lookalike: the command needs {missing}, which is not installed: pip install 'lookalike-client[cli]'"
    ) from error

__all__ = ["main"]
