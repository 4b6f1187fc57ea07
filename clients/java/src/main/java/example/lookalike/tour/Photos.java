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

/** The files of photos. */
final class Photos {
  /** By the bytes of UTF-8; String.compareTo goes by UTF-16 and puts emoji before some of what is below them. */
  static final Comparator<String> BY_UTF8 =
      Comparator.comparing(name -> name.getBytes(StandardCharsets.UTF_8), Arrays::compareUnsigned);

  /** The largest photo of a stream: a message also holds its name and a few bytes of its own. */
  static final int MAX_BYTES = Connection.MAX_MESSAGE_BYTES - 1024;

  private Photos() {}

  /** What is directly in a folder, by name, hidden files and folders left out; links that lead nowhere are in it. */
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
    files.sort(Comparator.comparing(Photos::name, BY_UTF8));
    return files;
  }

  /** A file's name. Path.toString would make question marks of what the locale's encoding does not have. */
  static String name(Path file) {
    String path = file.toUri().getRawPath();
    return URLDecoder.decode(path.substring(path.lastIndexOf('/') + 1).replace("+", "%2B"), StandardCharsets.UTF_8);
  }

  /** A file's bytes; of one that is larger than {@link #MAX_BYTES}, one byte more than these. */
  static ByteString read(Path file) throws IOException {
    try (InputStream bytes = Files.newInputStream(file)) {
      return UnsafeByteOperations.unsafeWrap(bytes.readNBytes(MAX_BYTES + 1));
    }
  }
}
