import assert from "node:assert/strict";
import { test } from "node:test";
import { isLoopback } from "./channel.js";

test("this machine is known by all its names, and no other is taken for it", () => {
  const here = [
    ...["localhost:1", "LOCALHOST.:1", "127.0.0.1:1", "127.9.9.9", "[::1]:1", "::1", "dns:localhost:1"],
    ...["dns:///localhost:1", "dns://1.1.1.1/127.0.0.1:1", "ipv4:127.0.0.1:1", "ipv6:[::1]:1", "unix:/tmp/socket"],
  ];
  const elsewhere = [
    "shop:1",
    "127.0.0.1.shop:1",
    "10.0.0.1:1",
    "[::2]:1",
    "localhost.shop:1",
    "dns:///shop:1",
    "127.1",
  ];
  assert.deepEqual([...here, ...elsewhere].filter(isLoopback), here);
});
