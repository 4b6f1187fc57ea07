/** The tour's command line. */

import { parseArgs } from "node:util";

export interface Options {
  server: string;
  /** Empty: none. */
  token: string;
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

/** What the caller has to change; its message is one line. */
export class UsageError extends Error {}

export const USAGE = `usage: node tour.js --image FILE --category C --product-id ID --folder DIR --bad-image FILE [option ...]

Asks a Lookalike server what a backend asks, and prints the answers as one JSON object.

  --server HOST:PORT          where the server listens (127.0.0.1:50051)
  --token TOKEN               sent as a bearer token; or LOOKALIKE_CLIENT_TOKEN in the environment
  --image FILE                the photo of search_by_image
  --category C                the category that search_by_image searches
  --product-id ID             the product of search_by_id
  --folder DIR                the photos of embed_stream: the files directly in it, hidden ones left out
  --bad-image FILE            the file of bad_image
  --k N                       how many neighbours (5)
  --deadline SECONDS          how long one call may take, its repeats included (10)
  --stream-deadline SECONDS   how long the stream may take (300)
  --help                      print this

Exit status: 0, or 1 where a step failed, or 2 where an option or a file is wrong.
`;

const text = { type: "string" } as const;
const OPTIONS = {
  server: text,
  token: text,
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
 * Reads the words after the program's name; "help" where they ask for it.
 *
 * @throws UsageError
 */
export function readOptions(words: string[], environment: NodeJS.ProcessEnv): Options | "help" {
  // not strict: its messages have several lines, and it takes no value that begins with a dash
  const { tokens } = parseArgs({ args: words, options: OPTIONS, strict: false, tokens: true });
  if (tokens.some((token) => token.kind === "option" && token.name === "help")) {
    return "help";
  }
  const given = new Map<string, string>();
  for (const token of tokens) {
    if (token.kind !== "option") {
      const word = token.kind === "positional" ? token.value : "--";
      throw new UsageError(`${JSON.stringify(word)} belongs to no option; --help lists the options`);
    }
    if (!Object.hasOwn(OPTIONS, token.name)) {
      throw new UsageError(`there is no option ${token.rawName}; --help lists the options`);
    }
    if (token.value === undefined) {
      throw new UsageError(`${token.rawName} needs a value`);
    }
    given.set(token.name, token.value);
  }
  const required = (name: keyof typeof OPTIONS): string => {
    const value = given.get(name);
    if (value === undefined) {
      throw new UsageError(`--${name} is missing; --help lists the options`);
    }
    return value;
  };
  return {
    server: given.get("server") ?? "127.0.0.1:50051",
    token: readToken(given.get("token") ?? environment["LOOKALIKE_CLIENT_TOKEN"] ?? ""),
    image: required("image"),
    category: required("category"),
    productId: required("product-id"),
    folder: required("folder"),
    badImage: required("bad-image"),
    k: readCount("--k", given.get("k") ?? "5"),
    deadline: readSeconds("--deadline", given.get("deadline") ?? "10"),
    streamDeadline: readSeconds("--stream-deadline", given.get("stream-deadline") ?? "300"),
  };
}

function readToken(token: string): string {
  if (!/^[\x20-\x7e]*$/.test(token)) {
    throw new UsageError("the token may hold printable ASCII characters only");
  }
  return token;
}

function readCount(option: string, value: string): number {
  const count = /^[+-]?[0-9]+$/.test(value) ? Number(value) : NaN;
  // larger ones do not fit into the request's uint32
  if (!(count >= 0 && count < 2 ** 32)) {
    throw new UsageError(`${option} must be a whole number, 0 or more, not ${JSON.stringify(value)}`);
  }
  return count;
}

function readSeconds(option: string, value: string): number {
  const seconds = /^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)(e[+-]?[0-9]+)?$/i.test(value) ? Number(value) : NaN;
  if (!(seconds > 0 && seconds < Infinity)) {
    throw new UsageError(`${option} must be a number of seconds greater than 0, not ${JSON.stringify(value)}`);
  }
  // gRPC's header holds no more than 100 million hours
  return Math.min(seconds, 1e9);
}
