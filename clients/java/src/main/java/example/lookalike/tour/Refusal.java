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
 * Why a call, or an item of a stream, failed.
 *
 * @param message the server's sentence, or gRPC's own when no server answered
 * @param violations the fields of the request that are to blame
 * @param retryAfterMs how many milliseconds to wait before a repeat; null where the server does not say
 */
record Refusal(Status.Code code, String message, List<Violation> violations, Long retryAfterMs) {
  private static final Metadata.Key<byte[]> DETAILS =
      Metadata.Key.of("grpc-status-details-bin", Metadata.BINARY_BYTE_MARSHALLER);
  private static final Metadata.Key<String> PUSHBACK =
      Metadata.Key.of("grpc-retry-pushback-ms", Metadata.ASCII_STRING_MARSHALLER);

  /** A field of the request, as in {@code products[2].images[0].encoded}, and what is wrong with it. */
  record Violation(String field, String description) {}

  /** What the failure of a call tells. */
  static Refusal of(StatusRuntimeException failure) {
    Metadata trailers = failure.getTrailers() == null ? new Metadata() : failure.getTrailers();
    Status status = failure.getStatus();
    if (status.getCause() instanceof StatusRuntimeException own) {
      status = own.getStatus(); // gRPC's own refusal, of a message that is too large, say, is inside a CANCELLED
    }
    String message = status.getDescription() == null ? "" : status.getDescription();
    return read(status.getCode(), message, details(trailers), pushback(trailers));
  }

  /** What the status of an item of a stream tells. */
  static Refusal of(com.google.rpc.Status status) {
    return read(Status.fromCodeValue(status.getCode()).getCode(), status.getMessage(), status.getDetailsList(), null);
  }

  /** The refusal of a photo that never reached the server. */
  static Refusal unreadable(IOException error) {
    String message = "the file cannot be read: " + UsageException.reason(error);
    return new Refusal(Status.Code.NOT_FOUND, message, List.of(), null);
  }

  /** The refusal of a photo that no message holds. */
  static Refusal tooLarge() {
    String message = "the file has more than " + Photos.MAX_BYTES + " bytes, too many for a message";
    return new Refusal(Status.Code.INVALID_ARGUMENT, message, List.of(), null);
  }

  @Override
  public String toString() {
    return code + ": " + message;
  }

  // io.grpc.protobuf.StatusProto raises where the details are malformed or of another code; here those count as none
  private static Refusal read(Status.Code code, String message, List<Any> details, Long retryAfterMs) {
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
        // the others may still tell something
      }
    }
    return new Refusal(code, message, violations, retryAfterMs);
  }

  private static List<Any> details(Metadata trailers) {
    byte[] encoded = trailers.get(DETAILS);
    try {
      return encoded == null ? List.of() : com.google.rpc.Status.parseFrom(encoded).getDetailsList();
    } catch (InvalidProtocolBufferException malformed) {
      return List.of();
    }
  }

  /** What gRPC's own repeats obey; a server may send it without RetryInfo. Negative: do not repeat. */
  private static Long pushback(Metadata trailers) {
    String milliseconds = trailers.get(PUSHBACK);
    return milliseconds != null && milliseconds.matches("\\d{1,18}") ? Long.valueOf(milliseconds) : null;
  }
}
