package example.lookalike.tour;

import java.io.IOException;
import java.nio.file.AccessDeniedException;
import java.nio.file.NoSuchFileException;
import java.nio.file.NotDirectoryException;

/** An invalid command line or an unreadable file; the message is one line. */
final class UsageException extends Exception {
  private static final long serialVersionUID = 1;

  UsageException(String message) {
    super(message);
  }

  interface IoSupplier<T> {
    T get() throws IOException;
  }

  /** Gets the value of an option; an error becomes a UsageException that names the option. */
  static <T> T forOption(String option, IoSupplier<T> value) throws UsageException {
    try {
      return value.get();
    } catch (IOException error) {
      throw new UsageException(option + ": " + reason(error));
    } catch (IllegalArgumentException error) {
      throw new UsageException(option + ": " + error.getMessage());
    }
  }

  /** Java's own messages are often no more than the file's name. */
  static String reason(IOException error) {
    if (error instanceof NoSuchFileException) {
      return error.getMessage() + " does not exist";
    }
    if (error instanceof AccessDeniedException) {
      return error.getMessage() + ": permission denied";
    }
    if (error instanceof NotDirectoryException) {
      return error.getMessage() + " is not a folder";
    }
    return error.getMessage();
  }
}
