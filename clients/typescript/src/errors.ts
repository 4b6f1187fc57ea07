/** Errors as the tour prints them: a gRPC status and its google.rpc details. */

import { type Metadata, type ServiceError, status as Code } from "@grpc/grpc-js";
import { BadRequest, RetryInfo } from "./gen/google/rpc/error_details.js";
import { Status } from "./gen/google/rpc/status.js";

export interface ErrorDetails {
  /** The name of the gRPC code, for instance INVALID_ARGUMENT. */
  code: string;
  message: string;
  /** The invalid fields of the request. */
  violations: { field: string; description: string }[];
  /** How many milliseconds to wait before a retry; null where the server does not say. */
  retry_after_ms: number | null;
}

/** An error that did not come from the server. */
export class CallError extends Error {
  readonly details: ErrorDetails;

  constructor(code: Code, message: string) {
    super(message);
    this.details = { code: codeName(code), message, violations: [], retry_after_ms: null };
  }
}

/** Reads the error of a call; undefined for any other error. */
export function errorDetails(error: unknown): ErrorDetails | undefined {
  if (error instanceof CallError) {
    return error.details;
  }
  if (!isServiceError(error)) {
    return undefined;
  }
  const status = { ...readStatus(error.metadata), code: error.code, message: error.details };
  return statusDetails(status, readPushback(error.metadata));
}

/**
 * Reads a status, for instance that of one item of a stream.
 *
 * @param pushback the milliseconds to wait where the status has no RetryInfo
 */
export function statusDetails(status: Status, pushback: number | null = null): ErrorDetails {
  const details: ErrorDetails = {
    code: codeName(status.code),
    message: status.message,
    violations: [],
    retry_after_ms: pushback,
  };
  for (const { typeUrl, value } of status.details) {
    switch (typeUrl.slice(typeUrl.lastIndexOf("/") + 1)) {
      case "google.rpc.BadRequest":
        for (const { field, description } of unlessMalformed(() => BadRequest.decode(value))?.fieldViolations ?? []) {
          details.violations.push({ field, description });
        }
        break;
      case "google.rpc.RetryInfo": {
        const delay = unlessMalformed(() => RetryInfo.decode(value))?.retryDelay;
        if (delay) {
          details.retry_after_ms = Number(delay.seconds) * 1000 + Math.trunc(delay.nanos / 1e6);
        }
        break;
      }
    }
  }
  return details;
}

function isServiceError(error: unknown): error is ServiceError {
  return error instanceof Error && "code" in error && "details" in error && "metadata" in error;
}

function readStatus(metadata: Metadata): Status {
  const [encoded] = metadata.get("grpc-status-details-bin");
  const status = Buffer.isBuffer(encoded) ? unlessMalformed(() => Status.decode(encoded)) : undefined;
  return status ?? Status.create();
}

function readPushback(metadata: Metadata): number | null {
  const [milliseconds] = metadata.get("grpc-retry-pushback-ms");
  return typeof milliseconds === "string" && /^[0-9]+$/.test(milliseconds) ? Number(milliseconds) : null;
}

/** Malformed details are ignored. */
function unlessMalformed<Message>(decode: () => Message): Message | undefined {
  try {
    return decode();
  } catch {
    return undefined;
  }
}

function codeName(code: number): string {
  return Code[code] ?? "UNKNOWN";
}
