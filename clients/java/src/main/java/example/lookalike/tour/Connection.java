package example.lookalike.tour;

import com.google.gson.Gson;
import com.google.gson.reflect.TypeToken;
import io.grpc.Grpc;
import io.grpc.ManagedChannel;
import io.grpc.ManagedChannelBuilder;
import io.grpc.ManagedChannelRegistry;
import io.grpc.Metadata;
import io.grpc.stub.MetadataUtils;
import java.io.IOException;
import java.io.InputStream;
import java.io.InputStreamReader;
import java.math.BigInteger;
import java.net.InetAddress;
import java.net.UnknownHostException;
import java.nio.charset.StandardCharsets;
import java.util.Map;

/** Opens channels: message sizes, retries, proxies and TLS. */
final class Connection {
  /** The size limit of a message, in both directions. */
  static final int MAX_MESSAGE_BYTES = 64 << 20;

  /**
   * gRPC does not retry a call that is larger than this, with a header of five bytes per message. Its default is 1 MiB:
   * less than an image.
   */
  private static final long RETRY_BUFFER_BYTES = MAX_MESSAGE_BYTES + 5;

  private static final Metadata.Key<String> AUTHORIZATION =
      Metadata.Key.of("authorization", Metadata.ASCII_STRING_MARSHALLER);

  private Connection() {}

  /**
   * Opens a channel to a target, HOST:PORT or any gRPC target; it connects at the first call.
   *
   * @param token sent with every call unless it is empty
   * @param tls how to encrypt the connection, or null
   * @throws IllegalArgumentException where the target, or a file of TLS, is invalid
   */
  static ManagedChannel open(String target, String token, Tls tls) throws IOException {
    String port = target.substring(target.lastIndexOf(':') + 1);
    if (port.matches("\\d+") && new BigInteger(port).bitLength() > 16) {
      throw new IllegalArgumentException("the port must be at most 65535"); // gRPC would retry until the deadline
    }
    ManagedChannelBuilder<?> builder;
    try {
      builder = Grpc.newChannelBuilder(target, Tls.credentials(tls));
    } catch (ManagedChannelRegistry.ProviderNotFoundException invalid) {
      throw new IllegalArgumentException(invalid.getMessage(), invalid); // a file of TLS that cannot be parsed
    }
    builder =
        builder
            .defaultServiceConfig(serviceConfig())
            .disableServiceConfigLookUp() // a DNS TXT record must not replace the file
            .enableRetry()
            .perRpcBufferLimit(RETRY_BUFFER_BYTES)
            .retryBufferSize(RETRY_BUFFER_BYTES)
            .maxInboundMessageSize(MAX_MESSAGE_BYTES);
    if (isLoopback(target)) {
      builder.proxyDetector(address -> null); // a proxy does not reach this machine's loopback
    }
    if (!token.isEmpty()) {
      Metadata headers = new Metadata();
      headers.put(AUTHORIZATION, "Bearer " + token);
      builder.intercept(MetadataUtils.newAttachHeadersInterceptor(headers));
    }
    return builder.build();
  }

  private static Map<String, Object> serviceConfig() throws IOException {
    try (InputStream file = Connection.class.getResourceAsStream("/service_config.json")) {
      return new Gson().fromJson(new InputStreamReader(file, StandardCharsets.UTF_8), new TypeToken<>() {});
    }
  }

  /** Whether a gRPC target is on this machine: localhost, 127.0.0.0/8, ::1 or a unix socket. */
  static boolean isLoopback(String target) {
    if (target.startsWith("unix:") || target.startsWith("unix-abstract:")) {
      return true;
    }
    String address = target.substring(target.lastIndexOf('/') + 1).replaceFirst("^(dns|ipv4|ipv6):", "");
    String host;
    if (address.startsWith("[")) {
      host = address.substring(1).replaceFirst("].*", "");
    } else if (address.indexOf(':') != address.lastIndexOf(':')) {
      host = address;
    } else {
      host = address.replaceFirst(":.*", "");
    }
    if (host.contains(":")) {
      try {
        return InetAddress.getByName(host).isLoopbackAddress(); // with a colon there is no DNS lookup
      } catch (UnknownHostException invalid) {
        return false;
      }
    }
    return host.matches("127(\\.(25[0-5]|2[0-4]\\d|1?\\d?\\d)){3}") || host.matches("(?i)localhost\\.?");
  }
}
