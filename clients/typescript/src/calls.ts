/** Calls as promises: each has one deadline, its repeats included, and fails with a ServiceError. */

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

/** Calls a method of a generated client, bound to it: `unary(search.search.bind(search), request, metadata, 10)`. */
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

/** The options of a call that may take so long. */
export function deadlineIn(seconds: number): { deadline: number } {
  return { deadline: Date.now() + seconds * 1000 };
}

/**
 * gRPC's standard health check of the whole server: "SERVING".
 *
 * @throws CallError UNAVAILABLE where it says anything else
 */
export async function checkHealth(client: Client, metadata: Metadata, seconds: number): Promise<string> {
  const check = healthService["Check"]!;
  const answer = await unary<object, object>(
    (...rest) => client.makeUnaryRequest(check.path, check.requestSerialize, check.responseDeserialize, ...rest),
    { service: "" },
    metadata,
    seconds,
  );
  const { status: said } = answer as { status: string };
  if (said !== "SERVING") {
    throw new CallError(status.UNAVAILABLE, `the server's health is ${said}`);
  }
  return said;
}
