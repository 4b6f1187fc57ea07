package example.lookalike.tour;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.Map;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

final class OptionsTest {
  private static Map<String, String> withToken(String token) {
    return Map.of("LOOKALIKE_CLIENT_TOKEN", token);
  }

  private static Options parse(Map<String, String> environment, String... more) throws UsageException {
    String[] needed = {"--image=i", "--category", "@pom.xml", "--product-id", "p", "--folder", "f", "--bad-image=b"};
    return Options.parse(Stream.of(needed, more).flatMap(Stream::of).toArray(String[]::new), environment);
  }

  /** Both forms of an option are read, the others have their defaults, and the last of two counts. */
  @Test
  void readsOptions() throws UsageException {
    Options options = parse(Map.of(), "--deadline", "9", "--deadline=.25", "--k", "4294967295");
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
    assertEquals("environment", parse(withToken("environment")).token);
    assertEquals("option", parse(withToken("environment"), "--token", "option").token);
    assertThrows(UsageException.class, () -> parse(withToken("two\nlines")));
  }

  /** The token comes from a file, which a token on the command line overrides; not from both at once. */
  @Test
  void readsTokenFiles(@TempDir Path folder) throws Exception {
    String file = Files.writeString(folder.resolve("token"), "from-file\n").toString();
    assertEquals("from-file", parse(withToken("environment"), "--token-file", file).token);
    assertEquals("from-file", parse(Map.of("LOOKALIKE_CLIENT_TOKEN_FILE", file)).token);
    assertEquals("option", parse(Map.of("LOOKALIKE_CLIENT_TOKEN_FILE", file), "--token=option").token);
    assertThrows(UsageException.class, () -> parse(Map.of(), "--token=a", "--token-file", file));
    assertThrows(UsageException.class, () -> parse(Map.of(), "--token-file", file + ".gone"));
  }

  /** Each option of TLS turns it on, options override the environment, and empty variables count as absent. */
  @Test
  void readsTls() throws UsageException {
    Path ca = Path.of("ca.pem");
    Map<String, String> pair = Map.of("LOOKALIKE_CLIENT_CERT", "c", "LOOKALIKE_CLIENT_KEY", "k");
    assertNull(parse(Map.of("LOOKALIKE_CLIENT_TLS", "0", "LOOKALIKE_CLIENT_CA", "")).tls);
    assertEquals(new Tls(null, null, null), parse(Map.of(), "--tls").tls);
    assertEquals(new Tls(null, null, null), parse(Map.of("LOOKALIKE_CLIENT_TLS", "True")).tls);
    assertEquals(new Tls(ca, null, null), parse(Map.of("LOOKALIKE_CLIENT_CA", "ca.pem")).tls);
    assertEquals(new Tls(ca, null, null), parse(Map.of("LOOKALIKE_CLIENT_CA", "other"), "--ca=ca.pem").tls);
    assertEquals(new Tls(null, Path.of("c"), Path.of("k")), parse(pair).tls);
    assertEquals(new Tls(null, Path.of("a"), Path.of("b")), parse(pair, "--cert=a", "--key", "b").tls);
    assertThrows(UsageException.class, () -> parse(Map.of(), "--cert=a"));
    assertThrows(UsageException.class, () -> parse(Map.of("LOOKALIKE_CLIENT_TLS", "maybe")));
  }

  /** A value that is not a number or out of range is rejected; the error names the option. */
  @ParameterizedTest
  @ValueSource(
      strings = {
        "--k=-1", "--k=4294967296", "--k=1.5", "--k=", "--deadline=0", "--deadline=-1", "--deadline=nan",
        "--deadline=1d", "--stream-deadline=Infinity", "--stream-deadline=1e-400"
      })
  void rejectsInvalidNumbers(String option) {
    String message = assertThrows(UsageException.class, () -> parse(Map.of(), option)).getMessage();
    assertTrue(message.contains(option.split("=")[0]), message);
  }

  /** An unknown option, an unexpected argument and a missing option are rejected; the error names them. */
  @Test
  void rejectsInvalidCommandLines() {
    for (String word : new String[] {"--color", "stray"}) {
      String message = assertThrows(UsageException.class, () -> parse(Map.of(), word)).getMessage();
      assertTrue(message.contains(word), message);
    }
    String message = assertThrows(UsageException.class, () -> Options.parse(new String[0], Map.of())).getMessage();
    assertTrue(message.contains("--bad-image"), message);
  }
}
