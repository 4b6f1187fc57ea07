import assert from "node:assert/strict";
import { test } from "node:test";
import { Metadata, status } from "@grpc/grpc-js";
import { refusalFrom, refusalOf } from "./errors.js";
import { BadRequest, RetryInfo } from "./gen/google/rpc/error_details.js";
import { Status } from "./gen/google/rpc/status.js";

const blamed = { field: "k", description: "must be at most 1000" };
const badRequest = {
  typeUrl: "type.googleapis.com/google.rpc.BadRequest",
  value: Buffer.from(BadRequest.encode(BadRequest.create({ fieldViolations: [blamed] })).finish()),
};
const retryInfo = {
  typeUrl: "type.googleapis.com/google.rpc.RetryInfo",
  value: Buffer.from(RetryInfo.encode({ retryDelay: { seconds: 2n, nanos: 5_999_999 } }).finish()),
};

/** What grpc-js throws for these trailers. */
function thrown(trailers: Record<string, string | Buffer>): Error {
  const metadata = new Metadata();
  for (const [key, value] of Object.entries(trailers)) {
    metadata.set(key, value);
  }
  return Object.assign(new Error(), { code: status.RESOURCE_EXHAUSTED, details: "full", metadata });
}

test("a status tells its code's name, the fields to blame and how long to wait", () => {
  assert.deepEqual(refusalFrom({ code: 3, message: "no", details: [badRequest, retryInfo] }), {
    code: "INVALID_ARGUMENT",
    message: "no",
    violations: [blamed],
    retry_after_ms: 2005,
  });
});

test("details that cannot be read, or are of no known kind, count as none, and the others stay", () => {
  const spoilt = { typeUrl: retryInfo.typeUrl, value: Buffer.from([0x0a, 0xff]) };
  const unknown = { typeUrl: "type.googleapis.com/shop.Thing", value: retryInfo.value };
  assert.deepEqual(refusalFrom({ code: 99, message: "", details: [spoilt, unknown, badRequest] }), {
    code: "UNKNOWN",
    message: "",
    violations: [blamed],
    retry_after_ms: null,
  });
});

test("a call's error tells what its trailers say: RetryInfo first, then the pushback unless it is negative", () => {
  const details = Buffer.from(Status.encode({ code: 8, message: "full", details: [retryInfo] }).finish());
  const waits = [
    thrown({ "grpc-status-details-bin": details, "grpc-retry-pushback-ms": "7" }),
    thrown({ "grpc-status-details-bin": Buffer.from([0xff]), "grpc-retry-pushback-ms": "7" }),
    thrown({ "grpc-retry-pushback-ms": "-1" }),
  ].map((error) => refusalOf(error)?.retry_after_ms);
  assert.deepEqual(waits, [2005, 7, null]);
  assert.equal(refusalOf(thrown({}))?.code, "RESOURCE_EXHAUSTED");
});

test("an error that is no call's is not made one", () => {
  assert.equal(refusalOf(new TypeError("a mistake of ours")), undefined);
});
