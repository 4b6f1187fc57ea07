package example.lookalike.tour;

import com.google.protobuf.ByteString;
import com.google.protobuf.UnsafeByteOperations;
import java.io.IOException;
import java.io.InputStream;
import java.net.URLDecoder;
import java.nio.charset.StandardCharsets;
import java.nio.file.DirectoryIteratorException;
import java.nio.file.DirectoryStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Comparator;
import java.util.List;

/** Image files. */
final class Images {
  /** By the bytes of UTF-8; String.compareTo compares UTF-16, where emoji come before some smaller code points. */
  static final Comparator<String> BY_UTF8 =
      Comparator.comparing(name -> name.getBytes(StandardCharsets.UTF_8), Arrays::compareUnsigned);

  /** The largest image of a stream: a message also contains its id and a few bytes of its own. */
  static final int MAX_BYTES = Connection.MAX_MESSAGE_BYTES - 1024;

  private Images() {}

  /** Lists the files directly in a folder by name, without hidden files; broken links are included. */
  static List<Path> in(Path folder) throws IOException {
    List<Path> files = new ArrayList<>();
    try (DirectoryStream<Path> entries = Files.newDirectoryStream(folder)) {
      for (Path entry : entries) {
        if (!name(entry).startsWith(".") && (Files.isRegularFile(entry) || Files.notExists(entry))) {
          files.add(entry);
        }
      }
    } catch (DirectoryIteratorException unreadable) {
      throw unreadable.getCause();
    }
    files.sort(Comparator.comparing(Images::name, BY_UTF8));
    return files;
  }

  /** A file's name. Path.toString would replace what the locale's encoding lacks with question marks. */
  static String name(Path file) {
    String path = file.toUri().getRawPath();
    return URLDecoder.decode(path.substring(path.lastIndexOf('/') + 1).replace("+", "%2B"), StandardCharsets.UTF_8);
  }

  /** Reads a file, but at most one byte more than {@link #MAX_BYTES}. */
  static ByteString read(Path file) throws IOException {
    try (InputStream bytes = Files.newInputStream(file)) {
      return UnsafeByteOperations.unsafeWrap(bytes.readNBytes(MAX_BYTES + 1));
    }
  }
}
