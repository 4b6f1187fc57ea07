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
 * Asks a Lookalike server what a backend asks, and prints the answers as one JSON object: the program to start a client
 * of your own from. clients/README.md tells what it does.
 */
public final class Tour {
  private static final Gson JSON =
      new GsonBuilder()
          .setFieldNamingPolicy(FieldNamingPolicy.LOWER_CASE_WITH_UNDERSCORES)
          .serializeNulls()
          .disableHtmlEscaping()
          .setPrettyPrinting()
          .create();

  private final Options options;
  private final ByteString image;
  private final ByteString badImage;
  private final List<Path> photos;
  private final ManagedChannel channel;

  /** Reads what the calls need, but for the folder's files, so that what is wrong is found before the first call. */
  private Tour(Options options) throws UsageException {
    this.options = options;
    image = UsageException.naming("--image", () -> Photos.read(options.image));
    badImage = UsageException.naming("--bad-image", () -> Photos.read(options.badImage));
    photos = UsageException.naming("--folder", () -> Photos.in(options.folder));
    channel = UsageException.naming("--server", () -> Connection.open(options.server, options.token));
  }

  public static void main(String[] words) {
    LogManager.getLogManager().reset(); // what gRPC has to say is in the errors
    PrintStream out = utf8(FileDescriptor.out);
    PrintStream err = utf8(FileDescriptor.err);
    int status;
    try {
      Options options = Options.parse(words, System.getenv("LOOKALIKE_CLIENT_TOKEN"));
      if (options.help) {
        out.print(Options.usage());
        status = 0;
      } else {
        status = new Tour(options).take(out, err);
      }
    } catch (UsageException wrong) {
      complain(err, wrong.getMessage());
      status = 2;
    }
    System.exit(status);
  }

  /** Takes every step until one fails, prints what was seen, and gives the exit status. */
  private int take(PrintStream out, PrintStream err) {
    Map<String, Supplier<Object>> steps = new LinkedHashMap<>();
    steps.put("health", this::health);
    steps.put("model", this::model);
    steps.put("search_by_image", this::searchByImage);
    steps.put("search_by_id", this::searchById);
    steps.put("embed_stream", this::embedStream);
    steps.put("bad_image", this::badImage);

    Map<String, Object> seen = new LinkedHashMap<>();
    int status = 0;
    for (String step : steps.keySet()) {
      try {
        seen.put(step, steps.get(step).get());
      } catch (StatusRuntimeException failure) {
        seen.put("failed", new Answers.Failed(step, Refusal.of(failure)));
        complain(err, step + ": " + explain(failure));
        status = 1;
        break;
      }
    }
    out.println(JSON.toJson(seen));
    if (out.checkError()) {
      complain(err, "the answers could not be written");
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
    return Answers.model(embedding().getModel(GetModelRequest.getDefaultInstance()));
  }

  private Object searchByImage() {
    return search(SearchRequest.newBuilder().setImage(encoded(image)).setCategory(options.category));
  }

  private Object searchById() {
    return search(SearchRequest.newBuilder().setProductId(options.productId));
  }

  private Object search(SearchRequest.Builder question) {
    SearchServiceBlockingStub stub = limited(SearchServiceGrpc.newBlockingStub(channel), options.deadline);
    return Answers.search(stub.search(question.setK(options.k).build()));
  }

  private Object embedStream() {
    return PhotoStream.embed(limited(EmbeddingServiceGrpc.newStub(channel), options.streamDeadline), photos);
  }

  /** How the server refuses a file that is no picture; null where it takes it. Other refusals say nothing of the file. */
  private Object badImage() {
    try {
      embedding().embed(EmbedRequest.newBuilder().setImage(encoded(badImage)).build());
      return null;
    } catch (StatusRuntimeException refused) {
      if (refused.getStatus().getCode() != Status.Code.INVALID_ARGUMENT) {
        throw refused;
      }
      return Refusal.of(refused);
    }
  }

  private EmbeddingServiceBlockingStub embedding() {
    return limited(EmbeddingServiceGrpc.newBlockingStub(channel), options.deadline);
  }

  /** A stub whose calls may take so long, their repeats included. */
  private static <S extends AbstractStub<S>> S limited(S stub, Duration deadline) {
    return stub.withDeadlineAfter(deadline).withMaxOutboundMessageSize(Connection.MAX_MESSAGE_BYTES);
  }

  private static Image encoded(ByteString file) {
    return Image.newBuilder().setEncoded(file).build();
  }

  private String explain(StatusRuntimeException failure) {
    Throwable cause = failure.getStatus().getCause(); // what a server refuses has none
    if (failure.getStatus().getCode() != Status.Code.UNAVAILABLE || cause == null) {
      return Refusal.of(failure).toString();
    }
    String reason = Objects.requireNonNullElse(cause.getMessage(), cause.toString());
    return "no server answers at " + options.server + " (" + reason + ")";
  }

  private static void complain(PrintStream err, String sentence) {
    err.println("tour: " + sentence.strip().replaceAll("\\s+", " "));
  }

  /** System.out and System.err are in the locale's encoding, and JSON is UTF-8. */
  private static PrintStream utf8(FileDescriptor stream) {
    return new PrintStream(new FileOutputStream(stream), true, StandardCharsets.UTF_8);
  }
}
