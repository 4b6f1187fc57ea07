/** The tour: what a backend asks a Lookalike server, step by step, as one JSON object. See ../README.md. */

import { readFile } from "node:fs/promises";
import { type Channel, Client, credentials, type Metadata } from "@grpc/grpc-js";
import { checkHealth, unary } from "./calls.js";
import { callMetadata, openChannel } from "./channel.js";
import { embedFolder, listPhotos } from "./embed-folder.js";
import { CallError, type Refusal, refusalOf } from "./errors.js";
import { EmbeddingServiceClient, GetModelRequest, Metric } from "./gen/lookalike/v1/embedding_service.js";
import type { Image } from "./gen/lookalike/v1/image.js";
import { SearchRequest, type SearchResponse, SearchServiceClient } from "./gen/lookalike/v1/search_service.js";
import { type Options, readOptions, USAGE, UsageError } from "./options.js";

/** What the tour takes along: all of it is read before the first call, but for the folder's photos. */
interface Luggage {
  options: Options;
  image: Buffer;
  badImage: Buffer;
  photos: Buffer[];
  metadata: Metadata;
  channel: Channel;
}

async function pack(options: Options): Promise<Luggage> {
  const { badImage, folder, image, server } = options;
  return {
    options,
    image: await given(`--image ${image}`, readFile(image)),
    badImage: await given(`--bad-image ${badImage}`, readFile(badImage)),
    photos: await given(`--folder ${folder}`, listPhotos(folder)),
    metadata: callMetadata(options.token),
    channel: await given(`--server ${server}`, Promise.resolve(server).then(openChannel)),
  };
}

/** What an option leads to, or a UsageError that names it. */
function given<Value>(option: string, value: Promise<Value>): Promise<Value> {
  return value.catch((error: Error) => {
    throw new UsageError(`${option}: ${error.message}`);
  });
}

function stepsOf({ options, image, badImage, photos, metadata, channel }: Luggage): [string, () => Promise<unknown>][] {
  const shared = { channelOverride: channel };
  const anything = new Client(options.server, credentials.createInsecure(), shared);
  const embedding = new EmbeddingServiceClient(options.server, credentials.createInsecure(), shared);
  const searching = new SearchServiceClient(options.server, credentials.createInsecure(), shared);
  const { category, deadline, k, productId } = options;
  const search = async (question: Partial<SearchRequest>) => {
    const request = SearchRequest.create({ ...question, k });
    return showNeighbors(await unary(searching.search.bind(searching), request, metadata, deadline));
  };
  return [
    ["health", () => checkHealth(anything, metadata, deadline)],
    [
      "model",
      async () => {
        const model = await unary(embedding.getModel.bind(embedding), GetModelRequest.create(), metadata, deadline);
        return {
          name: model.name,
          backbone: model.backbone,
          weights: model.weights,
          dim: model.dim,
          metric: Metric[model.metric],
          input_width: model.inputWidth,
          input_height: model.inputHeight,
          precision: model.precision,
          digest: model.digest,
        };
      },
    ],
    ["search_by_image", () => search({ query: { $case: "image", value: photo(image) }, category })],
    ["search_by_id", () => search({ query: { $case: "productId", value: productId } })],
    ["embed_stream", () => embedFolder(embedding, options.folder, photos, metadata, options.streamDeadline)],
    [
      "bad_image",
      async () => {
        try {
          await unary(embedding.embed.bind(embedding), { image: photo(badImage) }, metadata, deadline);
          return null;
        } catch (error) {
          const refusal = refusalOf(error);
          if (refusal?.code !== "INVALID_ARGUMENT") {
            throw error;
          }
          return refusal;
        }
      },
    ],
  ];
}

function photo(encoded: Buffer): Image {
  return { source: { $case: "encoded", value: encoded }, region: undefined };
}

function showNeighbors({ neighbors, receipt }: SearchResponse): object {
  return {
    neighbors: neighbors.map(({ product, distance, similarity, imageIndex }) => ({
      id: product?.id ?? "",
      category: product?.category ?? "",
      title: product?.title ?? "",
      distance,
      similarity,
      image_index: imageIndex,
    })),
    model_digest: receipt?.modelDigest ?? "",
  };
}

/** One line on what ended the tour. */
function explain(step: string, error: unknown, { code, message }: Refusal, server: string): string {
  // a server of ours answers every health check: it was not there
  const absent = step === "health" && code === "UNAVAILABLE" && !(error instanceof CallError);
  return `${step}: ${absent ? `no server answers at ${server} (${message})` : `${code}: ${message}`}`;
}

function complain(line: string): void {
  process.stderr.write(`tour: ${line.replace(/\s+/g, " ")}\n`);
}

/** Takes the tour and gives the exit status. */
async function main(): Promise<number> {
  const options = readOptions(process.argv.slice(2), process.env);
  if (options === "help") {
    process.stdout.write(USAGE);
    return 0;
  }
  const luggage = await pack(options);
  const shown: Record<string, unknown> = {};
  try {
    for (const [step, ask] of stepsOf(luggage)) {
      try {
        shown[step] = await ask();
      } catch (error) {
        const refusal = refusalOf(error);
        if (!refusal) {
          throw error;
        }
        complain(explain(step, error, refusal, options.server));
        shown["failed"] = { step, error: refusal };
        return 1;
      }
    }
    return 0;
  } finally {
    process.stdout.write(`${JSON.stringify(shown, null, 2)}\n`);
    luggage.channel.close();
  }
}

process.on("SIGINT", () => process.exit(130));
// a reader that has gone away, such as `| head`, is no mistake
process.stdout.on("error", () => process.exit(1));

try {
  process.exitCode = await main();
} catch (error) {
  if (!(error instanceof UsageError)) {
    throw error;
  }
  complain(error.message);
  process.exitCode = 2;
}
