/** Bulk work over one stream: images are sent as fast as the server reads them, while responses arrive. */

import { readdir, readFile, stat } from "node:fs/promises";
import { sep } from "node:path";
import { type Metadata, status } from "@grpc/grpc-js";
import { deadlineIn } from "./calls.js";
import { MAX_MESSAGE_BYTES, WINDOW } from "./channel.js";
import { CallError, type ErrorDetails, statusDetails } from "./errors.js";
import type { EmbeddingServiceClient, EmbedStreamResponse } from "./gen/lookalike/v1/embedding_service.js";

// a message also contains the image's id and a few bytes of its own
const MAX_IMAGE_BYTES = MAX_MESSAGE_BYTES - 1024;

/** The result for one image. */
export type EmbedResult = { id: string } & ({ dim: number; norm: number; first: number[] } | { error: ErrorDetails });

/** The names of the files directly in a folder, without hidden files, as bytes: a name may not be valid UTF-8. */
export async function listImages(folder: string): Promise<Buffer[]> {
  const names: Buffer[] = [];
  for (const name of await readdir(folder, { encoding: "buffer" })) {
    // a missing file is an error when it is read
    const info = await stat(pathOf(folder, name)).catch(() => undefined);
    if (name[0] !== 0x2e && !info?.isDirectory()) {
      names.push(name);
    }
  }
  return names;
}

/**
 * Embeds files of a folder and returns the results sorted by the UTF-8 bytes of their ids. At most WINDOW images are in
 * flight, and each is read just before it is sent. An image that cannot be read or is rejected fails alone.
 *
 * @throws ServiceError or CallError where the stream breaks
 */
export async function embedFolder(
  client: EmbeddingServiceClient,
  folder: string,
  names: Buffer[],
  metadata: Metadata,
  seconds: number,
): Promise<EmbedResult[]> {
  const results: EmbedResult[] = [];
  const call = client.embedStream(metadata, deadlineIn(seconds));
  let inFlight = 0;
  let ended = false;
  let wake = (): void => {};
  call.on("drain", () => wake());

  async function send(): Promise<void> {
    for (const name of names) {
      while (!ended && (inFlight >= WINDOW || call.writableNeedDrain)) {
        await new Promise<void>((resolve) => (wake = resolve));
      }
      const id = name.toString();
      const image = ended ? undefined : await readImage(pathOf(folder, name));
      if (ended || !image) {
        return;
      }
      if (image instanceof CallError) {
        results.push({ id, error: image.details });
        continue;
      }
      inFlight += 1;
      call.write({ id, image: { source: { $case: "encoded", value: image }, region: undefined } });
    }
    call.end();
  }

  const sending = send();
  try {
    for await (const response of call as AsyncIterable<EmbedStreamResponse>) {
      if (inFlight === 0) {
        throw new CallError(status.INTERNAL, "the server sent more responses than it received images");
      }
      inFlight -= 1;
      results.push(readResponse(response));
      wake();
    }
  } finally {
    ended = true;
    wake();
    call.cancel();
    await sending;
  }
  if (results.length < names.length) {
    const message = `the server ended the stream after ${results.length} of ${names.length} images`;
    throw new CallError(status.INTERNAL, message);
  }
  return results.sort((one, other) => Buffer.compare(Buffer.from(one.id), Buffer.from(other.id)));
}

function pathOf(folder: string, name: Buffer): Buffer {
  return Buffer.concat([Buffer.from(folder + sep), name]);
}

/** Reads a file; returns an error where it cannot be sent. */
async function readImage(path: Buffer): Promise<Buffer | CallError> {
  try {
    const file = await stat(path);
    if (!file.isFile()) {
      // reading a pipe would block until something is written to it
      return new CallError(status.NOT_FOUND, `${path} is not a regular file`);
    }
    if (file.size > MAX_IMAGE_BYTES) {
      const message = `${path} has ${file.size} bytes; the maximum for a message is ${MAX_IMAGE_BYTES}`;
      return new CallError(status.INVALID_ARGUMENT, message);
    }
    return await readFile(path);
  } catch (error) {
    return new CallError(status.NOT_FOUND, (error as Error).message);
  }
}

function readResponse({ id, result }: EmbedStreamResponse): EmbedResult {
  switch (result?.$case) {
    case "embedding": {
      const { values } = result.value;
      const norm = Math.sqrt(values.reduce((sum, value) => sum + value * value, 0));
      return { id, dim: values.length, norm, first: values.slice(0, 4) };
    }
    case "status":
      return { id, error: statusDetails(result.value) };
    default:
      return { id, error: new CallError(status.INTERNAL, "the response has no result").details };
  }
}
