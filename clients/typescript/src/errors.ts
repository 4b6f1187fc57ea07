/** What a refusal tells: a gRPC status and its google.rpc details, as the tour prints them. */

import { type Metadata, type ServiceError, status as Code } from "@grpc/grpc-js";
import { BadRequest, RetryInfo } from "./gen/google/rpc/error_details.js";
import { Status } from "./gen/google/rpc/status.js";

export interface Refusal {
  /** The name of the gRPC code. */
  code: string;
  message: string;
  /** The fields to blame. */
  violations: { field: string; description: string }[];
  /** How long to wait before a repeat makes sense. */
  retry_after_ms: number | null;
}

/** A failure that no status of the server describes. */
export class CallError extends Error {
  readonly refusal: Refusal;

  constructor(code: Code, message: string) {
    super(message);
    this.refusal = { code: codeName(code), message, violations: [], retry_after_ms: null };
  }
}

/** What an error of a call tells; undefined for one that no call has thrown. */
export function refusalOf(error: unknown): Refusal | undefined {
  if (error instanceof CallError) {
    return error.refusal;
  }
  if (!isServiceError(error)) {
    return undefined;
  }
  const details = readStatus(error.metadata);
  return { ...refusalFrom({ ...details, code: error.code, message: error.details }, readPushback(error.metadata)) };
}

/**
 * What a status tells, such as that of one item of a stream.
 *
 * @param pushback the milliseconds to wait where the details do not say
 */
export function refusalFrom(status: Status, pushback: number | null = null): Refusal {
  const refusal: Refusal = {
    code: codeName(status.code),
    message: status.message,
    violations: [],
    retry_after_ms: pushback,
  };
  for (const { typeUrl, value } of status.details) {
    switch (typeUrl.slice(typeUrl.lastIndexOf("/") + 1)) {
      case "google.rpc.BadRequest":
        for (const { field, description } of unlessMalformed(() => BadRequest.decode(value))?.fieldViolations ?? []) {
          refusal.violations.push({ field, description });
        }
        break;
      case "google.rpc.RetryInfo": {
        const delay = unlessMalformed(() => RetryInfo.decode(value))?.retryDelay;
        if (delay) {
          refusal.retry_after_ms = Number(delay.seconds) * 1000 + Math.trunc(delay.nanos / 1e6);
        }
        break;
      }
    }
  }
  return refusal;
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

/** Details that cannot be read count as none. */
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
