#!/usr/bin/env bash
# uv with the indexes and certificates of pip's configuration, which uv does not read: a company's mirror is obeyed.
set -euo pipefail
bin=$(dirname "$0")/../.venv-uv/bin

# environment variables come first in pip's list, and lines of one value are joined by \n
settings=$("$bin/python" -m pip config list)
setting() { sed -n "s/^[^=]*\.$1='\(.*\)'$/\1/p" <<< "$settings" | head -n 1 | sed 's/\\n/ /g; s/^ *//'; }

export UV_DEFAULT_INDEX=${UV_DEFAULT_INDEX:-$(setting index-url)}
export UV_INDEX=${UV_INDEX:-$(setting extra-index-url)}
export UV_INDEX_STRATEGY=unsafe-best-match # pip's; hashes are what makes it safe
links=$(setting find-links)
export UV_FIND_LINKS=${UV_FIND_LINKS:-${links// /,}}
certificates=${SSL_CERT_FILE:-$(setting cert)}
if [ -n "$certificates" ]; then export SSL_CERT_FILE=$certificates; fi
exec "$bin/uv" "$@"
