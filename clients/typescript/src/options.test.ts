import assert from "node:assert/strict";
import { mkdtempSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { readOptions, UsageError } from "./options.js";

const NEEDED = ["--image=a.jpg", "--category=Men", "--product-id=-7", "--folder", "images", "--bad-image", "-b.txt"];

test("both forms of an option are read, values may begin with a dash, and the other options have their defaults", () => {
  assert.deepEqual(readOptions([...NEEDED, "--k", "7", "--deadline=.5"], {}), {
    server: "127.0.0.1:50051",
    token: "",
    tls: undefined,
    image: "a.jpg",
    category: "Men",
    productId: "-7",
    folder: "images",
    badImage: "-b.txt",
    k: 7,
    deadline: 0.5,
    streamDeadline: 300,
  });
});

test("the token comes from the environment unless the option is set", () => {
  const environment = { LOOKALIKE_CLIENT_TOKEN: "from-environment" };
  const tokens = [[], ["--token", "from-option"]].map((more) => readOptions([...NEEDED, ...more], environment));
  assert.deepEqual(
    tokens.map((options) => options !== "help" && options.token),
    ["from-environment", "from-option"],
  );
});

test("each option of TLS turns it on, flags override the environment, and empty variables count as absent", () => {
  const none = { ca: undefined, certificate: undefined, key: undefined };
  for (const [more, variables, expected] of [
    [[], { TLS: "0", CA: "", CERT: "", KEY: "" }, undefined],
    [["--tls"], {}, none],
    [[], { TLS: "1" }, none],
    [[], { CA: "ca.pem" }, { ...none, ca: "ca.pem" }],
    [["--ca", "flag.pem"], { CA: "ca.pem" }, { ...none, ca: "flag.pem" }],
    [["--cert=c", "--key=k"], { CERT: "d", KEY: "l" }, { ...none, certificate: "c", key: "k" }],
    [[], { CERT: "d", KEY: "l" }, { ...none, certificate: "d", key: "l" }],
  ] as [string[], Record<string, string>, object | undefined][]) {
    const named = Object.entries(variables).map(([name, value]) => [`LOOKALIKE_CLIENT_${name}`, value]);
    const options = readOptions([...NEEDED, ...more], Object.fromEntries(named));
    assert.deepEqual(options !== "help" && options.tls, expected);
  }
});

test("the token comes from a file, which a token on the command line overrides", () => {
  const file = join(mkdtempSync(join(tmpdir(), "tour-")), "token");
  writeFileSync(file, "from-file\n");
  const environment = { LOOKALIKE_CLIENT_TOKEN_FILE: file };
  const tokens = [[], ["--token", "from-option"], ["--token-file", file]].map((more) =>
    readOptions([...NEEDED, ...more], environment),
  );
  assert.deepEqual(
    tokens.map((options) => options !== "help" && options.token),
    ["from-file", "from-option", "from-file"],
  );
});

for (const wrong of [
  ["--token-file", "/nowhere/token"],
  ["--cert", "c.pem"],
  ["--key", "c.key"],
  ["--tls=maybe"],
  ["--k", "-1"],
  ["--k", "1.5"],
  ["--k", ""],
  ["--k", "4294967296"],
  ["--k"],
  ["--deadline", "0"],
  ["--deadline", "-1"],
  ["--deadline", "1e999"],
  ["--stream-deadline", "soon"],
  ["--token", "line\nbreak"],
  ["--color=red"],
  ["stray"],
  ["--"],
]) {
  test(`${JSON.stringify(wrong)} is rejected in one line that names it`, () => {
    const name = wrong[0] === "--token" ? "token" : wrong[0]!.split("=")[0]!;
    const isExpected = (error: unknown) =>
      error instanceof UsageError && error.message.includes(name) && !error.message.includes("\n");
    assert.throws(() => readOptions([...NEEDED, ...wrong], {}), isExpected);
  });
}

test("a missing option is named, and help needs none", () => {
  assert.throws(() => readOptions(NEEDED.slice(1), {}), /--image is required/);
  assert.equal(readOptions(["--help"], {}), "help");
});
