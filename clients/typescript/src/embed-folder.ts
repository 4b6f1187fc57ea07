/** Bulk work over one stream: photos go out as the server takes them, while answers come in. */

import { readdir, readFile, stat } from "node:fs/promises";
import { sep } from "node:path";
import { type Metadata, status } from "@grpc/grpc-js";
import { deadlineIn } from "./calls.js";
import { MAX_MESSAGE_BYTES, WINDOW } from "./channel.js";
import { CallError, type Refusal, refusalFrom } from "./errors.js";
import type { EmbeddingServiceClient, EmbedStreamResponse } from "./gen/lookalike/v1/embedding_service.js";

// a message also holds the photo's name and a few bytes of its own
const MAX_PHOTO_BYTES = MAX_MESSAGE_BYTES - 1024;

/** What became of one photo. */
export type Embedded = { id: string } & ({ dim: number; norm: number; first: number[] } | { error: Refusal });

/** The names of the files directly in a folder, hidden ones left out: bytes, as a name may be no UTF-8. */
export async function listPhotos(folder: string): Promise<Buffer[]> {
  const names: Buffer[] = [];
  for (const name of await readdir(folder, { encoding: "buffer" })) {
    // one that is gone already is told of when its turn comes
    const kind = await stat(pathOf(folder, name)).catch(() => undefined);
    if (name[0] !== 0x2e && !kind?.isDirectory()) {
      names.push(name);
    }
  }
  return names;
}

/**
 * Embeds files of a folder; the results are sorted by their ids' UTF-8 bytes. At most WINDOW photos are sent and not yet
 * answered, and each is read when its turn comes. One that cannot be read, or is refused, fails alone.
 *
 * @throws ServiceError or CallError where the stream breaks
 */
export async function embedFolder(
  client: EmbeddingServiceClient,
  folder: string,
  names: Buffer[],
  metadata: Metadata,
  seconds: number,
): Promise<Embedded[]> {
  const results: Embedded[] = [];
  const call = client.embedStream(metadata, deadlineIn(seconds));
  let unanswered = 0;
  let ended = false;
  let wake = (): void => {};
  call.on("drain", () => wake());

  async function send(): Promise<void> {
    for (const name of names) {
      while (!ended && (unanswered >= WINDOW || call.writableNeedDrain)) {
        await new Promise<void>((resolve) => (wake = resolve));
      }
      const id = name.toString();
      const photo = ended ? undefined : await readPhoto(pathOf(folder, name));
      if (ended || !photo) {
        return;
      }
      if (photo instanceof CallError) {
        results.push({ id, error: photo.refusal });
        continue;
      }
      unanswered += 1;
      call.write({ id, image: { source: { $case: "encoded", value: photo }, region: undefined } });
    }
    call.end();
  }

  const sending = send();
  try {
    for await (const answer of call as AsyncIterable<EmbedStreamResponse>) {
      if (unanswered === 0) {
        throw new CallError(status.INTERNAL, "the server answered more photos than were sent");
      }
      unanswered -= 1;
      results.push(readAnswer(answer));
      wake();
    }
  } finally {
    ended = true;
    wake();
    call.cancel();
    await sending;
  }
  if (results.length < names.length) {
    const message = `the server ended the stream after ${results.length} of ${names.length} photos`;
    throw new CallError(status.INTERNAL, message);
  }
  return results.sort((one, other) => Buffer.compare(Buffer.from(one.id), Buffer.from(other.id)));
}

function pathOf(folder: string, name: Buffer): Buffer {
  return Buffer.concat([Buffer.from(folder + sep), name]);
}

/** A file's bytes, or why they cannot be sent. */
async function readPhoto(path: Buffer): Promise<Buffer | CallError> {
  try {
    const file = await stat(path);
    if (!file.isFile()) {
      // a pipe would be waited on for ever
      return new CallError(status.NOT_FOUND, `${path} is not a regular file`);
    }
    if (file.size > MAX_PHOTO_BYTES) {
      const message = `${path} has ${file.size} bytes and a message holds at most ${MAX_PHOTO_BYTES}`;
      return new CallError(status.INVALID_ARGUMENT, message);
    }
    return await readFile(path);
  } catch (error) {
    return new CallError(status.NOT_FOUND, (error as Error).message);
  }
}

function readAnswer({ id, result }: EmbedStreamResponse): Embedded {
  switch (result?.$case) {
    case "embedding": {
      const { values } = result.value;
      const norm = Math.sqrt(values.reduce((sum, value) => sum + value * value, 0));
      return { id, dim: values.length, norm, first: values.slice(0, 4) };
    }
    case "status":
      return { id, error: refusalFrom(result.value) };
    default:
      return { id, error: new CallError(status.INTERNAL, "the server answered with nothing").refusal };
  }
}
