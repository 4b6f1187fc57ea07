package example.lookalike.tour;

import static org.junit.jupiter.api.Assertions.assertEquals;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

final class ImagesTest {
  /** Names are sorted by their UTF-8 bytes, which for emoji is not the order of UTF-16. */
  @Test
  void sortsByUtf8() {
    Stream<String> names = Stream.of("\uFF21", "\uD83D\uDE00", "b", "a\u00E9", "ab", "Z", "a");
    List<String> sorted = names.sorted(Images.BY_UTF8).toList();
    assertEquals(List.of("Z", "a", "ab", "a\u00E9", "b", "\uFF21", "\uD83D\uDE00"), sorted);
  }

  /** Hidden files and folders are omitted; a broken link is included, to fail when it is read. */
  @Test
  void listsFilesOfAFolder(@TempDir Path folder) throws IOException {
    for (String name : List.of("b 1+%41.jpg", "a", ".hidden")) {
      Files.write(folder.resolve(name), new byte[1]);
    }
    Files.createDirectory(folder.resolve("sub"));
    Files.createSymbolicLink(folder.resolve("linked"), folder.resolve("sub"));
    Files.createSymbolicLink(folder.resolve("gone"), folder.resolve("nowhere"));
    assertEquals(
        List.of("a", "b 1+%41.jpg", "gone"), Images.in(folder).stream().map(Images::name).toList());
  }
}
