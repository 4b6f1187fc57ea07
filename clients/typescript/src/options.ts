/** The tour's command line. */

import { readFileSync } from "node:fs";
import { parseArgs } from "node:util";
import type { Tls } from "./tls.js";

export interface Options {
  server: string;
  /** Empty: none. */
  token: string;
  /** Undefined: no encryption. */
  tls: Tls | undefined;
  image: string;
  category: string;
  productId: string;
  folder: string;
  badImage: string;
  k: number;
  /** Seconds. */
  deadline: number;
  /** Seconds. */
  streamDeadline: number;
}

/** An invalid command line or an unreadable file; the message is one line. */
export class UsageError extends Error {}

export const USAGE = `usage: node tour.js --image FILE --category C --product-id ID --folder DIR --bad-image FILE [option ...]

Makes the calls of a typical backend to a Lookalike server and prints the results as one JSON object.

  --server HOST:PORT          where the server listens (127.0.0.1:50051)
  --token TOKEN               sent as a bearer token; or LOOKALIKE_CLIENT_TOKEN in the environment
  --token-file FILE           a file of the token; or LOOKALIKE_CLIENT_TOKEN_FILE
  --tls                       encrypt the connection; trust the CAs of Node.js; or LOOKALIKE_CLIENT_TLS=1
  --ca FILE                   encrypt the connection; trust these CAs, PEM; or LOOKALIKE_CLIENT_CA
  --cert FILE, --key FILE     the client's certificate and its key, PEM; or LOOKALIKE_CLIENT_CERT and ..._KEY
  --image FILE                the image of search_by_image
  --category C                the category that search_by_image searches
  --product-id ID             the product of search_by_id
  --folder DIR                the images of embed_stream: the files directly in it, without hidden files
  --bad-image FILE            the file of bad_image
  --k N                       how many neighbors (5)
  --deadline SECONDS          the deadline of each call, retries included (10)
  --stream-deadline SECONDS   the deadline of the stream (300)
  --help                      print this help

Exit status: 0, or 1 if a step failed, or 2 if an option or a file is invalid.
`;

const text = { type: "string" } as const;
const OPTIONS = {
  server: text,
  token: text,
  "token-file": text,
  tls: { type: "boolean" },
  ca: text,
  cert: text,
  key: text,
  image: text,
  category: text,
  "product-id": text,
  folder: text,
  "bad-image": text,
  k: text,
  deadline: text,
  "stream-deadline": text,
  help: { type: "boolean", short: "h" },
} as const;

/**
 * Parses the command line; "help" for --help.
 *
 * @throws UsageError
 */
export function readOptions(args: string[], environment: NodeJS.ProcessEnv): Options | "help" {
  // not strict: its messages have several lines, and it rejects values that begin with a dash
  const { tokens } = parseArgs({ args, options: OPTIONS, strict: false, tokens: true });
  if (tokens.some((token) => token.kind === "option" && token.name === "help")) {
    return "help";
  }
  const values = new Map<string, string>();
  for (const token of tokens) {
    if (token.kind !== "option") {
      const word = token.kind === "positional" ? token.value : "--";
      throw new UsageError(`unexpected argument ${JSON.stringify(word)}; --help lists the options`);
    }
    if (!Object.hasOwn(OPTIONS, token.name)) {
      throw new UsageError(`unknown option ${token.rawName}; --help lists the options`);
    }
    if (token.name === "tls" && token.value === undefined) {
      values.set("tls", "1");
      continue;
    }
    if (token.value === undefined) {
      throw new UsageError(`${token.rawName} needs a value`);
    }
    values.set(token.name, token.value);
  }
  const required = (name: keyof typeof OPTIONS): string => {
    const value = values.get(name);
    if (value === undefined) {
      throw new UsageError(`--${name} is required; --help lists the options`);
    }
    return value;
  };
  return {
    server: values.get("server") ?? "127.0.0.1:50051",
    token: readToken(values, environment),
    tls: readTls(values, environment),
    image: required("image"),
    category: required("category"),
    productId: required("product-id"),
    folder: required("folder"),
    badImage: required("bad-image"),
    k: readCount("--k", values.get("k") ?? "5"),
    deadline: readSeconds("--deadline", values.get("deadline") ?? "10"),
    streamDeadline: readSeconds("--stream-deadline", values.get("stream-deadline") ?? "300"),
  };
}

function readToken(values: Map<string, string>, environment: NodeJS.ProcessEnv): string {
  let [token, file] = [values.get("token"), values.get("token-file")];
  if (token === undefined && file === undefined) {
    [token, file] = [environment["LOOKALIKE_CLIENT_TOKEN"], environment["LOOKALIKE_CLIENT_TOKEN_FILE"]];
  }
  if (token && file) {
    throw new UsageError("give the token or the file of a token, not both");
  }
  if (file) {
    token = readTokenFile(file);
  }
  if (!/^[\x20-\x7e]*$/.test(token ?? "")) {
    throw new UsageError("--token: must be printable ASCII characters: it is sent as a header");
  }
  return token ?? "";
}

function readTokenFile(file: string): string {
  let content: string;
  try {
    content = readFileSync(file, "utf8").trim();
  } catch (error) {
    throw new UsageError(`--token-file ${file}: ${(error as Error).message}`);
  }
  if (!content) {
    throw new UsageError(`--token-file ${file}: is empty`);
  }
  return content;
}

/** Any option of TLS turns it on. */
function readTls(values: Map<string, string>, environment: NodeJS.ProcessEnv): Tls | undefined {
  const ca = values.get("ca") || environment["LOOKALIKE_CLIENT_CA"] || undefined;
  let [certificate, key] = [values.get("cert"), values.get("key")];
  if (!certificate && !key) {
    [certificate, key] = [environment["LOOKALIKE_CLIENT_CERT"], environment["LOOKALIKE_CLIENT_KEY"]];
  }
  if (!certificate !== !key) {
    throw new UsageError("--cert and --key belong together: give both or neither");
  }
  const encrypt =
    readFlag("--tls", values.get("tls")) || readFlag("LOOKALIKE_CLIENT_TLS", environment["LOOKALIKE_CLIENT_TLS"]);
  return encrypt || ca || certificate
    ? { ca, certificate: certificate || undefined, key: key || undefined }
    : undefined;
}

function readFlag(name: string, value = ""): boolean {
  const flag = new Map([
    ["", false],
    ["0", false],
    ["false", false],
    ["no", false],
    ["1", true],
    ["true", true],
    ["yes", true],
  ]).get(value.toLowerCase());
  if (flag === undefined) {
    throw new UsageError(`${name} must be 1 or 0, not ${JSON.stringify(value)}`);
  }
  return flag;
}

function readCount(option: string, value: string): number {
  const count = /^[+-]?[0-9]+$/.test(value) ? Number(value) : NaN;
  // the request's k is a uint32
  if (!(count >= 0 && count < 2 ** 32)) {
    throw new UsageError(`${option} must be a whole number from 0 to 4294967295, not ${JSON.stringify(value)}`);
  }
  return count;
}

function readSeconds(option: string, value: string): number {
  const seconds = /^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)(e[+-]?[0-9]+)?$/i.test(value) ? Number(value) : NaN;
  if (!(seconds > 0 && seconds < Infinity)) {
    throw new UsageError(`${option} must be a number of seconds greater than 0, not ${JSON.stringify(value)}`);
  }
  // the grpc-timeout header holds at most 100 million hours
  return Math.min(seconds, 1e9);
}
