package example.lookalike.tour;

import java.nio.charset.Charset;
import java.nio.file.Path;
import java.time.Duration;
import java.util.Arrays;
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
   * @param token the token if there is no --token; may be null
   */
  static Options parse(String[] args, String token) throws UsageException {
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
    if (options.token == null) {
      options.token = token == null ? "" : token;
    }
    if (!options.token.chars().allMatch(character -> character >= ' ' && character <= '~')) {
      throw new UsageException("--token: must be printable ASCII characters: it is sent as a header");
    }
    return options;
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
