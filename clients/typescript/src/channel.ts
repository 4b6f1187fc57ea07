/** How a channel is set up: message sizes, repeats, reconnects and proxies. */

import { readFileSync } from "node:fs";
import { isIPv4 } from "node:net";
import { Channel, type ChannelOptions, credentials, Metadata } from "@grpc/grpc-js";

/** The largest message sent or taken. */
export const MAX_MESSAGE_BYTES = 64 * 1024 * 1024;

/** Photos of a stream that are sent and not yet answered, at most. */
export const WINDOW = 32;

/**
 * A channel to a target, in the form gRPC takes them; it connects when it is first used.
 *
 * @throws Error where the target is none
 */
export function openChannel(target: string): Channel {
  const options: ChannelOptions = {
    "grpc.max_send_message_length": MAX_MESSAGE_BYTES,
    "grpc.max_receive_message_length": MAX_MESSAGE_BYTES,
    "grpc.service_config": readFileSync(new URL("../service_config.json", import.meta.url), "utf8"),
    // What does not fit is not repeated, and gRPC's own 1 MiB is less than a photo. A stream that is refused at its
    // start repeats all that it has sent: a window.
    "grpc.per_rpc_retry_buffer_size": WINDOW * MAX_MESSAGE_BYTES,
    "grpc.retry_buffer_size": WINDOW * MAX_MESSAGE_BYTES,
    // a server that starts is found soon, not after gRPC's own two minutes
    "grpc.initial_reconnect_backoff_ms": 200,
    "grpc.max_reconnect_backoff_ms": 2000,
  };
  if (isLoopback(target)) {
    // a proxy in the environment is for the world outside this machine
    options["grpc.enable_http_proxy"] = 0;
  }
  return new Channel(target, credentials.createInsecure(), options);
}

/** Whether a gRPC target names this machine itself: localhost, 127.0.0.0/8, ::1 or a unix socket. */
export function isLoopback(target: string): boolean {
  if (/^unix(-abstract)?:/.test(target)) {
    return true;
  }
  const address = target.slice(target.lastIndexOf("/") + 1).replace(/^(dns|ipv4|ipv6):/, "");
  const [, bracketed, plain] = /^(?:\[([^\]]*)\].*|([^:]*)(?::[^:]*)?)$/.exec(address) ?? [];
  const host = (bracketed ?? plain ?? address).toLowerCase().replace(/\.$/, "");
  return host === "localhost" || host === "::1" || (isIPv4(host) && host.startsWith("127."));
}

/** The metadata of every call: the token, if there is one. */
export function callMetadata(token: string): Metadata {
  const metadata = new Metadata();
  if (token) {
    metadata.set("authorization", `Bearer ${token}`);
  }
  return metadata;
}
