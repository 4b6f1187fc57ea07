import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, test } from "node:test";
import { credentials, type handleBidiStreamingCall, Metadata, Server, ServerCredentials, status } from "@grpc/grpc-js";
import { openChannel, WINDOW } from "./channel.js";
import { embedFolder, type EmbedResult, listImages } from "./embed-folder.js";
import { errorDetails } from "./errors.js";
import {
  EmbeddingServiceClient,
  EmbeddingServiceService,
  type EmbedStreamRequest,
  EmbedStreamResponse,
} from "./gen/lookalike/v1/embedding_service.js";

let folder: string;
beforeEach(() => (folder = mkdtempSync(join(tmpdir(), "tour-"))));
afterEach(() => rmSync(folder, { recursive: true }));

function put(names: string[]): void {
  names.forEach((name) => writeFileSync(join(folder, name), name));
}

/** Embeds the folder with a server that handles its stream like this. */
async function embedWith(
  handle: handleBidiStreamingCall<EmbedStreamRequest, EmbedStreamResponse>,
): Promise<EmbedResult[]> {
  const server = new Server();
  server.addService(EmbeddingServiceService, { embedStream: handle });
  const port = await new Promise<number>((resolve, reject) =>
    server.bindAsync("127.0.0.1:0", ServerCredentials.createInsecure(), (error, bound) =>
      error ? reject(error) : resolve(bound),
    ),
  );
  const target = `127.0.0.1:${port}`;
  const channel = openChannel(target);
  const client = new EmbeddingServiceClient(target, credentials.createInsecure(), { channelOverride: channel });
  try {
    return await embedFolder(client, folder, await listImages(folder), new Metadata(), 30);
  } finally {
    channel.close();
    server.forceShutdown();
  }
}

function responseTo({ id }: EmbedStreamRequest): EmbedStreamResponse {
  return EmbedStreamResponse.create({ id, result: { $case: "embedding", value: { values: [3, 4] } } });
}

test("a full window is sent before any response, and never one more", async () => {
  const names = Array.from({ length: 3 * WINDOW + 1 }, (_, number) => `${number}.jpg`);
  put(names);
  const waiting: EmbedStreamRequest[] = [];
  let most = 0;
  const results = await embedWith((call) => {
    call.on("data", (request: EmbedStreamRequest) => {
      most = Math.max(most, waiting.push(request));
      if (waiting.length === WINDOW) {
        // long enough for one too many to arrive
        setTimeout(() => waiting.splice(0).forEach((each) => call.write(responseTo(each))), 50);
      }
    });
    call.on("end", () => {
      waiting.forEach((each) => call.write(responseTo(each)));
      call.end();
    });
  });
  assert.equal(most, WINDOW);
  assert.deepEqual(
    results.map(({ id }) => id),
    names.sort(),
  );
  assert.deepEqual(results[0], { id: "0.jpg", dim: 2, norm: 5, first: [3, 4] });
});

test("results are sorted by UTF-8 bytes; missing and rejected files fail alone; folders and hidden files are ignored", async () => {
  put(["\u{1F45F}.jpg", "\uFF21.jpg", "rejected.jpg", ".hidden.jpg"]);
  mkdirSync(join(folder, "subfolder"));
  symlinkSync(join(folder, "nowhere"), join(folder, "gone.jpg"));
  const results = await embedWith((call) => {
    call.on("data", (request: EmbedStreamRequest) => {
      const error = { code: 3, message: "not an image", details: [] };
      const rejection = EmbedStreamResponse.create({ id: request.id, result: { $case: "status", value: error } });
      call.write(request.id === "rejected.jpg" ? rejection : responseTo(request));
    });
    call.on("end", () => call.end());
  });
  assert.deepEqual(
    results.map((each) => [each.id, "error" in each ? each.error.code : each.dim]),
    [
      ["gone.jpg", "NOT_FOUND"],
      ["rejected.jpg", "INVALID_ARGUMENT"],
      ["\uFF21.jpg", 2],
      ["\u{1F45F}.jpg", 2],
    ],
  );
});

test("an empty folder gives no results", async () => {
  assert.deepEqual(await embedWith((call) => call.on("data", () => {}).on("end", () => call.end())), []);
});

test("a stream that breaks, ends early or has too many responses is an error, even while the sender waits", async () => {
  put(Array.from({ length: 2 * WINDOW }, (_, number) => `${number}.jpg`));
  const broken = embedWith((call) => {
    call.once("data", () => call.emit("error", { code: status.PERMISSION_DENIED, details: "denied" }));
  });
  await assert.rejects(broken, (error) => errorDetails(error)?.code === "PERMISSION_DENIED");
  const short = embedWith((call) => {
    call.once("data", (request: EmbedStreamRequest) => {
      call.write(responseTo(request));
      call.end();
    });
  });
  await assert.rejects(short, /ended the stream after 1 of 64 images/);
  const long = embedWith((call) => {
    call.on("data", (request: EmbedStreamRequest) => [1, 2].forEach(() => call.write(responseTo(request))));
  });
  await assert.rejects(long, /more responses than it received images/);
});
