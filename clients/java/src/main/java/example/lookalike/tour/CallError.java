package example.lookalike.tour;

import com.google.protobuf.Any;
import com.google.protobuf.Duration;
import com.google.protobuf.InvalidProtocolBufferException;
import com.google.rpc.BadRequest;
import com.google.rpc.RetryInfo;
import io.grpc.Metadata;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import java.io.IOException;
import java.util.ArrayList;
import java.util.List;

/**
 * The error of a call or of one item of a stream.
 *
 * @param message the server's message, or gRPC's own when no server responded
 * @param violations the invalid fields of the request
 * @param retryAfterMs how many milliseconds to wait before a retry; null where the server does not say
 */
record CallError(Status.Code code, String message, List<Violation> violations, Long retryAfterMs) {
  private static final Metadata.Key<byte[]> DETAILS =
      Metadata.Key.of("grpc-status-details-bin", Metadata.BINARY_BYTE_MARSHALLER);
  private static final Metadata.Key<String> PUSHBACK =
      Metadata.Key.of("grpc-retry-pushback-ms", Metadata.ASCII_STRING_MARSHALLER);

  /** An invalid field, for instance {@code products[2].images[0].encoded}, and what is wrong with it. */
  record Violation(String field, String description) {}

  /** Reads the error of a call. */
  static CallError of(StatusRuntimeException failure) {
    Metadata trailers = failure.getTrailers() == null ? new Metadata() : failure.getTrailers();
    Status status = failure.getStatus();
    if (status.getCause() instanceof StatusRuntimeException own) {
      status = own.getStatus(); // an error of gRPC itself, such as a message that is too large, is inside a CANCELLED
    }
    String message = status.getDescription() == null ? "" : status.getDescription();
    return read(status.getCode(), message, details(trailers), pushback(trailers));
  }

  /** Reads the status of an item of a stream. */
  static CallError of(com.google.rpc.Status status) {
    return read(Status.fromCodeValue(status.getCode()).getCode(), status.getMessage(), status.getDetailsList(), null);
  }

  /** The error of an image that cannot be read. */
  static CallError unreadable(IOException error) {
    String message = "the file cannot be read: " + UsageException.reason(error);
    return new CallError(Status.Code.NOT_FOUND, message, List.of(), null);
  }

  /** The error of an image that does not fit a message. */
  static CallError tooLarge() {
    String message = "the file has more than " + Images.MAX_BYTES + " bytes, the maximum for a message";
    return new CallError(Status.Code.INVALID_ARGUMENT, message, List.of(), null);
  }

  @Override
  public String toString() {
    return code + ": " + message;
  }

  // io.grpc.protobuf.StatusProto throws where the details are malformed or have another code; here they are ignored
  private static CallError read(Status.Code code, String message, List<Any> details, Long retryAfterMs) {
    List<Violation> violations = new ArrayList<>();
    for (Any detail : details) {
      try {
        if (detail.is(BadRequest.class)) {
          for (BadRequest.FieldViolation each : detail.unpack(BadRequest.class).getFieldViolationsList()) {
            violations.add(new Violation(each.getField(), each.getDescription()));
          }
        } else if (detail.is(RetryInfo.class) && detail.unpack(RetryInfo.class).hasRetryDelay()) {
          Duration delay = detail.unpack(RetryInfo.class).getRetryDelay();
          retryAfterMs = Math.addExact(Math.multiplyExact(delay.getSeconds(), 1000L), delay.getNanos() / 1_000_000);
        }
      } catch (InvalidProtocolBufferException | ArithmeticException malformed) {
        // the other details still count
      }
    }
    return new CallError(code, message, violations, retryAfterMs);
  }

  private static List<Any> details(Metadata trailers) {
    byte[] encoded = trailers.get(DETAILS);
    try {
      return encoded == null ? List.of() : com.google.rpc.Status.parseFrom(encoded).getDetailsList();
    } catch (InvalidProtocolBufferException malformed) {
      return List.of();
    }
  }

  /** The delay that gRPC's own retries obey; a server may send it without RetryInfo. Negative: do not retry. */
  private static Long pushback(Metadata trailers) {
    String milliseconds = trailers.get(PUSHBACK);
    return milliseconds != null && milliseconds.matches("\\d{1,18}") ? Long.valueOf(milliseconds) : null;
  }
}
