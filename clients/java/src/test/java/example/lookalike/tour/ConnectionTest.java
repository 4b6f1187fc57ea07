package example.lookalike.tour;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

final class ConnectionTest {
  /** Every spelling of a target on this machine is recognized. */
  @ParameterizedTest
  @ValueSource(
      strings = {
        "localhost:50051", "LocalHost", "localhost.:50051", "127.0.0.1:50051", "127.255.0.9", "[::1]:50051", "::1",
        "[::ffff:127.0.0.1]:50051", "dns:///localhost:50051", "dns:127.0.0.1:50051", "dns://8.8.8.8/127.0.0.1:50051",
        "unix:/run/lookalike.sock", "unix:///run/lookalike.sock", "unix-abstract:lookalike"
      })
  void recognizesThisMachine(String target) {
    assertTrue(Connection.isLoopback(target));
  }

  /** A target that only looks like this machine is not. */
  @ParameterizedTest
  @ValueSource(
      strings = {
        "example.com:50051", "localhost.example.com:50051", "127.0.0.1.example.com:50051", "127.0.0.256:50051",
        "128.0.0.1:50051", "10.0.0.1:127", "[::2]:50051", "2001:db8::1", "[::1%nothing]x", "dns:///example.com:443",
        "dns://127.0.0.1/example.com:50051", "notlocalhost", ""
      })
  void recognizesOtherMachines(String target) {
    assertFalse(Connection.isLoopback(target));
  }

  /** A port that is out of range is rejected at once, not retried until the deadline. */
  @Test
  void rejectsPortsOutOfRange() {
    for (String port : new String[] {"65536", "99999999999999999999999"}) {
      Exception error =
          assertThrows(IllegalArgumentException.class, () -> Connection.open("127.0.0.1:" + port, "", null));
      assertEquals("the port must be at most 65535", error.getMessage());
    }
  }

  /** A file of TLS that is missing, or holds something else, is an error that names it. */
  @Test
  void rejectsFilesOfTls(@TempDir Path folder) throws IOException {
    Path none = folder.resolve("none.pem");
    Path empty = Files.createFile(folder.resolve("empty.pem"));
    Path spoiled = Files.writeString(folder.resolve("bad.pem"), "-----BEGIN CERTIFICATE-----\nAAAA\n");
    for (Tls tls : new Tls[] {new Tls(none, null, null), new Tls(null, none, empty)}) {
      assertThrows(NoSuchFileException.class, () -> Connection.open("127.0.0.1:1", "", tls));
    }
    for (Tls tls : new Tls[] {new Tls(empty, null, null), new Tls(null, spoiled, empty), new Tls(spoiled, null, null)}) {
      assertThrows(IllegalArgumentException.class, () -> Connection.open("127.0.0.1:1", "", tls).shutdownNow());
    }
  }
}
