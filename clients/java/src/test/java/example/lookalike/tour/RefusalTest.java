package example.lookalike.tour;

import static java.nio.charset.StandardCharsets.UTF_8;
import static org.junit.jupiter.api.Assertions.assertEquals;

import com.google.protobuf.Any;
import com.google.protobuf.ByteString;
import com.google.protobuf.Duration;
import com.google.rpc.BadRequest;
import com.google.rpc.RetryInfo;
import com.google.rpc.Status;
import example.lookalike.tour.Refusal.Violation;
import io.grpc.Metadata;
import io.grpc.StatusRuntimeException;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

final class RefusalTest {
  private static final Any BLAME =
      Any.pack(
          BadRequest.newBuilder()
              .addFieldViolations(BadRequest.FieldViolation.newBuilder().setField("k").setDescription("is 0"))
              .build());
  private static final Any WAIT =
      Any.pack(RetryInfo.newBuilder().setRetryDelay(Duration.newBuilder().setSeconds(1).setNanos(500_000_000)).build());

  private static Any malformed(String type) {
    return Any.newBuilder()
        .setTypeUrl("type.googleapis.com/google.rpc." + type)
        .setValue(ByteString.copyFrom(new byte[] {-1, -1}))
        .build();
  }

  private static StatusRuntimeException refused(byte[] details, String pushback) {
    Metadata trailers = new Metadata();
    trailers.put(Metadata.Key.of("grpc-status-details-bin", Metadata.BINARY_BYTE_MARSHALLER), details);
    trailers.put(Metadata.Key.of("grpc-retry-pushback-ms", Metadata.ASCII_STRING_MARSHALLER), pushback);
    return io.grpc.Status.RESOURCE_EXHAUSTED.withDescription("full").asRuntimeException(trailers);
  }

  /** The fields to blame and the wait are read from the details, and RetryInfo is preferred to the trailer. */
  @Test
  void readsDetails() {
    Status status = Status.newBuilder().addDetails(BLAME).addDetails(WAIT).build();
    assertEquals(
        new Refusal(io.grpc.Status.Code.RESOURCE_EXHAUSTED, "full", List.of(new Violation("k", "is 0")), 1500L),
        Refusal.of(refused(status.toByteArray(), "7")));
  }

  /** Details that are malformed count as none, and those beside them still count. */
  @Test
  void countsMalformedDetailsAsNone() {
    Status status =
        Status.newBuilder()
            .setCode(3)
            .addDetails(malformed("BadRequest"))
            .addDetails(malformed("RetryInfo"))
            .addDetails(malformed("Nothing"))
            .addDetails(Any.newBuilder().setTypeUrl("no type"))
            .addDetails(BLAME)
            .build();
    Refusal refusal = Refusal.of(status);
    assertEquals(
        new Refusal(io.grpc.Status.Code.INVALID_ARGUMENT, "", List.of(new Violation("k", "is 0")), null), refusal);
    assertEquals(List.of(), Refusal.of(refused("no status".getBytes(UTF_8), "7")).violations());
  }

  /** A wait of more milliseconds than there are numbers for counts as none. */
  @Test
  void countsEndlessWaitsAsNone() {
    Any endless =
        Any.pack(RetryInfo.newBuilder().setRetryDelay(Duration.newBuilder().setSeconds(Long.MAX_VALUE)).build());
    assertEquals(null, Refusal.of(Status.newBuilder().addDetails(endless).build()).retryAfterMs());
  }

  /** Without RetryInfo the trailer that gRPC's own repeats obey tells the wait, unless it forbids a repeat. */
  @ParameterizedTest
  @CsvSource({"300,300", "0,0", "-1,", "soon,", "99999999999999999999,"})
  void readsPushback(String trailer, Long milliseconds) {
    assertEquals(milliseconds, Refusal.of(refused(new byte[0], trailer)).retryAfterMs());
  }

  /** A code that gRPC does not have is UNKNOWN. */
  @Test
  void namesUnknownCodes() {
    assertEquals(io.grpc.Status.Code.UNKNOWN, Refusal.of(Status.newBuilder().setCode(77).build()).code());
  }
}
