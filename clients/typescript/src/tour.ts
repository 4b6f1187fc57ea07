/** The tour: the calls of a typical backend, step by step, printed as one JSON object. See ../../README.md. */

import { readFile } from "node:fs/promises";
import { type Channel, Client, credentials, type Metadata } from "@grpc/grpc-js";
import { checkHealth, unary } from "./calls.js";
import { callMetadata, isLoopback, openChannel } from "./channel.js";
import { embedFolder, listImages } from "./embed-folder.js";
import { CallError, type ErrorDetails, errorDetails } from "./errors.js";
import { EmbeddingServiceClient, GetModelRequest, Metric } from "./gen/lookalike/v1/embedding_service.js";
import type { Image } from "./gen/lookalike/v1/image.js";
import { SearchRequest, type SearchResponse, SearchServiceClient } from "./gen/lookalike/v1/search_service.js";
import { type Options, readOptions, USAGE, UsageError } from "./options.js";

/** The inputs of the calls. All but the folder's images are read before the first call. */
interface Inputs {
  options: Options;
  image: Buffer;
  badImage: Buffer;
  imageNames: Buffer[];
  metadata: Metadata;
  channel: Channel;
}

async function readInputs(options: Options): Promise<Inputs> {
  const { badImage, folder, image, server, tls } = options;
  return {
    options,
    image: await forOption(`--image ${image}`, readFile(image)),
    badImage: await forOption(`--bad-image ${badImage}`, readFile(badImage)),
    imageNames: await forOption(`--folder ${folder}`, listImages(folder)),
    metadata: callMetadata(options.token),
    channel: await forOption(
      `--server ${server}`,
      Promise.resolve().then(() => openChannel(server, tls)),
    ),
  };
}

/** Awaits the value of an option; an error becomes a UsageError that names the option. */
function forOption<Value>(option: string, value: Promise<Value>): Promise<Value> {
  return value.catch((error: Error) => {
    throw new UsageError(`${option}: ${error.message}`);
  });
}

function stepsOf(inputs: Inputs): [string, () => Promise<unknown>][] {
  const { options, image, badImage, imageNames, metadata, channel } = inputs;
  const shared = { channelOverride: channel };
  const health = new Client(options.server, credentials.createInsecure(), shared);
  const embedding = new EmbeddingServiceClient(options.server, credentials.createInsecure(), shared);
  const searchClient = new SearchServiceClient(options.server, credentials.createInsecure(), shared);
  const { category, deadline, k, productId } = options;
  const search = async (query: Partial<SearchRequest>) => {
    const request = SearchRequest.create({ ...query, k });
    return searchResult(await unary(searchClient.search.bind(searchClient), request, metadata, deadline));
  };
  return [
    ["health", () => checkHealth(health, metadata, deadline)],
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
    ["search_by_image", () => search({ query: { $case: "image", value: encoded(image) }, category })],
    ["search_by_id", () => search({ query: { $case: "productId", value: productId } })],
    ["embed_stream", () => embedFolder(embedding, options.folder, imageNames, metadata, options.streamDeadline)],
    [
      "bad_image",
      async () => {
        try {
          await unary(embedding.embed.bind(embedding), { image: encoded(badImage) }, metadata, deadline);
          return null;
        } catch (error) {
          const details = errorDetails(error);
          if (details?.code !== "INVALID_ARGUMENT") {
            throw error;
          }
          return details;
        }
      },
    ],
  ];
}

function encoded(file: Buffer): Image {
  return { source: { $case: "encoded", value: file }, region: undefined };
}

function searchResult({ neighbors, stats }: SearchResponse): object {
  return {
    neighbors: neighbors.map(({ product, distance, similarity, imageIndex }) => ({
      id: product?.id ?? "",
      category: product?.category ?? "",
      title: product?.title ?? "",
      distance,
      similarity,
      image_index: imageIndex,
    })),
    model_digest: stats?.modelDigest ?? "",
  };
}

/** One line about the failed step. */
function explain(step: string, error: unknown, { code, message }: ErrorDetails, server: string): string {
  // a running server never fails a health check with UNAVAILABLE
  const unreachable = step === "health" && code === "UNAVAILABLE" && !(error instanceof CallError);
  return `${step}: ${unreachable ? `no server responds at ${server} (${message})` : `${code}: ${message}`}`;
}

function printError(line: string): void {
  process.stderr.write(`tour: ${line.replace(/\s+/g, " ")}\n`);
}

/** Runs the tour and returns the exit status. */
async function main(): Promise<number> {
  const options = readOptions(process.argv.slice(2), process.env);
  if (options === "help") {
    process.stdout.write(USAGE);
    return 0;
  }
  const inputs = await readInputs(options);
  if (options.token && !options.tls && !isLoopback(options.server)) {
    printError(`WARNING: the token is sent to ${options.server} without encryption; use --tls or --ca FILE`);
  }
  const results: Record<string, unknown> = {};
  try {
    for (const [step, run] of stepsOf(inputs)) {
      try {
        results[step] = await run();
      } catch (error) {
        const details = errorDetails(error);
        if (!details) {
          throw error;
        }
        printError(explain(step, error, details, options.server));
        results["failed"] = { step, error: details };
        return 1;
      }
    }
    return 0;
  } finally {
    // other languages escape these two
    const json = JSON.stringify(results, null, 2).replaceAll("\u2028", "\\u2028").replaceAll("\u2029", "\\u2029");
    process.stdout.write(`${json}\n`);
    inputs.channel.close();
  }
}

// grpc-js names an IP address as the TLS server name, which Node.js warns about (DEP0123)
process.noDeprecation = true;
process.on("SIGINT", () => process.exit(130));
// a closed pipe, as in `| head`, is not worth a stack trace
process.stdout.on("error", () => process.exit(1));

try {
  process.exitCode = await main();
} catch (error) {
  if (!(error instanceof UsageError)) {
    throw error;
  }
  printError(error.message);
  process.exitCode = 2;
}
