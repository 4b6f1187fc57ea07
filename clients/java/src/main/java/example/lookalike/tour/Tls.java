package example.lookalike.tour;

import io.grpc.ChannelCredentials;
import io.grpc.InsecureChannelCredentials;
import io.grpc.TlsChannelCredentials;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;

/**
 * Which server to trust, and the certificate that this client shows it; the files are PEM.
 *
 * @param ca the CAs to trust, or the server's own certificate; null for those of the JVM
 * @param certificate this client's certificate, for a server that requires one; with its key, or null
 * @param key the key of the certificate, in PKCS #8: BEGIN PRIVATE KEY
 */
record Tls(Path ca, Path certificate, Path key) {

  /**
   * Reads the files.
   *
   * @param tls null for a connection that is not encrypted
   * @throws IllegalArgumentException where a file holds something else
   */
  static ChannelCredentials credentials(Tls tls) throws IOException {
    if (tls == null) {
      return InsecureChannelCredentials.create();
    }
    TlsChannelCredentials.Builder builder = TlsChannelCredentials.newBuilder();
    if (tls.ca != null) {
      requirePem(tls.ca, "CERTIFICATE");
      builder.trustManager(tls.ca.toFile());
    }
    if (tls.certificate != null) {
      requirePem(tls.certificate, "CERTIFICATE");
      requirePem(tls.key, "PRIVATE KEY"); // openssl pkcs8 -topk8 -nocrypt makes one of any other
      builder.keyManager(tls.certificate.toFile(), tls.key.toFile());
    }
    return builder.build();
  }

  private static void requirePem(Path file, String kind) throws IOException {
    String begin = "-----BEGIN " + kind + "-----";
    if (!Files.readString(file, StandardCharsets.ISO_8859_1).contains(begin)) {
      throw new IllegalArgumentException(file + " has no line " + begin);
    }
  }
}
