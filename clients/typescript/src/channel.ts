/** Channel options: message sizes, retries, reconnects, proxies and TLS. */

import { readFileSync } from "node:fs";
import { isIPv4 } from "node:net";
import { Channel, type ChannelOptions, Metadata } from "@grpc/grpc-js";
import { channelCredentials, type Tls } from "./tls.js";

/** The size limit of a message, in both directions. */
export const MAX_MESSAGE_BYTES = 64 * 1024 * 1024;

/** At most this many images of a stream are in flight: sent, without a response yet. */
export const WINDOW = 32;

/**
 * Opens a channel to a gRPC target; it connects at the first call, and is encrypted where there is `tls`.
 *
 * @throws Error where the target is invalid, or a file of `tls` cannot be used
 */
export function openChannel(target: string, tls?: Tls): Channel {
  const options: ChannelOptions = {
    "grpc.max_send_message_length": MAX_MESSAGE_BYTES,
    "grpc.max_receive_message_length": MAX_MESSAGE_BYTES,
    "grpc.service_config": readFileSync(new URL("../service_config.json", import.meta.url), "utf8"),
    // A call that does not fit is not retried, and grpc-js' default of 1 MiB is less than an image. A stream that is
    // rejected at its start sends everything again: a window.
    "grpc.per_rpc_retry_buffer_size": WINDOW * MAX_MESSAGE_BYTES,
    "grpc.retry_buffer_size": WINDOW * MAX_MESSAGE_BYTES,
    // gRPC's default maximum is two minutes; a starting server should be reached sooner
    "grpc.initial_reconnect_backoff_ms": 200,
    "grpc.max_reconnect_backoff_ms": 2000,
  };
  if (isLoopback(target)) {
    // a proxy in the environment does not reach this machine's loopback
    options["grpc.enable_http_proxy"] = 0;
  }
  return new Channel(target, channelCredentials(tls), options);
}

/** Whether a gRPC target is on this machine: localhost, 127.0.0.0/8, ::1 or a unix socket. */
export function isLoopback(target: string): boolean {
  if (/^unix(-abstract)?:/.test(target)) {
    return true;
  }
  const address = target.slice(target.lastIndexOf("/") + 1).replace(/^(dns|ipv4|ipv6):/, "");
  const [, bracketed, plain] = /^(?:\[([^\]]*)\].*|([^:]*)(?::[^:]*)?)$/.exec(address) ?? [];
  const host = (bracketed ?? plain ?? address).toLowerCase().replace(/\.$/, "");
  return host === "localhost" || host === "::1" || (isIPv4(host) && host.startsWith("127."));
}

/** The metadata of every call: the token, unless it is empty. */
export function callMetadata(token: string): Metadata {
  const metadata = new Metadata();
  if (token) {
    metadata.set("authorization", `Bearer ${token}`);
  }
  return metadata;
}
