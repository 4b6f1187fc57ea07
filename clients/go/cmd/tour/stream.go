package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"lookalike.example/client"
	lookalikev1 "lookalike.example/client/gen/lookalike/v1"
)

// How many photos may be sent and not yet answered.
const window = 32

// A message also holds the photo's name and a few bytes of its own.
const maxPhotoBytes = client.MaxMessageBytes - 1024

type photoStream = grpc.BidiStreamingClient[lookalikev1.EmbedStreamRequest, lookalikev1.EmbedStreamResponse]

// embedStream embeds every file of the folder. One goroutine sends while this one takes the answers: a server that
// answers early, or stops reading for a while, must not find both waiting for it.
func (t *tour) embedStream(ctx context.Context, conn *grpc.ClientConn) ([]item, error) {
	ctx, cancel := context.WithTimeout(ctx, t.streamDeadline)
	defer cancel()
	stream, err := lookalikev1.NewEmbeddingServiceClient(conn).EmbedStream(ctx)
	if err != nil {
		return nil, client.FromError(err, nil)
	}

	unanswered := make(chan struct{}, window)
	unsent := make(chan []item, 1)
	go func() { unsent <- t.sendPhotos(ctx, stream, unanswered) }()

	items := []item{}
	for {
		reply, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, client.FromError(err, stream.Trailer())
		}
		select {
		case <-unanswered:
		default:
			return nil, refuse(codes.Internal, "the server answered more photos than were sent")
		}
		items = append(items, describeItem(reply))
	}
	cancel() // frees the sender where the server ended the stream before its time
	items = append(items, <-unsent...)
	if len(items) != len(t.files) {
		return nil, refuse(codes.Internal,
			fmt.Sprintf("the server ended the stream after %d of %d photos", len(items), len(t.files)))
	}
	slices.SortFunc(items, func(a, b item) int { return strings.Compare(a.ID, b.ID) })
	return items, nil
}

// sendPhotos reads and sends one file after the other, and waits while the window is full; Send itself waits while the
// server does not read. It gives back the files that were not sent. Of a stream that broke, Recv has the reason.
func (t *tour) sendPhotos(ctx context.Context, stream photoStream, unanswered chan struct{}) []item {
	var unsent []item
	for _, name := range t.files {
		select {
		case unanswered <- struct{}{}:
		case <-ctx.Done():
			return unsent
		}
		id := strings.ToValidUTF8(name, "\uFFFD")
		photo, refusal := readPhoto(filepath.Join(t.folder, name))
		if refusal != nil {
			unsent = append(unsent, item{ID: id, Error: refusal})
			<-unanswered
			continue
		}
		if err := stream.Send(&lookalikev1.EmbedStreamRequest{Id: id, Image: encoded(photo)}); err != nil {
			return unsent
		}
	}
	// without this the server waits for more; an error of it is Recv's to tell as well
	_ = stream.CloseSend()
	return unsent
}

// readPhoto reads a file when its turn comes; by then it may be gone.
func readPhoto(path string) ([]byte, *client.Refusal) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, refuse(codes.NotFound, err.Error())
	}
	if !info.Mode().IsRegular() {
		return nil, refuse(codes.NotFound, path+" is not a regular file")
	}
	if info.Size() > maxPhotoBytes {
		return nil, refuse(codes.InvalidArgument,
			fmt.Sprintf("%s has %d bytes and a message holds at most %d", path, info.Size(), maxPhotoBytes))
	}
	photo, err := os.ReadFile(path)
	if err != nil {
		return nil, refuse(codes.NotFound, err.Error())
	}
	return photo, nil
}

// refuse makes a refusal that no server sent.
func refuse(code codes.Code, message string) *client.Refusal {
	return client.FromError(status.Error(code, message), nil)
}
