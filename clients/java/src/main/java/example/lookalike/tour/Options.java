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
    description = "Asks a Lookalike server what a backend asks, and prints the answers as JSON.",
    footer = "Exit status: 0, or 1 where a step failed, or 2 where an option or a file is wrong.",
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

  @Option(names = "--image", required = true, paramLabel = "FILE", description = "the photo of search_by_image")
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
      description = "the photos of embed_stream: the files directly in it, hidden ones left out")
  Path folder;

  @Option(names = "--bad-image", required = true, paramLabel = "FILE", description = "the file of bad_image")
  Path badImage;

  @Option(
      names = "--k",
      paramLabel = "N",
      defaultValue = "5",
      converter = Uint32.class,
      description = "how many neighbours (${DEFAULT-VALUE})")
  int k;

  @Option(
      names = "--deadline",
      paramLabel = "SECONDS",
      defaultValue = "10",
      converter = Seconds.class,
      description = "how long one call may take, its repeats included (${DEFAULT-VALUE})")
  Duration deadline;

  @Option(
      names = "--stream-deadline",
      paramLabel = "SECONDS",
      defaultValue = "300",
      converter = Seconds.class,
      description = "how long the stream may take (${DEFAULT-VALUE})")
  Duration streamDeadline;

  @Option(names = {"-h", "--help"}, usageHelp = true, description = "print this")
  boolean help;

  private Options() {}

  /**
   * Reads the words after the program's name.
   *
   * @param token the token where no option gives one; may be null
   */
  static Options parse(String[] words, String token) throws UsageException {
    // what Java could not read in the locale's encoding, which is ASCII where there is no locale
    if (Arrays.stream(words).anyMatch(word -> word.indexOf('\uFFFD') >= 0)) {
      String encoding = System.getProperty("sun.jnu.encoding", Charset.defaultCharset().name());
      throw new UsageException("an argument is no text in the locale's encoding, " + encoding + "; set LC_ALL=C.UTF-8");
    }
    Options options = new Options();
    try {
      new CommandLine(options).setExpandAtFiles(false).setOverwrittenOptionsAllowed(true).parseArgs(words);
    } catch (ParameterException wrong) {
      throw new UsageException(wrong.getMessage() + "; --help lists the options");
    }
    if (options.token == null) {
      options.token = token == null ? "" : token;
    }
    if (!options.token.chars().allMatch(character -> character >= ' ' && character <= '~')) {
      throw new UsageException("the token may hold printable ASCII characters only: it is sent as a header");
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
      } catch (NumberFormatException none) {
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
      return Duration.ofNanos((long) (seconds * 1e9)); // the greatest long, 292 years, for what is longer
    }
  }
}
