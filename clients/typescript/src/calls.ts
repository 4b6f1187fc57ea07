/** Calls as promises: each has a deadline, retries included, and rejects with a ServiceError. */

import {
  type CallOptions,
  type Client,
  type ClientUnaryCall,
  Metadata,
  type ServiceError,
  status,
} from "@grpc/grpc-js";
import { service as healthService } from "grpc-health-check";
import { CallError } from "./errors.js";

type UnaryMethod<Request, Response> = (
  request: Request,
  metadata: Metadata,
  options: Partial<CallOptions>,
  callback: (error: ServiceError | null, response?: Response) => void,
) => ClientUnaryCall;

/** Calls a bound method of a generated client: `unary(client.search.bind(client), request, metadata, 10)`. */
export function unary<Request, Response>(
  method: UnaryMethod<Request, Response>,
  request: Request,
  metadata: Metadata,
  seconds: number,
): Promise<Response> {
  return new Promise((resolve, reject) => {
    method(request, metadata, deadlineIn(seconds), (error, response) => (error ? reject(error) : resolve(response!)));
  });
}

/** The call options for a deadline this many seconds from now. */
export function deadlineIn(seconds: number): { deadline: number } {
  return { deadline: Date.now() + seconds * 1000 };
}

/**
 * Calls the standard gRPC health check for the whole server and returns "SERVING".
 *
 * @throws CallError UNAVAILABLE where the health is anything else
 */
export async function checkHealth(client: Client, metadata: Metadata, seconds: number): Promise<string> {
  const check = healthService["Check"]!;
  const response = await unary<object, object>(
    (...rest) => client.makeUnaryRequest(check.path, check.requestSerialize, check.responseDeserialize, ...rest),
    { service: "" },
    metadata,
    seconds,
  );
  const { status: health } = response as { status: string };
  if (health !== "SERVING") {
    throw new CallError(status.UNAVAILABLE, `the server's health is ${health}`);
  }
  return health;
}
