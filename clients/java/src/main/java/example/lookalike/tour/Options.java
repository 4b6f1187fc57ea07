package example.lookalike.tour;

import java.nio.charset.Charset;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.Arrays;
import java.util.Map;
import picocli.CommandLine;
import picocli.CommandLine.Command;
import picocli.CommandLine.ITypeConverter;
import picocli.CommandLine.Option;
import picocli.CommandLine.ParameterException;
import picocli.CommandLine.TypeConversionException;

/** The tour's command line. */
@Command(
    name = "java -jar tour.jar",
    description = "Makes the calls of a typical backend to a Lookalike server and prints the results as JSON.",
    footer = "Exit status: 0, or 1 if a step failed, or 2 if an option or a file is invalid.",
    sortOptions = false)
final class Options {
  @Option(
      names = "--server",
      paramLabel = "HOST:PORT",
      defaultValue = "127.0.0.1:50051",
      description = "where the server listens (${DEFAULT-VALUE})")
  String server;

  @Option(
      names = "--token",
      paramLabel = "TOKEN",
      description = "sent as a bearer token; or LOOKALIKE_CLIENT_TOKEN in the environment")
  String token;

  @Option(
      names = "--token-file",
      paramLabel = "FILE",
      description = "a file of the token; or LOOKALIKE_CLIENT_TOKEN_FILE in the environment")
  Path tokenFile;

  @Option(
      names = "--tls",
      description = "encrypt the connection; trust the CAs of the JVM; or LOOKALIKE_CLIENT_TLS=1")
  boolean encrypt;

  @Option(
      names = "--ca",
      paramLabel = "FILE",
      description = "encrypt the connection; trust these CAs, PEM; or LOOKALIKE_CLIENT_CA")
  Path ca;

  @Option(
      names = "--cert",
      paramLabel = "FILE",
      description = "the client's certificate, PEM; or LOOKALIKE_CLIENT_CERT")
  Path certificate;

  @Option(
      names = "--key",
      paramLabel = "FILE",
      description = "the key of the certificate, PEM in PKCS #8; or LOOKALIKE_CLIENT_KEY")
  Path key;

  /** How to encrypt the connection, or null. */
  Tls tls;

  @Option(names = "--image", required = true, paramLabel = "FILE", description = "the image of search_by_image")
  Path image;

  @Option(
      names = "--category",
      required = true,
      paramLabel = "C",
      description = "the category that search_by_image searches")
  String category;

  @Option(names = "--product-id", required = true, paramLabel = "ID", description = "the product of search_by_id")
  String productId;

  @Option(
      names = "--folder",
      required = true,
      paramLabel = "DIR",
      description = "the images of embed_stream: the files directly in it, without hidden files")
  Path folder;

  @Option(names = "--bad-image", required = true, paramLabel = "FILE", description = "the file of bad_image")
  Path badImage;

  @Option(
      names = "--k",
      paramLabel = "N",
      defaultValue = "5",
      converter = Uint32.class,
      description = "how many neighbors (${DEFAULT-VALUE})")
  int k;

  @Option(
      names = "--deadline",
      paramLabel = "SECONDS",
      defaultValue = "10",
      converter = Seconds.class,
      description = "the deadline of each call, retries included (${DEFAULT-VALUE})")
  Duration deadline;

  @Option(
      names = "--stream-deadline",
      paramLabel = "SECONDS",
      defaultValue = "300",
      converter = Seconds.class,
      description = "the deadline of the stream (${DEFAULT-VALUE})")
  Duration streamDeadline;

  @Option(names = {"-h", "--help"}, usageHelp = true, description = "print this help")
  boolean help;

  private Options() {}

  /**
   * Parses the command line.
   *
   * @param environment variables that count where there is no option
   */
  static Options parse(String[] args, Map<String, String> environment) throws UsageException {
    // Java decodes arguments in the locale's encoding, which is ASCII without a locale
    if (Arrays.stream(args).anyMatch(arg -> arg.indexOf('\uFFFD') >= 0)) {
      String encoding = System.getProperty("sun.jnu.encoding", Charset.defaultCharset().name());
      throw new UsageException("an argument is not valid " + encoding + ", the locale's encoding; set LC_ALL=C.UTF-8");
    }
    Options options = new Options();
    try {
      new CommandLine(options).setExpandAtFiles(false).setOverwrittenOptionsAllowed(true).parseArgs(args);
    } catch (ParameterException invalid) {
      throw new UsageException(invalid.getMessage() + "; --help lists the options");
    }
    if (!options.help) {
      options.readToken(environment);
      options.readTls(environment);
    }
    return options;
  }

  private void readToken(Map<String, String> environment) throws UsageException {
    if (token == null && tokenFile == null) {
      token = environment.get("LOOKALIKE_CLIENT_TOKEN");
      tokenFile = path(environment, "LOOKALIKE_CLIENT_TOKEN_FILE");
    }
    if (token != null && !token.isEmpty() && tokenFile != null) {
      throw new UsageException("give the token or the file of a token, not both");
    }
    if (tokenFile != null) {
      token = UsageException.forOption("--token-file", () -> Files.readString(tokenFile)).strip();
      if (token.isEmpty()) {
        throw new UsageException("--token-file: " + tokenFile + " is empty");
      }
    }
    token = token == null ? "" : token;
    if (!token.chars().allMatch(character -> character >= ' ' && character <= '~')) {
      throw new UsageException("--token: must be printable ASCII characters: it is sent as a header");
    }
  }

  /** Any option of TLS turns it on. */
  private void readTls(Map<String, String> environment) throws UsageException {
    ca = ca == null ? path(environment, "LOOKALIKE_CLIENT_CA") : ca;
    if (certificate == null && key == null) {
      certificate = path(environment, "LOOKALIKE_CLIENT_CERT");
      key = path(environment, "LOOKALIKE_CLIENT_KEY");
    }
    if ((certificate == null) != (key == null)) {
      throw new UsageException("--cert and --key belong together: give both or neither");
    }
    String variable = environment.getOrDefault("LOOKALIKE_CLIENT_TLS", "");
    if (!variable.matches("(?i)|[01]|true|false|yes|no")) {
      throw new UsageException("LOOKALIKE_CLIENT_TLS must be 1 or 0, not '" + variable + "'");
    }
    if (encrypt || ca != null || certificate != null || variable.matches("(?i)1|true|yes")) {
      tls = new Tls(ca, certificate, key);
    }
  }

  private static Path path(Map<String, String> environment, String name) {
    String value = environment.getOrDefault(name, "");
    return value.isEmpty() ? null : Path.of(value);
  }

  static String usage() {
    return new CommandLine(new Options()).getUsageMessage(CommandLine.Help.Ansi.OFF);
  }

  private static final class Uint32 implements ITypeConverter<Integer> {
    @Override
    public Integer convert(String text) {
      try {
        return Integer.parseUnsignedInt(text);
      } catch (NumberFormatException invalid) {
        throw new TypeConversionException("must be a whole number from 0 to 4294967295, not '" + text + "'");
      }
    }
  }

  private static final class Seconds implements ITypeConverter<Duration> {
    @Override
    public Duration convert(String text) {
      double seconds = text.matches("[+-]?(\\d+\\.?\\d*|\\.\\d+)([eE][+-]?\\d+)?") ? Double.parseDouble(text) : 0;
      if (!(seconds > 0)) {
        throw new TypeConversionException("must be a number of seconds above 0, not '" + text + "'");
      }
      return Duration.ofNanos((long) (seconds * 1e9)); // the cast saturates at 292 years
    }
  }
}
