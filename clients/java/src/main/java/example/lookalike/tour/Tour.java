package example.lookalike.tour;

import com.google.gson.FieldNamingPolicy;
import com.google.gson.Gson;
import com.google.gson.GsonBuilder;
import com.google.protobuf.ByteString;
import example.lookalike.v1.EmbedRequest;
import example.lookalike.v1.EmbeddingServiceGrpc;
import example.lookalike.v1.EmbeddingServiceGrpc.EmbeddingServiceBlockingStub;
import example.lookalike.v1.GetModelRequest;
import example.lookalike.v1.Image;
import example.lookalike.v1.SearchRequest;
import example.lookalike.v1.SearchServiceGrpc;
import example.lookalike.v1.SearchServiceGrpc.SearchServiceBlockingStub;
import io.grpc.ManagedChannel;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import io.grpc.health.v1.HealthCheckRequest;
import io.grpc.health.v1.HealthCheckResponse.ServingStatus;
import io.grpc.health.v1.HealthGrpc;
import io.grpc.health.v1.HealthGrpc.HealthBlockingStub;
import io.grpc.stub.AbstractStub;
import java.io.FileDescriptor;
import java.io.FileOutputStream;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.time.Duration;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.function.Supplier;
import java.util.logging.LogManager;

/**
 * Makes the calls of a typical backend to a Lookalike server and prints the results as one JSON object: a starting
 * point for your own client. clients/README.md documents it.
 */
public final class Tour {
  private static final Gson JSON =
      new GsonBuilder()
          .setFieldNamingPolicy(FieldNamingPolicy.LOWER_CASE_WITH_UNDERSCORES)
          .serializeNulls()
          .disableHtmlEscaping()
          .setPrettyPrinting()
          .registerTypeAdapter(double.class, new Numbers())
          .registerTypeAdapter(Double.class, new Numbers())
          .create();

  private final Options options;
  private final ByteString image;
  private final ByteString badImage;
  private final List<Path> images;
  private final ManagedChannel channel;

  /** Reads the inputs of the calls, so that a missing file is an error before the first call. */
  private Tour(Options options) throws UsageException {
    this.options = options;
    image = UsageException.forOption("--image", () -> Images.read(options.image));
    badImage = UsageException.forOption("--bad-image", () -> Images.read(options.badImage));
    images = UsageException.forOption("--folder", () -> Images.in(options.folder));
    channel = UsageException.forOption("--server", () -> Connection.open(options.server, options.token, options.tls));
  }

  public static void main(String[] args) {
    LogManager.getLogManager().reset(); // the errors contain what gRPC would log
    PrintStream out = utf8(FileDescriptor.out);
    PrintStream err = utf8(FileDescriptor.err);
    int status;
    try {
      Options options = Options.parse(args, System.getenv());
      if (options.help) {
        out.print(Options.usage());
        status = 0;
      } else {
        Tour tour = new Tour(options);
        if (!options.token.isEmpty() && options.tls == null && !Connection.isLoopback(options.server)) {
          String sent = "WARNING: the token is sent to " + options.server + " without encryption";
          printError(err, sent + "; use --tls or --ca FILE");
        }
        status = tour.run(out, err);
      }
    } catch (UsageException invalid) {
      printError(err, invalid.getMessage());
      status = 2;
    }
    System.exit(status);
  }

  /** Runs the steps until one fails, prints the results, and returns the exit status. */
  private int run(PrintStream out, PrintStream err) {
    Map<String, Supplier<Object>> steps = new LinkedHashMap<>();
    steps.put("health", this::health);
    steps.put("model", this::model);
    steps.put("search_by_image", this::searchByImage);
    steps.put("search_by_id", this::searchById);
    steps.put("embed_stream", this::embedStream);
    steps.put("bad_image", this::badImage);

    Map<String, Object> results = new LinkedHashMap<>();
    int status = 0;
    for (String step : steps.keySet()) {
      try {
        results.put(step, steps.get(step).get());
      } catch (StatusRuntimeException failure) {
        results.put("failed", new Results.FailedStep(step, CallError.of(failure)));
        printError(err, step + ": " + explain(failure));
        status = 1;
        break;
      }
    }
    out.println(JSON.toJson(results));
    if (out.checkError()) {
      printError(err, "the results could not be written to standard output");
      status = 1;
    }
    channel.shutdownNow();
    return status;
  }

  private Object health() {
    HealthBlockingStub stub = limited(HealthGrpc.newBlockingStub(channel), options.deadline);
    ServingStatus health = stub.check(HealthCheckRequest.getDefaultInstance()).getStatus();
    if (health != ServingStatus.SERVING) {
      throw Status.UNAVAILABLE.withDescription("the server's health is " + health).asRuntimeException();
    }
    return health.name();
  }

  private Object model() {
    return Results.model(embedding().getModel(GetModelRequest.getDefaultInstance()));
  }

  private Object searchByImage() {
    return search(SearchRequest.newBuilder().setImage(encoded(image)).setCategory(options.category));
  }

  private Object searchById() {
    return search(SearchRequest.newBuilder().setProductId(options.productId));
  }

  private Object search(SearchRequest.Builder query) {
    SearchServiceBlockingStub stub = limited(SearchServiceGrpc.newBlockingStub(channel), options.deadline);
    return Results.search(stub.search(query.setK(options.k).build()));
  }

  private Object embedStream() {
    return ImageStream.embed(limited(EmbeddingServiceGrpc.newStub(channel), options.streamDeadline), images);
  }

  /** The error for a file that is not an image; null where the server accepts it. */
  private Object badImage() {
    try {
      embedding().embed(EmbedRequest.newBuilder().setImage(encoded(badImage)).build());
      return null;
    } catch (StatusRuntimeException error) {
      if (error.getStatus().getCode() != Status.Code.INVALID_ARGUMENT) {
        throw error;
      }
      return CallError.of(error);
    }
  }

  private EmbeddingServiceBlockingStub embedding() {
    return limited(EmbeddingServiceGrpc.newBlockingStub(channel), options.deadline);
  }

  /** A stub whose calls have this deadline, retries included. */
  private static <S extends AbstractStub<S>> S limited(S stub, Duration deadline) {
    return stub.withDeadlineAfter(deadline).withMaxOutboundMessageSize(Connection.MAX_MESSAGE_BYTES);
  }

  private static Image encoded(ByteString file) {
    return Image.newBuilder().setEncoded(file).build();
  }

  private String explain(StatusRuntimeException failure) {
    Throwable cause = failure.getStatus().getCause(); // an error of the server has none
    if (failure.getStatus().getCode() != Status.Code.UNAVAILABLE || cause == null) {
      return CallError.of(failure).toString();
    }
    String reason = Objects.requireNonNullElse(cause.getMessage(), cause.toString());
    return "no server responds at " + options.server + " (" + reason + ")";
  }

  private static void printError(PrintStream err, String message) {
    err.println("tour: " + message.strip().replaceAll("\\s+", " "));
  }

  /** JSON is UTF-8; System.out and System.err use the locale's encoding. */
  private static PrintStream utf8(FileDescriptor stream) {
    return new PrintStream(new FileOutputStream(stream), true, StandardCharsets.UTF_8);
  }
}
