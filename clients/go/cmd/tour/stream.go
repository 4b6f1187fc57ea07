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

// At most this many images are in flight: sent, without a response yet.
const window = 32

// A message also contains the image's id and a few bytes of its own.
const maxImageBytes = client.MaxMessageBytes - 1024

type imageStream = grpc.BidiStreamingClient[lookalikev1.EmbedStreamRequest, lookalikev1.EmbedStreamResponse]

// embedStream embeds every file of the folder. One goroutine sends while this one receives: a server that responds early,
// or stops reading for a while, must not block both.
func (t *tour) embedStream(ctx context.Context, conn *grpc.ClientConn) ([]item, error) {
	ctx, cancel := context.WithTimeout(ctx, t.streamDeadline)
	defer cancel()
	stream, err := lookalikev1.NewEmbeddingServiceClient(conn).EmbedStream(ctx)
	if err != nil {
		return nil, client.FromError(err, nil)
	}

	inFlight := make(chan struct{}, window)
	unreadable := make(chan []item, 1)
	go func() { unreadable <- t.sendImages(ctx, stream, inFlight) }()

	items := []item{}
	for {
		response, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, client.FromError(err, stream.Trailer())
		}
		select {
		case <-inFlight:
		default:
			return nil, newError(codes.Internal, "the server sent more responses than it received images")
		}
		items = append(items, describeItem(response))
	}
	cancel() // unblocks the sender where the server ended the stream early
	items = append(items, <-unreadable...)
	if len(items) != len(t.files) {
		return nil, newError(codes.Internal,
			fmt.Sprintf("the server ended the stream after %d of %d images", len(items), len(t.files)))
	}
	slices.SortFunc(items, func(a, b item) int { return strings.Compare(a.ID, b.ID) })
	return items, nil
}

// sendImages reads and sends one file after the other and blocks while the window is full; Send itself blocks while the
// server does not read. It returns an item for each file that could not be read. If the stream breaks, Recv returns the
// error.
func (t *tour) sendImages(ctx context.Context, stream imageStream, inFlight chan struct{}) []item {
	var unreadable []item
	for _, name := range t.files {
		select {
		case inFlight <- struct{}{}:
		case <-ctx.Done():
			return unreadable
		}
		id := strings.ToValidUTF8(name, "\uFFFD")
		image, callError := readImage(filepath.Join(t.folder, name))
		if callError != nil {
			unreadable = append(unreadable, item{ID: id, Error: callError})
			<-inFlight
			continue
		}
		if err := stream.Send(&lookalikev1.EmbedStreamRequest{Id: id, Image: encoded(image)}); err != nil {
			return unreadable
		}
	}
	// ends the stream for the server; Recv returns its error as well
	_ = stream.CloseSend()
	return unreadable
}

// readImage reads a file just before it is sent; by then it may be gone.
func readImage(path string) ([]byte, *client.CallError) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, newError(codes.NotFound, err.Error())
	}
	if !info.Mode().IsRegular() {
		return nil, newError(codes.NotFound, path+" is not a regular file")
	}
	if info.Size() > maxImageBytes {
		return nil, newError(codes.InvalidArgument,
			fmt.Sprintf("%s has %d bytes; the maximum for a message is %d", path, info.Size(), maxImageBytes))
	}
	image, err := os.ReadFile(path)
	if err != nil {
		return nil, newError(codes.NotFound, err.Error())
	}
	return image, nil
}

// newError returns an error that did not come from a server.
func newError(code codes.Code, message string) *client.CallError {
	return client.FromError(status.Error(code, message), nil)
}
