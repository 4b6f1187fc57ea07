import assert from "node:assert/strict";
import { test } from "node:test";
import { Metadata, status } from "@grpc/grpc-js";
import { errorDetails, statusDetails } from "./errors.js";
import { BadRequest, RetryInfo } from "./gen/google/rpc/error_details.js";
import { Status } from "./gen/google/rpc/status.js";

const violation = { field: "k", description: "must be at most 1000" };
const badRequest = {
  typeUrl: "type.googleapis.com/google.rpc.BadRequest",
  value: Buffer.from(BadRequest.encode(BadRequest.create({ fieldViolations: [violation] })).finish()),
};
const retryInfo = {
  typeUrl: "type.googleapis.com/google.rpc.RetryInfo",
  value: Buffer.from(RetryInfo.encode({ retryDelay: { seconds: 2n, nanos: 5_999_999 } }).finish()),
};

/** The error that grpc-js throws for these trailers. */
function serviceError(trailers: Record<string, string | Buffer>): Error {
  const metadata = new Metadata();
  for (const [key, value] of Object.entries(trailers)) {
    metadata.set(key, value);
  }
  return Object.assign(new Error(), { code: status.RESOURCE_EXHAUSTED, details: "full", metadata });
}

test("a status has the name of its code, the invalid fields and the delay", () => {
  assert.deepEqual(statusDetails({ code: 3, message: "no", details: [badRequest, retryInfo] }), {
    code: "INVALID_ARGUMENT",
    message: "no",
    violations: [violation],
    retry_after_ms: 2005,
  });
});

test("malformed and unknown details are ignored, and the others are read", () => {
  const malformed = { typeUrl: retryInfo.typeUrl, value: Buffer.from([0x0a, 0xff]) };
  const unknown = { typeUrl: "type.googleapis.com/shop.Thing", value: retryInfo.value };
  assert.deepEqual(statusDetails({ code: 99, message: "", details: [malformed, unknown, badRequest] }), {
    code: "UNKNOWN",
    message: "",
    violations: [violation],
    retry_after_ms: null,
  });
});

test("the delay of a call's error comes from RetryInfo, else from a pushback that is not negative", () => {
  const details = Buffer.from(Status.encode({ code: 8, message: "full", details: [retryInfo] }).finish());
  const delays = [
    serviceError({ "grpc-status-details-bin": details, "grpc-retry-pushback-ms": "7" }),
    serviceError({ "grpc-status-details-bin": Buffer.from([0xff]), "grpc-retry-pushback-ms": "7" }),
    serviceError({ "grpc-retry-pushback-ms": "-1" }),
  ].map((error) => errorDetails(error)?.retry_after_ms);
  assert.deepEqual(delays, [2005, 7, null]);
  assert.equal(errorDetails(serviceError({}))?.code, "RESOURCE_EXHAUSTED");
});

test("an error that did not come from a call has no details", () => {
  assert.equal(errorDetails(new TypeError("a bug")), undefined);
});
