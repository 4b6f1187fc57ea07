package example.lookalike.tour;

import java.io.IOException;
import java.nio.file.AccessDeniedException;
import java.nio.file.NoSuchFileException;
import java.nio.file.NotDirectoryException;

/** What the caller has to change before there is a tour; the message says it in one line. */
final class UsageException extends Exception {
  private static final long serialVersionUID = 1;

  UsageException(String message) {
    super(message);
  }

  interface Opening<T> {
    T open() throws IOException;
  }

  /** Opens what an option names; a failure names the option. */
  static <T> T naming(String option, Opening<T> opening) throws UsageException {
    try {
      return opening.open();
    } catch (IOException unreadable) {
      throw new UsageException(option + ": " + reason(unreadable));
    } catch (IllegalArgumentException unusable) {
      throw new UsageException(option + ": " + unusable.getMessage());
    }
  }

  /** Java's own messages are often no more than the file's name. */
  static String reason(IOException error) {
    if (error instanceof NoSuchFileException) {
      return "there is no " + error.getMessage();
    }
    if (error instanceof AccessDeniedException) {
      return error.getMessage() + " may not be read";
    }
    if (error instanceof NotDirectoryException) {
      return error.getMessage() + " is no folder";
    }
    return error.getMessage();
  }
}
