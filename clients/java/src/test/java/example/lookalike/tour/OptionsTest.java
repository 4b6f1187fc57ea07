package example.lookalike.tour;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.nio.file.Path;
import java.time.Duration;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

final class OptionsTest {
  private static Options parse(String token, String... more) throws UsageException {
    String[] needed = {"--image=i", "--category", "@pom.xml", "--product-id", "p", "--folder", "f", "--bad-image=b"};
    return Options.parse(Stream.of(needed, more).flatMap(Stream::of).toArray(String[]::new), token);
  }

  /** Both forms of an option are read, the others have their defaults, and the last of two counts. */
  @Test
  void readsOptions() throws UsageException {
    Options options = parse(null, "--deadline", "9", "--deadline=.25", "--k", "4294967295");
    assertEquals(Path.of("i"), options.image);
    assertEquals("@pom.xml", options.category);
    assertEquals("127.0.0.1:50051", options.server);
    assertEquals(Duration.ofMillis(250), options.deadline);
    assertEquals(Duration.ofSeconds(300), options.streamDeadline);
    assertEquals(-1, options.k); // uint32
    assertEquals("", options.token);
  }

  /** The token comes from the environment unless the option is set. */
  @Test
  void readsTokens() throws UsageException {
    assertEquals("environment", parse("environment").token);
    assertEquals("option", parse("environment", "--token", "option").token);
    assertThrows(UsageException.class, () -> parse("two\nlines"));
  }

  /** A value that is not a number or out of range is rejected; the error names the option. */
  @ParameterizedTest
  @ValueSource(
      strings = {
        "--k=-1", "--k=4294967296", "--k=1.5", "--k=", "--deadline=0", "--deadline=-1", "--deadline=nan",
        "--deadline=1d", "--stream-deadline=Infinity", "--stream-deadline=1e-400"
      })
  void rejectsInvalidNumbers(String option) {
    String message = assertThrows(UsageException.class, () -> parse(null, option)).getMessage();
    assertTrue(message.contains(option.split("=")[0]), message);
  }

  /** An unknown option, an unexpected argument and a missing option are rejected; the error names them. */
  @Test
  void rejectsInvalidCommandLines() {
    for (String word : new String[] {"--color", "stray"}) {
      String message = assertThrows(UsageException.class, () -> parse(null, word)).getMessage();
      assertTrue(message.contains(word), message);
    }
    String message = assertThrows(UsageException.class, () -> Options.parse(new String[0], null)).getMessage();
    assertTrue(message.contains("--bad-image"), message);
  }
}
