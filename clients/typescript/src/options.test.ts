import assert from "node:assert/strict";
import { test } from "node:test";
import { readOptions, UsageError } from "./options.js";

const NEEDED = ["--image=a.jpg", "--category=Men", "--product-id=-7", "--folder", "photos", "--bad-image", "-b.txt"];

test("both forms of an option are read, values may begin with a dash, and the rest has its default", () => {
  assert.deepEqual(readOptions([...NEEDED, "--k", "7", "--deadline=.5"], {}), {
    server: "127.0.0.1:50051",
    token: "",
    image: "a.jpg",
    category: "Men",
    productId: "-7",
    folder: "photos",
    badImage: "-b.txt",
    k: 7,
    deadline: 0.5,
    streamDeadline: 300,
  });
});

test("the token comes from the environment unless it is given", () => {
  const environment = { LOOKALIKE_CLIENT_TOKEN: "theirs" };
  const tokens = [[], ["--token", "mine"]].map((more) => readOptions([...NEEDED, ...more], environment));
  assert.deepEqual(
    tokens.map((options) => options !== "help" && options.token),
    ["theirs", "mine"],
  );
});

for (const wrong of [
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
  ["--colour=red"],
  ["stray"],
  ["--"],
]) {
  test(`${JSON.stringify(wrong)} is refused in one line that names it`, () => {
    const named = wrong[0] === "--token" ? "token" : wrong[0]!.split("=")[0]!;
    const isRight = (error: unknown) =>
      error instanceof UsageError && error.message.includes(named) && !error.message.includes("\n");
    assert.throws(() => readOptions([...NEEDED, ...wrong], {}), isRight);
  });
}

test("a missing option is named, and help needs none", () => {
  assert.throws(() => readOptions(NEEDED.slice(1), {}), /--image is missing/);
  assert.equal(readOptions(["--help"], {}), "help");
});
