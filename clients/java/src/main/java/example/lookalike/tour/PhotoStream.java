package example.lookalike.tour;

import com.google.protobuf.ByteString;
import example.lookalike.tour.Answers.Item;
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
 * EmbedStream with many files: bulk work that goes out as the server takes it, while answers come in. A file that
 * cannot be read, or is refused, fails alone.
 *
 * <p>gRPC calls all methods of one call's observer one after the other, so there are no locks here.
 */
final class PhotoStream implements ClientResponseObserver<EmbedStreamRequest, EmbedStreamResponse> {
  /** Photos that are sent and not yet answered, at most. */
  private static final int WINDOW = 32;

  private final int count;
  private final Iterator<Path> unsent;
  private final List<Item> items = new ArrayList<>();
  private final CompletableFuture<Void> end = new CompletableFuture<>();
  private ClientCallStreamObserver<EmbedStreamRequest> call;
  private int unanswered;
  private boolean closed;

  private PhotoStream(List<Path> files) {
    count = files.size();
    unsent = files.iterator();
  }

  /**
   * Embeds files, each read when its turn comes, and gives what became of each, by name.
   *
   * @throws StatusRuntimeException where the stream breaks
   */
  static List<Item> embed(EmbeddingServiceStub stub, List<Path> files) {
    PhotoStream stream = new PhotoStream(files);
    stub.embedStream(stream);
    try {
      stream.end.join();
    } catch (CompletionException broken) {
      Throwable cause = broken.getCause();
      throw new StatusRuntimeException(Status.fromThrowable(cause), Status.trailersFromThrowable(cause));
    }
    stream.items.sort(Comparator.comparing(Item::id, Photos.BY_UTF8));
    return stream.items;
  }

  @Override
  public void beforeStart(ClientCallStreamObserver<EmbedStreamRequest> call) {
    this.call = call;
    call.setOnReadyHandler(this::send);
  }

  /** Sends until the window is full, the connection takes no more for now, or there is nothing left. */
  private void send() {
    while (unsent.hasNext() && unanswered < WINDOW && call.isReady()) {
      Path file = unsent.next();
      String id = Photos.name(file);
      try {
        ByteString encoded = Photos.read(file);
        if (encoded.size() > Photos.MAX_BYTES) {
          items.add(new Answers.Refused(id, Refusal.tooLarge()));
          continue;
        }
        call.onNext(
            EmbedStreamRequest.newBuilder().setId(id).setImage(Image.newBuilder().setEncoded(encoded)).build());
        unanswered++;
      } catch (IOException unreadable) {
        items.add(new Answers.Refused(id, Refusal.unreadable(unreadable)));
      }
    }
    if (!unsent.hasNext() && !closed) {
      closed = true;
      call.onCompleted();
    }
  }

  @Override
  public void onNext(EmbedStreamResponse answer) {
    if (unanswered == 0) {
      breakOff("the server answered more photos than were sent");
      return;
    }
    unanswered--;
    items.add(Answers.item(answer));
    send();
  }

  @Override
  public void onError(Throwable broken) {
    end.completeExceptionally(broken);
  }

  @Override
  public void onCompleted() {
    if (items.size() < count) {
      breakOff("the server ended the stream after " + items.size() + " of " + count + " photos");
    }
    end.complete(null);
  }

  private void breakOff(String why) {
    end.completeExceptionally(Status.INTERNAL.withDescription(why).asRuntimeException());
    call.cancel(why, null);
  }
}
