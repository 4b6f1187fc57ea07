package example.lookalike.tour;

import static java.nio.charset.StandardCharsets.UTF_8;
import static org.junit.jupiter.api.Assertions.assertEquals;

import com.google.protobuf.Any;
import com.google.protobuf.ByteString;
import com.google.protobuf.Duration;
import com.google.rpc.BadRequest;
import com.google.rpc.RetryInfo;
import com.google.rpc.Status;
import example.lookalike.tour.CallError.Violation;
import io.grpc.Metadata;
import io.grpc.StatusRuntimeException;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

final class CallErrorTest {
  private static final Any BAD_REQUEST =
      Any.pack(
          BadRequest.newBuilder()
              .addFieldViolations(BadRequest.FieldViolation.newBuilder().setField("k").setDescription("is 0"))
              .build());
  private static final Any RETRY_INFO =
      Any.pack(RetryInfo.newBuilder().setRetryDelay(Duration.newBuilder().setSeconds(1).setNanos(500_000_000)).build());

  private static Any malformed(String type) {
    return Any.newBuilder()
        .setTypeUrl("type.googleapis.com/google.rpc." + type)
        .setValue(ByteString.copyFrom(new byte[] {-1, -1}))
        .build();
  }

  private static StatusRuntimeException error(byte[] details, String pushback) {
    Metadata trailers = new Metadata();
    trailers.put(Metadata.Key.of("grpc-status-details-bin", Metadata.BINARY_BYTE_MARSHALLER), details);
    trailers.put(Metadata.Key.of("grpc-retry-pushback-ms", Metadata.ASCII_STRING_MARSHALLER), pushback);
    return io.grpc.Status.RESOURCE_EXHAUSTED.withDescription("full").asRuntimeException(trailers);
  }

  /** The violations and the delay are read from the details, and RetryInfo is preferred to the trailer. */
  @Test
  void readsDetails() {
    Status status = Status.newBuilder().addDetails(BAD_REQUEST).addDetails(RETRY_INFO).build();
    assertEquals(
        new CallError(io.grpc.Status.Code.RESOURCE_EXHAUSTED, "full", List.of(new Violation("k", "is 0")), 1500L),
        CallError.of(error(status.toByteArray(), "7")));
  }

  /** Malformed details are ignored, and the others are read. */
  @Test
  void ignoresMalformedDetails() {
    Status status =
        Status.newBuilder()
            .setCode(3)
            .addDetails(malformed("BadRequest"))
            .addDetails(malformed("RetryInfo"))
            .addDetails(malformed("Nothing"))
            .addDetails(Any.newBuilder().setTypeUrl("no type"))
            .addDetails(BAD_REQUEST)
            .build();
    CallError error = CallError.of(status);
    assertEquals(
        new CallError(io.grpc.Status.Code.INVALID_ARGUMENT, "", List.of(new Violation("k", "is 0")), null), error);
    assertEquals(List.of(), CallError.of(error("no status".getBytes(UTF_8), "7")).violations());
  }

  /** A delay that overflows a long is ignored. */
  @Test
  void ignoresOverflowingDelays() {
    Any overflowing =
        Any.pack(RetryInfo.newBuilder().setRetryDelay(Duration.newBuilder().setSeconds(Long.MAX_VALUE)).build());
    assertEquals(null, CallError.of(Status.newBuilder().addDetails(overflowing).build()).retryAfterMs());
  }

  /** Without RetryInfo the delay is that of the trailer that gRPC's retries obey, if it is valid. */
  @ParameterizedTest
  @CsvSource({"300,300", "0,0", "-1,", "soon,", "99999999999999999999,"})
  void readsPushback(String trailer, Long milliseconds) {
    assertEquals(milliseconds, CallError.of(error(new byte[0], trailer)).retryAfterMs());
  }

  /** A number that is not a gRPC code is UNKNOWN. */
  @Test
  void namesUnknownCodes() {
    assertEquals(io.grpc.Status.Code.UNKNOWN, CallError.of(Status.newBuilder().setCode(77).build()).code());
  }
}
