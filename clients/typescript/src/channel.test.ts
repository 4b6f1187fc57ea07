import assert from "node:assert/strict";
import { test } from "node:test";
import { isLoopback } from "./channel.js";

test("every spelling of a target on this machine is recognized, and no other target is", () => {
  const local = [
    ...["localhost:1", "LOCALHOST.:1", "127.0.0.1:1", "127.9.9.9", "[::1]:1", "::1", "dns:localhost:1"],
    ...["dns:///localhost:1", "dns://1.1.1.1/127.0.0.1:1", "ipv4:127.0.0.1:1", "ipv6:[::1]:1", "unix:/tmp/socket"],
  ];
  const remote = ["shop:1", "127.0.0.1.shop:1", "10.0.0.1:1", "[::2]:1", "localhost.shop:1", "dns:///shop:1", "127.1"];
  assert.deepEqual([...local, ...remote].filter(isLoopback), local);
});
