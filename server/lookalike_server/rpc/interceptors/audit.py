"""What the audit log has of a call besides what the services know."""

from __future__ import annotations

from lookalike_server.rpc.access.identity import Identity
from lookalike_server.rpc.audit_log import AuditedCall, AuditLog
from lookalike_server.rpc.call_context import CallRecord, Context
from lookalike_server.rpc.interceptors.handlers import Method
from lookalike_server.rpc.status import code_name


def begin_audit(log: AuditLog, method: Method, record: CallRecord, context: Context, identity: Identity) -> AuditedCall:
    """Begin to record a write."""
    facts: dict[str, object] = {
        "identity": identity.name,
        "role": identity.role.label,
        "peer": context.peer(),
        "method": method.name,
        "request_id": record.request_id,
    }
    return AuditedCall(log, facts, code_name)
