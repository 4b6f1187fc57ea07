package example.lookalike.tour;

import com.google.protobuf.ByteString;
import example.lookalike.tour.Results.Item;
import example.lookalike.v1.EmbedStreamRequest;
import example.lookalike.v1.EmbedStreamResponse;
import example.lookalike.v1.EmbeddingServiceGrpc.EmbeddingServiceStub;
import example.lookalike.v1.Image;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import io.grpc.stub.ClientCallStreamObserver;
import io.grpc.stub.ClientResponseObserver;
import java.io.IOException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.Iterator;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionException;

/**
 * EmbedStream with many files: images are sent as fast as the server reads them, while responses arrive. A file that
 * cannot be read or is rejected fails alone.
 *
 * <p>gRPC never runs two methods of one call's observer at the same time, so there are no locks here.
 */
final class ImageStream implements ClientResponseObserver<EmbedStreamRequest, EmbedStreamResponse> {
  /** At most this many images are in flight: sent, without a response yet. */
  private static final int WINDOW = 32;

  private final int count;
  private final Iterator<Path> unsent;
  private final List<Item> items = new ArrayList<>();
  private final CompletableFuture<Void> end = new CompletableFuture<>();
  private ClientCallStreamObserver<EmbedStreamRequest> call;
  private int inFlight;
  private boolean closed;

  private ImageStream(List<Path> files) {
    count = files.size();
    unsent = files.iterator();
  }

  /**
   * Embeds files, each read just before it is sent, and returns the items by id.
   *
   * @throws StatusRuntimeException where the stream breaks
   */
  static List<Item> embed(EmbeddingServiceStub stub, List<Path> files) {
    ImageStream stream = new ImageStream(files);
    stub.embedStream(stream);
    try {
      stream.end.join();
    } catch (CompletionException error) {
      Throwable cause = error.getCause();
      throw new StatusRuntimeException(Status.fromThrowable(cause), Status.trailersFromThrowable(cause));
    }
    stream.items.sort(Comparator.comparing(Item::id, Images.BY_UTF8));
    return stream.items;
  }

  @Override
  public void beforeStart(ClientCallStreamObserver<EmbedStreamRequest> call) {
    this.call = call;
    call.setOnReadyHandler(this::send);
  }

  /** Sends until the window is full, the connection is not ready, or every file is sent. */
  private void send() {
    while (unsent.hasNext() && inFlight < WINDOW && call.isReady()) {
      Path file = unsent.next();
      String id = Images.name(file);
      try {
        ByteString encoded = Images.read(file);
        if (encoded.size() > Images.MAX_BYTES) {
          items.add(new Results.FailedItem(id, CallError.tooLarge()));
          continue;
        }
        call.onNext(
            EmbedStreamRequest.newBuilder().setId(id).setImage(Image.newBuilder().setEncoded(encoded)).build());
        inFlight++;
      } catch (IOException error) {
        items.add(new Results.FailedItem(id, CallError.unreadable(error)));
      }
    }
    if (!unsent.hasNext() && !closed) {
      closed = true;
      call.onCompleted();
    }
  }

  @Override
  public void onNext(EmbedStreamResponse response) {
    if (inFlight == 0) {
      fail("the server sent more responses than it received images");
      return;
    }
    inFlight--;
    items.add(Results.item(response));
    send();
  }

  @Override
  public void onError(Throwable error) {
    end.completeExceptionally(error);
  }

  @Override
  public void onCompleted() {
    if (items.size() < count) {
      fail("the server ended the stream after " + items.size() + " of " + count + " images");
    }
    end.complete(null);
  }

  private void fail(String message) {
    end.completeExceptionally(Status.INTERNAL.withDescription(message).asRuntimeException());
    call.cancel(message, null);
  }
}
