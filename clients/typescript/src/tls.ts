/** TLS: which server to trust, and the certificate that this client shows it. */

import { readFileSync } from "node:fs";
import { type ChannelCredentials, credentials } from "@grpc/grpc-js";

/** Files, all PEM. */
export interface Tls {
  /** The CAs to trust, or the server's own certificate; undefined: those that Node.js trusts. */
  ca?: string | undefined;
  /** This client's certificate, for a server that requires one; with its key. */
  certificate?: string | undefined;
  key?: string | undefined;
}

/**
 * Reads the files.
 *
 * @throws Error where one cannot be read, or holds something else
 */
export function channelCredentials(tls: Tls | undefined): ChannelCredentials {
  if (!tls) {
    return credentials.createInsecure();
  }
  const [ca, key, certificate] = [tls.ca, tls.key, tls.certificate].map((path) => (path ? readFileSync(path) : null));
  // OpenSSL skips what is not PEM, and would then trust nobody
  if (ca && !ca.includes("-----BEGIN CERTIFICATE-----")) {
    throw new Error(`${tls.ca} holds no certificates in PEM format`);
  }
  try {
    return credentials.createSsl(ca, key, certificate);
  } catch (error) {
    throw new Error(`${tls.certificate} and ${tls.key}: ${(error as Error).message}`);
  }
}
