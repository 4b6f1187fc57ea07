import assert from "node:assert/strict";
import { mkdtempSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { isLoopback, openChannel } from "./channel.js";

test("every spelling of a target on this machine is recognized, and no other target is", () => {
  const local = [
    ...["localhost:1", "LOCALHOST.:1", "127.0.0.1:1", "127.9.9.9", "[::1]:1", "::1", "dns:localhost:1"],
    ...["dns:///localhost:1", "dns://1.1.1.1/127.0.0.1:1", "ipv4:127.0.0.1:1", "ipv6:[::1]:1", "unix:/tmp/socket"],
  ];
  const remote = ["shop:1", "127.0.0.1.shop:1", "10.0.0.1:1", "[::2]:1", "localhost.shop:1", "dns:///shop:1", "127.1"];
  assert.deepEqual([...local, ...remote].filter(isLoopback), local);
});

test("a file of TLS that is missing, or is no PEM, is named", () => {
  const file = join(mkdtempSync(join(tmpdir(), "tour-")), "empty.pem");
  writeFileSync(file, "");
  assert.throws(() => openChannel("127.0.0.1:1", { ca: "/nowhere/ca.pem" }), /\/nowhere\/ca\.pem/);
  assert.throws(() => openChannel("127.0.0.1:1", { ca: file }), /empty\.pem holds no certificates/);
  assert.throws(() => openChannel("127.0.0.1:1", { certificate: file, key: file }), /empty\.pem/);
});
