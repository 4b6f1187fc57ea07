"""The examples at the end of each command's `--help`."""

from __future__ import annotations

EXAMPLES: dict[str, tuple[tuple[str, str], ...]] = {
    "serve": (
        ("Serve a model and a catalog to this machine:", "lookalike-server serve --model model --data-dir data"),
        (
            "To other machines, with TLS and keys:",
            "lookalike-server serve --model model --listen 0.0.0.0:50051 \\\n"
            "      --tls-certificate-file cert.pem --tls-key-file key.pem --auth-keys-file keys.toml",
        ),
        ("By a file of settings, but for one:", "lookalike-server serve --config lookalike.toml --log-level debug"),
    ),
    "health": (
        ("The server of this machine's settings:", "lookalike-server health --config lookalike.toml"),
        ("Another one, with TLS:", "lookalike-server health --target search.example:50051 --tls"),
    ),
    "backup": (("Every night, while it is served:", "lookalike-server backup --data-dir data backups/monday.sqlite"),),
    "verify": (("Check the catalog and its vectors:", "lookalike-server verify --data-dir data"),),
    "vacuum": (("After many products were deleted:", "lookalike-server vacuum --data-dir data"),),
    "reembed": (
        ("Move the catalog to another model:", "lookalike-server reembed --model model-2 --data-dir data"),
        (
            "And give up products whose images were not stored:",
            "lookalike-server reembed --model model-2 --data-dir data --drop-missing",
        ),
    ),
    "keys": (
        (
            "A key that may only read two categories:",
            "lookalike-server keys add shop --role reader --category Men --category Women --auth-keys-file keys.toml",
        ),
        ("What there is:", "lookalike-server keys list --auth-keys-file keys.toml"),
        ("End a key:", "lookalike-server keys revoke shop --auth-keys-file keys.toml"),
    ),
    "show-config": (
        ("Begin a file of settings:", "lookalike-server show-config --model model"),
        ("Where each value comes from:", "lookalike-server show-config --config lookalike.toml"),
    ),
}
"""By command: what it is for, and the command line. A test parses them."""


def epilog(command: str) -> str | None:
    """Return the end of a command's help; None where there are no examples."""
    lines = [f"  {what}\n    {line}" for what, line in EXAMPLES.get(command, ())]
    return "\n".join(["\b", "Examples:", *lines]) if lines else None
